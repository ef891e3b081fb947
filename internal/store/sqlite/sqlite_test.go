package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// open makes a database with one table.
func open(t *testing.T) *Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.Exec(`CREATE TABLE x (id BIGINT NOT NULL PRIMARY KEY, t TEXT, b BYTEA, o BOOLEAN, f DOUBLE PRECISION)`); err != nil {
		t.Fatal(err)
	}
	return c
}

type word string

// kept is a Scanner.
type kept struct{ got any }

func (k *kept) Scan(src any) error { k.got = src; return nil }

var _ sql.Scanner = (*kept)(nil)

// query reads rows.
func query(t *testing.T, c *Conn, text string, args []any, each func(Row) error) error {
	t.Helper()
	s, err := c.Prepare(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Query(args, each)
}

// TestRoundTrip gives values of every kind and gets them back, by type and by Scanner.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c := open(t)
	big := strings.Repeat("ü", 100_000)
	for i, v := range []struct {
		text, bytes any
		number      int64
		flag        bool
	}{
		{"", []byte{}, 0, false},
		{"a\x00b", []byte{0, 1, 2}, -1, true},
		{big, []byte(big), math.MaxInt64, true},
		{nil, nil, math.MinInt64, false},
		{word("named"), []byte("x"), 7, true},
	} {
		n, err := c.Exec(`INSERT INTO x (id, t, b, o, f) VALUES ($1, $2, $3, $4, $5)`, int64(i), v.text, v.bytes, v.flag, 1.5)
		if err != nil || n != 1 {
			t.Fatalf("%d: %d, %v", i, n, err)
		}
		if _, err := c.Exec(`UPDATE x SET id = $1 WHERE id = $2`, v.number, i); err != nil {
			t.Fatal(err)
		}
		var text string
		var named word
		var body []byte
		var flag bool
		var number int64
		var any1, any2, any3 kept
		err = query(t, c, `SELECT t, t, b, o, id, t, b, f FROM x WHERE id = $1`, []any{v.number}, func(r Row) error {
			return r.Scan(&text, &named, &body, &flag, &number, &any1, &any2, &any3)
		})
		if err != nil {
			t.Fatal(err)
		}
		wantText := ""
		if v.text != nil {
			wantText = fmt.Sprint(v.text)
		}
		wantBytes, _ := v.bytes.([]byte)
		if text != wantText || string(named) != wantText || !bytes.Equal(body, wantBytes) || (body == nil) != (v.bytes == nil) || flag != v.flag || number != v.number {
			t.Errorf("%d: got %.20q %.20q %.20x %v %d", i, text, named, body, flag, number)
		}
		if (any1.got == nil) != (v.text == nil) || any3.got != 1.5 || !cmp.Equal(any2.got, v.bytes) {
			t.Errorf("%d: scanned %.20v %.20v %v", i, any1.got, any2.got, any3.got)
		}
		if _, err := c.Exec(`DELETE FROM x`); err != nil {
			t.Fatal(err)
		}
	}
}

// TestArgumentsByNumber gives arguments by their numbers, in whatever order they appear.
func TestArgumentsByNumber(t *testing.T) {
	t.Parallel()
	c := open(t)
	var a, b, again string
	err := query(t, c, `SELECT $2, $1, $2`, []any{"one", "two"}, func(r Row) error { return r.Scan(&a, &b, &again) })
	if err != nil || a != "two" || b != "one" || again != "two" {
		t.Errorf("got %q %q %q, %v", a, b, again, err)
	}
	for _, text := range []string{`SELECT ?`, `SELECT :a`, `SELECT $x`, `SELECT $0`} {
		if _, err := c.Prepare(text); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

// TestErrors tells what is wrong and goes on.
func TestErrors(t *testing.T) {
	t.Parallel()
	c := open(t)
	insert := `INSERT INTO x (id, t) VALUES ($1, $2)`
	if _, err := c.Exec(insert, int64(1), "a"); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := c.Exec(insert, int64(1), "b"); !errors.As(err, &e) || e.Code&0xff != 19 || !strings.Contains(e.Message, "UNIQUE") {
		t.Errorf("a second row: %v", err)
	}
	if _, err := c.Exec(`SELECT nothing`); !errors.As(err, &e) {
		t.Errorf("an unknown column: %v", err)
	}
	if _, err := c.Exec(``); err == nil {
		t.Error("an empty statement was taken")
	}
	if _, err := c.Exec(insert, int64(2)); err == nil {
		t.Error("a missing argument was taken")
	}
	if _, err := c.Exec(insert, int64(2), struct{}{}); err == nil {
		t.Error("a struct was taken")
	}
	if _, err := c.Exec(insert, int64(2), time.Now()); !errors.Is(err, ErrType) {
		t.Errorf("a time: %v", err)
	}
	stop := errors.New("stop")
	if err := query(t, c, `SELECT id FROM x`, nil, func(Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a reader that stops: %v", err)
	}
	var a, b int64
	if err := query(t, c, `SELECT id FROM x`, nil, func(r Row) error { return r.Scan(&a, &b) }); err == nil {
		t.Error("too many destinations were taken")
	}
	var small uint32
	if err := query(t, c, `SELECT -1`, nil, func(r Row) error { return r.Scan(&small) }); err == nil {
		t.Error("a negative number fitted")
	}
	if n, err := c.Exec(insert, int64(3), "c"); err != nil || n != 1 {
		t.Errorf("afterwards: %d, %v", n, err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing", "x"), time.Second); err == nil {
		t.Error("a missing directory was opened")
	}
}

// TestArgumentsSurviveCollection binds values that nothing else holds, while stacks grow and
// the collector runs.
func TestArgumentsSurviveCollection(t *testing.T) {
	t.Parallel()
	c := open(t)
	s, err := c.Prepare(`INSERT INTO x (id, t, b) VALUES ($1, $2, $3)`)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(500) {
			id := [16]byte{byte(i), byte(i >> 8)}
			if _, err := s.Exec([]any{i, strings.Repeat("a", int(i)), id[:]}); err != nil {
				t.Error(err)
			}
			if i%50 == 0 {
				runtime.GC()
			}
		}
	}()
	<-done
	n := int64(0)
	err = query(t, c, `SELECT id, t, b FROM x ORDER BY id`, nil, func(r Row) error {
		var i int64
		var text string
		var id []byte
		err := r.Scan(&i, &text, &id)
		if i != n || len(text) != int(i) || len(id) != 16 || id[0] != byte(i) || id[1] != byte(i>>8) {
			t.Errorf("row %d: %d %q %x", n, i, text, id)
		}
		n++
		return err
	})
	if err != nil || n != 500 {
		t.Errorf("%d rows, %v", n, err)
	}
}
