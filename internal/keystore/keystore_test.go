package keystore

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

var testNow = time.UnixMicro(1_800_000_000_000_000).UTC()

func testSigner(key string) Signer {
	return func(state []byte) []byte {
		h := hmac.New(sha256.New, []byte(key))
		_, _ = h.Write(state)
		return h.Sum(nil)
	}
}

func testOpen(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), Config{Dir: dir, Temporary: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func testUnlocked(tb testing.TB, dir string) *Store {
	tb.Helper()
	s := testOpen(tb, dir)
	if err := s.Unlock(tb.Context(), testSigner("k")); err != nil {
		tb.Fatal(err)
	}
	return s
}

func testLeaf() *Leaf { return &Leaf{Time: testNow, Kind: 1, Body: []byte("body")} }

func TestRowsRoundTrip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/k"
	s := testUnlocked(t, dir)
	c, i, n, node := id.NewCustomer(testNow), id.NewInstance(testNow), id.NewConnection(testNow), id.NewNode(testNow)
	sealed := func(b string) Sealed { return Sealed{Customer: c, KeyVersion: 3, Data: []byte(b)} }
	credential := sealed("credential")
	credential.Version = 7
	if err := s.Write(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.PutRoot([]byte("root")), tx.PutSeed("a", []byte("seed")), tx.PutCustomerKey(c, 1, []byte("key")), tx.PutPayload(5, sealed("pair")),
			tx.PutInstance(i, sealed("instance")), tx.PutConnection(n, credential), tx.PutIdentity(Identity{node, []byte("certificate")}),
			tx.SetVersion(KindConnection, n, Version{Number: 7}), tx.Append(testLeaf()))
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = testUnlocked(t, dir)
	root, err1 := s.Root(t.Context())
	seed, err2 := s.Seed(t.Context(), "a")
	key, err3 := s.CustomerKey(t.Context(), c, 1)
	pair, err4 := s.Payload(t.Context(), c, 5)
	instance, err5 := s.Instance(t.Context(), i)
	connection, err6 := s.Connection(t.Context(), n)
	identities, err7 := s.Identities(t.Context())
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	for _, x := range [][2]string{
		{string(root), "root"},
		{string(seed), "seed"},
		{string(key), "key"},
		{string(pair.Data), "pair"},
		{string(instance.Data), "instance"},
		{string(connection.Data), "credential"},
		{string(identities[0].Certificate), "certificate"},
	} {
		if x[0] != x[1] {
			t.Errorf("got %q, want %q", x[0], x[1])
		}
	}
	if connection.Customer != c || connection.Version != 7 || connection.KeyVersion != 3 || s.Version(KindConnection, n).Number != 7 {
		t.Errorf("connection %+v, ledger %+v", connection, s.Version(KindConnection, n))
	}
	if _, err := s.Connection(t.Context(), id.NewConnection(testNow)); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown connection: %v, want ErrNotFound", err)
	}
}

func TestClosuresShareACommitAndFailAlone(t *testing.T) {
	t.Parallel()
	s := testUnlocked(t, t.TempDir()+"/k")
	bad := errors.New("bad")
	var wait sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	const writers, each = 32, 20
	for w := range writers {
		wait.Go(func() {
			for k := range each {
				subject := Subject{byte(w), byte(k)}
				err := s.Write(context.Background(), func(tx *Tx) error {
					if err := errors.Join(tx.Append(testLeaf()), tx.SetVersion(KindConnection, subject, Version{Number: 1})); err != nil {
						return err
					}
					if k%5 == 0 {
						return bad
					}
					return nil
				})
				mu.Lock()
				if errors.Is(err, bad) {
					failed++
				} else if err != nil {
					t.Error(err)
				}
				mu.Unlock()
				if got := s.Version(KindConnection, subject).Number == 1; got != (err == nil) {
					t.Errorf("writer %d: error %v, in the ledger %v", w, err, got)
				}
			}
		})
	}
	wait.Wait()
	want := uint64(writers * (each - each/5))
	n, err := s.VerifyLog(t.Context())
	if err != nil || n != want || failed != writers*each/5 {
		t.Errorf("%d leaves, %d failed, %v, want %d and %d", n, failed, err, want, writers*each/5)
	}
}

func TestWriteStopsWithItsContextAndAfterClose(t *testing.T) {
	t.Parallel()
	s := testUnlocked(t, t.TempDir()+"/k")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, func(*Tx) error { t.Error("a closure ran for a caller that had gone"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want Canceled", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestWriteBeforeUnlockIsRefused(t *testing.T) {
	t.Parallel()
	s := testOpen(t, t.TempDir()+"/k")
	if err := s.Write(t.Context(), func(*Tx) error { return nil }); err == nil {
		t.Error("a locked store was written")
	}
}

func TestAnotherSignerIsDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/k"
	s := testUnlocked(t, dir)
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Append(testLeaf()) }); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s = testOpen(t, dir)
	if err := s.Unlock(t.Context(), testSigner("other")); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v, want ErrDamaged", err)
	}
	if err := s.Unlock(t.Context(), testSigner("k")); err != nil {
		t.Errorf("the right signer after it: %v", err)
	}
}

