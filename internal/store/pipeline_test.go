package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A statement may fail after its closure has returned; the closure gets the error all the
// same, and those that share its transaction do not.
func TestALateFailureIsChargedToItsOwnClosure(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		hold := make(chan struct{})
		w.s.Submit(func(*Tx) error { <-hold; return nil }, func(error) {})
		results := make([]chan error, 9)
		for i := range results {
			results[i] = make(chan error, 1)
			event := id.NewEvent(at())
			if i == 4 {
				event = w.execution.Event // which is there
			}
			w.s.Submit(func(tx *Tx) error {
				c := tx.Customer(w.owner)
				if err := c.InsertEvent(event, 1, []byte("event")); err != nil {
					return err
				}
				if i == 6 { // what is read here makes the others' failures known
					_, err := c.Execution(w.execution.ID)
					return err
				}
				return nil
			}, func(err error) { results[i] <- err })
		}
		close(hold)
		for i, result := range results {
			if err := <-result; (err != nil) != (i == 4) {
				t.Errorf("write %d: %v", i, err)
			}
		}
	})
}

func TestAClosureThatIgnoresAFailureFails(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		err := s.Write(t.Context(), func(tx *Tx) error {
			if err := insertOrg(id.NewOrg(at()), "o")(tx); err != nil {
				return err
			}
			_, _ = tx.exec(`INSERT INTO organization (organization_id, name, created) VALUES ($1, $2, $3)`, []byte("x"), nil, int64(1))
			return nil
		})
		if err == nil || countOrgs(t, s) != 0 {
			t.Errorf("%d rows were written, %v", countOrgs(t, s), err)
		}
	})
}

// cut is a connection to the server that ends at a chosen moment.
type cut struct {
	net.Conn
	at *atomic.Int32
}

// When the next message of the client is the one that a cut waits for.
const (
	cutNever   = iota
	cutBefore  // it does not arrive
	cutAfter   // it arrives, and its answer is lost
	cutsLength = 1 << 16
)

func (c cut) Write(b []byte) (int, error) {
	switch c.at.Swap(cutNever) {
	case cutBefore:
		_ = c.Close()
		return 0, io.ErrClosedPipe
	case cutAfter:
		if _, err := c.Conn.Write(b); err != nil {
			return 0, err
		}
		_, _ = c.Conn.Read(make([]byte, cutsLength)) // the answer: it was done
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(b)
}

// A commit happens once, whatever becomes of the connection.
func TestALostConnectionLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		when int32
		runs int
	}{"before the commit": {cutBefore, 2}, "after the commit": {cutAfter, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := postgresConfig(Options{URL: postgres.Database(t)})
			if err != nil {
				t.Fatal(err)
			}
			when := &atomic.Int32{}
			dial := cfg.DialFunc
			cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				return cut{c, when}, err
			}
			s, err := connectPostgres(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Write(t.Context(), insertOrg(id.NewOrg(at()), "o")); err != nil { // every statement is prepared
				t.Fatal(err)
			}
			runs := 0
			err = s.Write(t.Context(), func(tx *Tx) error {
				org := id.NewOrg(at())
				if err := insertOrg(org, "o")(tx); err != nil {
					return err
				}
				if _, err := tx.exec(`UPDATE organization SET name = 'p' WHERE organization_id = $1`, org[:]); err != nil {
					return err
				}
				if runs++; runs == 1 {
					when.Store(test.when)
				}
				return nil
			})
			if err != nil || runs != test.runs {
				t.Errorf("%d runs, %v, want %d", runs, err, test.runs)
			}
			if n := countOrgs(t, s); n != 2 {
				t.Errorf("%d rows, want 2", n)
			}
		})
	}
}

