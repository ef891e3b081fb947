package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// postgres is the server of this package's tests; durable that of its benchmarks.
var (
	postgres = testkit.Postgres{}
	durable  = testkit.Postgres{Commits: testkit.Synced}
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := errors.Join(postgres.Stop(), durable.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// both runs a test on an empty database of each engine.
func both(t *testing.T, test func(t *testing.T, o Options)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, Options{Dir: t.TempDir()})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Options{URL: postgres.Database(t)})
	})
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func at() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }

// insertOrg is a write that anything can be checked with.
func insertOrg(o id.Org, name string) func(*Tx) error {
	return func(tx *Tx) error { return tx.System().PutOrganization(&Organization{ID: o, Name: name}, at()) }
}

func countOrgs(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.readDB.QueryRow(`SELECT COUNT(*) FROM organization`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWritesAreGroupedAndKeepTheirOrder(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		const n = 2000
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		all.Add(n)
		for i := range n {
			s.Submit(insertOrg(id.NewOrg(at()), "o"), func(err error) {
				defer all.Done()
				if err != nil {
					t.Errorf("write %d: %v", i, err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
		}
		all.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("done %d was called as number %d", got, i)
			}
		}
		if got := countOrgs(t, s); got != n {
			t.Errorf("%d rows, want %d", got, n)
		}
	})
}

// A closure that fails after it wrote leaves nothing behind, and those that share its
// transaction are committed.
func TestAFailingWriteIsTakenOut(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		wrong := errors.New("wrong")
		hold := make(chan struct{})
		s.Submit(func(*Tx) error { <-hold; return nil }, func(error) {})
		results := make(chan error, 100)
		for i := range 100 {
			s.Submit(func(tx *Tx) error {
				if err := insertOrg(id.NewOrg(at()), "o")(tx); err != nil {
					return err
				}
				if i%10 == 3 {
					return wrong
				}
				return nil
			}, func(err error) { results <- err })
		}
		close(hold)
		failed := 0
		for range 100 {
			switch err := <-results; {
			case errors.Is(err, wrong):
				failed++
			case err != nil:
				t.Error(err)
			}
		}
		if failed != 10 {
			t.Errorf("%d failed, want 10", failed)
		}
		if got := countOrgs(t, s); got != 90 {
			t.Errorf("%d rows, want 90", got)
		}
	})
}

// A refusal before anything was written does not make the others run again.
func TestARefusalCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		hold := make(chan struct{})
		s.Submit(func(*Tx) error { <-hold; return nil }, func(error) {})
		runs := 0
		first := make(chan error, 1)
		s.Submit(func(tx *Tx) error { runs++; return insertOrg(id.NewOrg(at()), "o")(tx) }, func(err error) { first <- err })
		second := make(chan error, 1)
		s.Submit(func(*Tx) error { return ErrNotFound }, func(err error) { second <- err })
		close(hold)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := <-second; !errors.Is(err, ErrNotFound) {
			t.Errorf("refused write: %v", err)
		}
		if runs != 1 {
			t.Errorf("the other ran %d times, want once", runs)
		}
	})
}

func TestABrokenStatementIsRolledBack(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		err := s.Write(context.Background(), func(tx *Tx) error {
			if err := insertOrg(id.NewOrg(at()), "o")(tx); err != nil {
				return err
			}
			_, err := tx.exec(`INSERT INTO organization (organization_id, name, created) VALUES ($1, $2, $3)`, []byte("x"), nil, 1)
			return err
		})
		if err == nil {
			t.Error("a row without a name was written")
		}
		if err := s.Write(context.Background(), insertOrg(id.NewOrg(at()), "o")); err != nil {
			t.Errorf("write after a broken one: %v", err)
		}
		if got := countOrgs(t, s); got != 1 {
			t.Errorf("%d rows, want 1", got)
		}
	})
}

func TestCloseCommitsWhatIsQueued(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		for range 500 {
			s.Submit(insertOrg(id.NewOrg(at()), "o"), func(err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(context.Background(), insertOrg(id.NewOrg(at()), "o")); !errors.Is(err, ErrClosed) {
			t.Errorf("write after close: %v, want ErrClosed", err)
		}
		if got := countOrgs(t, open(t, o)); got != 500 {
			t.Errorf("%d rows after reopening, want 500", got)
		}
	})
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		hold := make(chan struct{})
		defer close(hold)
		s.Submit(func(*Tx) error { <-hold; return nil }, func(error) {})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Write(ctx, insertOrg(id.NewOrg(at()), "o")); !errors.Is(err, context.Canceled) {
			t.Errorf("write with an ended context: %v", err)
		}
	})
}
