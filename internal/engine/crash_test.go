package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// kill ends the server as kill -9 does: it goes on with what was on disk at that moment.
// The write-ahead log is copied after the database: nothing is written back in between.
// The server runs on until that is done: nothing that it says from then on arrives, because
// what it rests on may not be in the copy.
func (b *bench) kill() {
	b.t.Helper()
	if b.db.URL != "" {
		b.cutOff()
		return
	}
	dir := b.t.TempDir()
	files, err := filepath.Glob(filepath.Join(b.dir, "bulkhead.db*"))
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Sort(files) // db, db-shm, db-wal
	lost := b.link.lose(func(wire.Typed) bool { return true })
	for _, f := range files {
		if strings.HasSuffix(f, "-shm") {
			continue // memory that processes share; a crash of all of them loses it
		}
		copyFile(b.t, f, filepath.Join(dir, filepath.Base(f)))
	}
	b.stop()
	b.link.lose(lost)
	b.dir = dir
	b.start()
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// robot is a worker that runs one program: it calls a child and waits for it, waits for a
// callback, rests until a timer fires, then finishes. All that it knows between two steps
// is the journal and the wakes.
type robot struct {
	*fakeRunner
	n       tenant
	effects map[string]int // how often each step was begun
	tokens  map[string]string
}

var program = []string{"begin", "sub", "ask", "rest", "end"}

func has(u wire.UnitExecution, path string) bool {
	return slices.ContainsFunc(u.Journal, func(e wire.Entry) bool { return e.Path == path })
}

func woke(u wire.UnitExecution, path string) bool {
	return slices.ContainsFunc(u.Wakes, func(e wire.Entry) bool { return e.Path == path })
}

// step makes the next append of an execution.
func (r *robot) step(u wire.UnitExecution) *wire.Append {
	m := &wire.Append{Execution: u.Execution, Fence: u.Fence}
	result := func(path string) { m.Entries = []wire.Entry{{Kind: wire.EntryResult, Path: path, Body: []byte(path)}} }
	wait := func(path string) {
		if has(u, path+" began") {
			m.Finish = &wire.Finish{Status: wire.StatusWaiting, Wakes: uint32(len(u.Wakes))}
			return
		}
		m.Entries = []wire.Entry{{Kind: wire.EntryIntent, Path: path + " began"}}
	}
	for _, path := range program {
		if has(u, path) {
			continue
		}
		r.effects[fmt.Sprint(u.Execution, path)]++
		switch {
		case u.Flow == "child" || path == "end":
			result("end")
			m.Finish = &wire.Finish{Status: wire.StatusCompleted, Output: []byte("done")}
		case path == "begin" || woke(u, path):
			result(path)
		default:
			wait(path)
			if m.Finish != nil {
				return m
			}
			r.register(m, path)
		}
		return m
	}
	return m
}

func (r *robot) register(m *wire.Append, path string) {
	switch path {
	case "sub":
		m.Children = []wire.Child{{Execution: id.NewExecution(time.Now()), Flow: "child", Event: []byte("e"), Path: path, Await: true}}
	case "ask":
		token := fmt.Sprint("token of ", m.Execution)
		r.tokens[m.Execution.String()] = token
		m.Waits = []wire.Wait{{Path: path, Kind: wire.WaitCallback, Key: sha256.Sum256([]byte(token)), At: time.Now().Add(time.Hour)}}
	case "rest":
		m.Waits = []wire.Wait{{Path: path, Kind: wire.WaitTimer, At: time.Now()}}
	}
}

// live runs everything that is dispatched until nothing is left, and kills the server
// after the given number of actions.
func (r *robot) live(killAfter int, left func() int) (actions int) {
	b := r.b
	held := map[id.Execution]wire.UnitExecution{}
	act := func() {
		actions++
		if actions == killAfter {
			b.kill()
			r.beat(held)
		}
	}
	for left() > 0 {
		select {
		case f := <-r.frames:
			switch f.Type {
			case wire.TypeDispatch:
				var d wire.Dispatch
				if err := f.Parse(&d); err != nil {
					b.t.Fatal(err)
				}
				for _, u := range d.Unit.Executions {
					held[u.Execution] = u
				}
				act()
			case wire.TypeAppended:
				r.appended(f, held)
			case wire.TypeWake:
				var w wire.Wake
				if err := f.Parse(&w); err != nil {
					b.t.Fatal(err)
				}
				if u, ok := held[w.Execution]; ok && u.Fence == w.Fence {
					u.Wakes = append(u.Wakes, w.Entry)
					held[w.Execution] = u
				}
				continue
			case wire.TypeCancel:
				var c wire.Cancel
				if err := f.Parse(&c); err != nil {
					b.t.Fatal(err)
				}
				if u, ok := held[c.Execution]; ok && u.Fence == c.Fence {
					delete(held, c.Execution)
				}
				continue
			default:
				b.t.Errorf("a %v frame came", f.Type)
			}
			for x, u := range held {
				m := r.step(u)
				r.send(m)
				act()
				u.Flow = "" // nothing more of it until the answer
				held[x] = u
				r.await(held, m)
				act()
			}
		case <-time.After(20 * time.Millisecond):
			r.answer()
			r.beat(held)
		}
	}
	return actions
}

// await waits for the answer to an append, which a crash may have lost.
func (r *robot) await(held map[id.Execution]wire.UnitExecution, m *wire.Append) {
	r.b.settle()
	u := held[m.Execution]
	row := r.b.row(r.n, m.Execution)
	delete(held, m.Execution)
	if row.Fence != m.Fence || row.Status != store.Running {
		return
	}
	// Whether it was committed is in the journal; the worker goes on from there.
	u.Flow = row.Flow
	u.Journal = r.b.journal(r.n, m.Execution)
	wakes, err := r.b.opt.Store.Customer(context.Background(), r.n.customer).Wakes(m.Execution)
	if err != nil {
		r.b.t.Fatal(err)
	}
	u.Wakes = wakes
	held[m.Execution] = u
	r.frames <- wire.Frame{Type: wire.TypeAppended, Body: wire.AppendBody(nil, &wire.Appended{Execution: m.Execution, Fence: m.Fence})}
}

func (r *robot) appended(f wire.Frame, held map[id.Execution]wire.UnitExecution) {
	var a wire.Appended
	if err := f.Parse(&a); err != nil {
		r.b.t.Fatal(err)
	}
	if u, ok := held[a.Execution]; ok && a.Stale && u.Fence == a.Fence {
		delete(held, a.Execution)
	}
}

// answer posts every callback that is not answered yet.
func (r *robot) answer() {
	for x, token := range r.tokens {
		if r.b.e.Wake(context.Background(), token, []byte(`1`)) == nil {
			delete(r.tokens, x)
		}
	}
}

func (r *robot) beat(held map[id.Execution]wire.UnitExecution) {
	m := &wire.Want{Free: 8}
	for x, u := range held {
		m.Held = append(m.Held, wire.Held{Execution: x, Fence: u.Fence})
	}
	r.send(m)
}

// A server that is killed after any action goes on from its database: everything that
// was accepted finishes, and each journal holds every result once, in order.
func TestKilledAnywhereNothingIsLost(t *testing.T) {
	t.Parallel()
	whole := runRobot(t, 0)
	if whole < 12 {
		t.Fatalf("the program has %d actions", whole)
	}
	every := 1
	if onPostgres() {
		every = 4 // each costs the server's processes a new connection
	}
	for k := 1; k <= whole; k += every {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			runRobot(t, k)
		})
	}
}