func TestWriteAloneExchangesTheSigner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/k"
	s := testUnlocked(t, dir)
	done := false
	if err := s.WriteAlone(t.Context(), func(tx *Tx) error {
		if done {
			t.Error("after ran before the commit")
		}
		return tx.Rewrap(testSigner("next"), nil, nil)
	}, func() { done = true }); err != nil || !done {
		t.Fatalf("%v, after ran: %v", err, done)
	}
	_ = s.Close()
	s = testOpen(t, dir)
	if err := s.Unlock(t.Context(), testSigner("k")); !errors.Is(err, ErrDamaged) {
		t.Errorf("the old signer: %v, want ErrDamaged", err)
	}
	if err := s.Unlock(t.Context(), testSigner("next")); err != nil {
		t.Error(err)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "keys")
	s := testUnlocked(t, dir)
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Append(testLeaf()) }); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != dirMode {
		t.Errorf("directory %v, %v", st.Mode(), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v, want the file, its two companions and the lock", files, err)
	}
	for _, f := range files {
		if i, err := f.Info(); err != nil || i.Mode().Perm() != fileMode {
			t.Errorf("%s has mode %v, %v, want 0600", f.Name(), i.Mode(), err)
		}
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v, want ErrInUse", err)
	}
	// A process that is being started has what is open here for a moment: that does not keep the keystore locked.
	inherited, err := unix.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(inherited) })
	_ = s.Close()
	if again, err := Open(t.Context(), Config{Dir: dir}); err != nil {
		t.Errorf("opened again while a process is being started: %v", err)
	} else {
		_ = again.Close()
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("a directory that others may enter was opened")
	}
}

func TestSchemaOfANewerRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/k"
	s := testUnlocked(t, dir)
	if _, err := s.conn.ExecContext(t.Context(), "PRAGMA user_version = 999"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("a keystore of a newer release was opened")
	}
}

// TestMigrationsAgreeWithTheDump runs the list over a store made in one step: there
// must be nothing left to do.
func TestMigrationsAgreeWithTheDump(t *testing.T) {
	t.Parallel()
	s := testOpen(t, t.TempDir()+"/k")
	if err := s.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := upgrade(t.Context(), s.write); err != nil {
		t.Error(err)
	}
}

func TestLedgerDigestIsOfItsContent(t *testing.T) {
	t.Parallel()
	changes := func(n uint64) map[entry]Version {
		all := map[entry]Version{}
		for i := range 600 {
			all[entry{KindConnection, Subject{1: byte(i >> 8), 15: byte(i)}}] = Version{Number: n}
		}
		return all
	}
	var one, other ledger
	digest, changed := one.with(changes(1))
	one.apply(changes(1), changed)
	_, changed = other.with(changes(9))
	other.apply(changes(9), changed)
	again, changed := other.with(changes(1))
	other.apply(changes(1), changed)
	if digest != again {
		t.Error("the same content by another way has another digest")
	}
	seen := map[[32]byte]bool{digest: true}
	e := entry{KindConnection, Subject{15: 7}}
	for _, v := range []Version{{Number: 2}, {Number: 1, Gone: true}, {}} {
		d, _ := one.with(map[entry]Version{e: v})
		if seen[d] {
			t.Errorf("version %+v does not change the digest", v)
		}
		seen[d] = true
	}
	if d, _ := one.with(map[entry]Version{{KindInstance, e.Subject}: {Number: 1}}); seen[d] {
		t.Error("another kind does not change the digest")
	}
}

// FuzzOpenFile opens files of any content. None may panic, hang or be taken for a
// keystore that holds something.
func FuzzOpenFile(f *testing.F) {
	dir := f.TempDir() + "/k"
	s := testUnlocked(f, dir)
	if err := s.Write(f.Context(), func(tx *Tx) error {
		return errors.Join(tx.PutRoot([]byte("root")), tx.SetVersion(KindNode, Subject{1}, Version{Number: 1}), tx.Append(testLeaf()), tx.Append(testLeaf()))
	}); err != nil {
		f.Fatal(err)
	}
	_ = s.Close()
	good, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 0, byte(0))
	f.Add(good[:4096], 100, byte(1))
	f.Add([]byte("SQLite format 3\x00"), 0, byte(0))
	f.Fuzz(func(t *testing.T, content []byte, at int, flip byte) {
		dir := t.TempDir() + "/k"
		content = bytes.Clone(content)
		if at >= 0 && at < len(content) {
			content[at] ^= flip
		}
		if err := errors.Join(os.Mkdir(dir, dirMode), os.WriteFile(filepath.Join(dir, fileName), content, fileMode)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Config{Dir: dir, Temporary: true})
		if err != nil {
			return
		}
		defer func() { _ = s.Close() }()
		if err := s.Unlock(t.Context(), testSigner("k")); err != nil {
			return
		}
		if seq, _ := s.Head(); seq != 0 && seq != 2 {
			t.Errorf("a changed file has a log of %d leaves", seq)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name      string
		temporary bool
		parallel  int
	}{{"durable alone", false, 1}, {"durable by 32", false, 32}, {"temporary by 32", true, 32}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := Open(b.Context(), Config{Dir: b.TempDir() + "/k", Temporary: c.temporary})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := s.Unlock(b.Context(), testSigner("k")); err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(c.parallel)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := s.Write(context.Background(), func(tx *Tx) error { return tx.Append(testLeaf()) }); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