func TestAServerThatEndsConnectionsIsReachedAgain(t *testing.T) {
	t.Parallel()
	s := open(t, Options{URL: postgres.Database(t)})
	for i := range 5 {
		if err := s.Write(t.Context(), insertOrg(id.NewOrg(at()), "o")); err != nil {
			t.Fatal(err)
		}
		if n := countOrgs(t, s); n != i+1 {
			t.Errorf("%d rows, want %d", n, i+1)
		}
		_, _ = s.readDB.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()`)
	}
}

// Of two servers whose writes wait for each other, one begins again.
func TestADeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	o := Options{URL: postgres.Database(t)}
	servers := [2]*Store{open(t, o), open(t, o)}
	orgs := [2]id.Org{id.NewOrg(at()), id.NewOrg(at())}
	for _, org := range orgs {
		if err := servers[0].Write(t.Context(), insertOrg(org, "")); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(tx *Tx, org id.Org) error {
		_, err := tx.exec(`UPDATE organization SET name = name || 'x' WHERE organization_id = $1`, org[:])
		return err
	}
	var all, locked sync.WaitGroup
	locked.Add(2)
	var runs atomic.Int32
	for i, s := range servers {
		all.Go(func() {
			first := sync.OnceFunc(func() { locked.Done(); locked.Wait() })
			err := s.Write(context.Background(), func(tx *Tx) error {
				runs.Add(1)
				if err := rename(tx, orgs[i]); err != nil {
					return err
				}
				first()
				return rename(tx, orgs[1-i])
			})
			if err != nil {
				t.Errorf("server %d: %v", i, err)
			}
		})
	}
	all.Wait()
	var n int
	if err := servers[0].readDB.QueryRow(`SELECT COUNT(*) FROM organization WHERE name = 'xx'`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows have both changes, %v", n, err)
	}
	if runs.Load() < 3 {
		t.Errorf("%d runs: there was no deadlock", runs.Load())
	}
}

// A version of a value is made by one server only.
func TestServersDoNotOverwriteEachOthersState(t *testing.T) {
	t.Parallel()
	o := Options{URL: postgres.Database(t)}
	w := newWorld(t, o)
	name := [32]byte{4}
	const each = 50
	var all sync.WaitGroup
	for _, s := range []*Store{w.s, open(t, o)} {
		all.Go(func() {
			for done, seen := 0, uint64(0); done < each; {
				var changed bool
				err := s.Write(context.Background(), func(tx *Tx) error {
					v, ok, err := tx.Customer(w.owner).ChangeState(w.instance, &wire.State{Op: wire.StatePut, Name: name, Version: seen, Value: []byte("v")}, at())
					seen, changed = v.Version, ok
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				if changed {
					done++
				}
			}
		})
	}
	all.Wait()
	v, err := w.s.Customer(t.Context(), w.owner).State(w.instance, name)
	if err != nil || v.Version != 2*each {
		t.Errorf("version %d, %v, want %d", v.Version, err, 2*each)
	}
}

func TestARemoteServerIsVerified(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for url, verified := range map[string]bool{
		"postgres://u:p@db.example/x":                   true,
		"postgres://u:p@db.example/x?sslmode=disable":   false,
		"postgresql://u:p@192.0.2.1/x":                  true,
		"postgres://u:p@localhost/x?sslmode=disable":    false,
		"postgres://u@/x?host=/run/postgresql":          false,
		"postgres://u:p@127.0.0.1:5433/x?sslmode=allow": false,
	} {
		cfg, err := postgresConfig(Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		got := cfg.TLSConfig != nil && !cfg.TLSConfig.InsecureSkipVerify && cfg.TLSConfig.ServerName != "" && len(cfg.Fallbacks) == 0
		if got != verified {
			t.Errorf("%s: verified = %v, want %v", url, got, verified)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{}, {Dir: "x", URL: "postgres://x"}, {URL: "host=x password=canary"}, {URL: "mysql://x:canary@y/z"}, {URL: "postgres://x:canary@y:99999/z"},
	} {
		s, err := Open(t.Context(), o)
		if err == nil {
			t.Errorf("%+v was opened", o)
			_ = s.Close()
			continue
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if _, err := Open(t.Context(), Options{URL: postgres.Database(t) + "&connect_timeout=1&dbname=none"}); err == nil {
		t.Error("a database that does not exist was opened")
	} else if errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