func runRobot(t *testing.T, killAfter int) int {
	t.Helper()
	b := newBench(t)
	n := b.tenant("c1")
	r := &robot{b.runner(), n, map[string]int{}, map[string]string{}}
	r.want(8)
	accepted := []id.Execution{b.accept(n, "main", `{}`), b.accept(n, "main", `{}`)}
	actions := r.live(killAfter, func() int {
		left := 0
		for _, x := range accepted {
			if !b.row(n, x).Status.Ended() {
				left++
			}
		}
		return left
	})
	for _, x := range accepted {
		var got []string
		for _, e := range b.journal(n, x) {
			if e.Kind == wire.EntryResult {
				got = append(got, e.Path)
			}
		}
		if diff := cmp.Diff(program, got); diff != "" {
			t.Errorf("killed after %d: journal differs:\n%s", killAfter, diff)
		}
		if row := b.row(n, x); row.Status != store.Completed || string(row.Output) != "done" {
			t.Errorf("killed after %d: %+v", killAfter, row)
		}
	}
	return actions
}

// The write-ahead log may end anywhere when the machine stops. Whatever it still holds is
// whole: an execution has its event, and as many entries and wakes as its row says.
func TestALogCutAnywhereIsWhole(t *testing.T) {
	t.Parallel()
	sqliteOnly(t, "it cuts SQLite's log")
	b := newBench(t)
	n := b.tenant("c1")
	r := &robot{b.runner(), n, map[string]int{}, map[string]string{}}
	r.want(8)
	var accepted []id.Execution
	for range 5 {
		accepted = append(accepted, b.accept(n, "main", `{}`))
	}
	r.live(0, func() int {
		left := 0
		for _, x := range accepted {
			if !b.row(n, x).Status.Ended() {
				left++
			}
		}
		return left
	})
	database, err := os.ReadFile(filepath.Join(b.dir, "bulkhead.db"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "bulkhead.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	executions := 0
	const cuts = 60
	for i := range cuts {
		executions += checkCut(t, n, database, log[:len(log)*(i+1)/cuts])
	}
	if executions < 5*cuts/4 {
		t.Errorf("only %d executions were seen in %d cuts", executions, cuts)
	}
}

// checkCut opens a database with the beginning of its log and checks every execution.
func checkCut(t *testing.T, n tenant, database, log []byte) (executions int) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"bulkhead.db": database, "bulkhead.db-wal": log} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		t.Fatalf("cut at %d: %v", len(log), err)
	}
	defer db.Close()
	c := db.Customer(ctx, n.customer)
	for shard := range uint8(store.Shards) {
		err := db.System(ctx).Expiring(shard, time.Now().AddDate(2, 0, 0), 1000, func(u *store.Unfinished) error {
			executions++
			x, err := c.Execution(u.Execution)
			if err != nil {
				return err
			}
			if _, err := c.Event(x.Event); err != nil {
				return fmt.Errorf("event of %v: %w", x.ID, err)
			}
			journal, err := c.Journal(x.ID)
			if err != nil || len(journal) != int(x.LastSeq) {
				return fmt.Errorf("%d entries, the row says %d: %w", len(journal), x.LastSeq, err)
			}
			wakes, err := c.Wakes(x.ID)
			if err != nil || len(wakes) != int(x.Wakes) {
				return fmt.Errorf("%d wakes, the row says %d: %w", len(wakes), x.Wakes, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("cut at %d: %v", len(log), err)
		}
	}
	return executions
}
