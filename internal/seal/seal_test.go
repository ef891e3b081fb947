package seal

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

var testNow = time.Unix(1_800_000_000, 0)

// flips calls try with every single-bit corruption of each byte of b, and with truncations.
func flips(t *testing.T, what string, b []byte, try func([]byte) error) {
	t.Helper()
	opened := 0
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		if try(c) == nil {
			opened++
		}
	}
	for n := range b {
		if try(b[:n]) == nil {
			opened++
		}
	}
	t.Logf("%s: %d corruptions tried, %d opened", what, 2*len(b), opened)
	if opened != 0 {
		t.Errorf("%s: %d corrupted values opened", what, opened)
	}
}

func TestSealOpens(t *testing.T) {
	t.Parallel()
	k, _ := GenerateKey()
	other, _ := GenerateKey()
	ad := Tuple(nil, []byte("a"), []byte("b"))
	sealed, err := Seal(k.Public(), "test", ad, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open("test", ad, sealed); err != nil || string(got) != "hello" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	for name, try := range map[string]func() ([]byte, error){
		"wrong key":     func() ([]byte, error) { return other.Open("test", ad, sealed) },
		"wrong purpose": func() ([]byte, error) { return k.Open("tesT", ad, sealed) },
		"wrong place":   func() ([]byte, error) { return k.Open("test", Tuple(nil, []byte("ab"), nil), sealed) },
	} {
		if got, err := try(); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %q, %v, want ErrOpen", name, got, err)
		}
	}
	flips(t, "seal", sealed, func(b []byte) error { _, err := k.Open("test", ad, b); return err })
}

func TestSessionOpens(t *testing.T) {
	t.Parallel()
	k, _ := GenerateKey()
	s, o := NewSealer(k.Public(), "p"), NewOpener(k, "p")
	encs := map[string]int{}
	for i := range sessionRecords + 5 {
		ad := Uint(uint64(i))
		rec, err := s.Seal(nil, testNow, ad, ad)
		if err != nil {
			t.Fatal(err)
		}
		encs[string(rec[1:1+KeySize])]++
		if got, err := o.Open(nil, ad, rec); err != nil || !bytes.Equal(got, ad) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	late, _ := s.Seal(nil, testNow.Add(sessionLife), nil, nil)
	encs[string(late[1:1+KeySize])]++
	if len(encs) != 3 {
		t.Errorf("%d sessions, want 3: one full, one ended by time, one begun", len(encs))
	}
	rec, _ := s.Seal(nil, testNow, []byte("ad"), []byte("x"))
	if _, err := NewOpener(k, "q").Open(nil, []byte("ad"), rec); !errors.Is(err, ErrOpen) {
		t.Errorf("another purpose: %v, want ErrOpen", err)
	}
	flips(t, "session", rec, func(b []byte) error { _, err := o.Open(nil, []byte("ad"), b); return err })
}

func TestOpenerForgetsOldSessions(t *testing.T) {
	t.Parallel()
	k, _ := GenerateKey()
	o := NewOpener(k, "p")
	for range openSessions + 10 {
		rec, _ := NewSealer(k.Public(), "p").Seal(nil, testNow, nil, nil)
		if _, err := o.Open(nil, nil, rec); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.gcms) != openSessions || o.recent.Len() != openSessions {
		t.Errorf("%d sessions kept, want %d", len(o.gcms), openSessions)
	}
}

func TestChannel(t *testing.T) {
	t.Parallel()
	k, _ := GenerateKey()
	a, enc, err := Connect(k.Public(), "p")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Accept(k, "p", enc)
	if err != nil {
		t.Fatal(err)
	}
	first, second := a.Seal(nil, nil, []byte("1")), a.Seal(nil, nil, []byte("2"))
	for i, f := range [][]byte{second, first} { // overtaking is fine
		if _, err := b.Open(nil, nil, f); err != nil {
			t.Errorf("frame %d: %v", i, err)
		}
	}
	for name, try := range map[string]func() ([]byte, error){
		"replay":     func() ([]byte, error) { return b.Open(nil, nil, first) },
		"reflection": func() ([]byte, error) { return a.Open(nil, nil, a.Seal(nil, nil, []byte("3"))) },
		"other ad":   func() ([]byte, error) { return b.Open(nil, []byte("x"), a.Seal(nil, nil, []byte("4"))) },
	} {
		if got, err := try(); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %q, %v, want ErrOpen", name, got, err)
		}
	}
	if got, err := a.Open(nil, nil, b.Seal(nil, nil, []byte("back"))); err != nil || string(got) != "back" {
		t.Errorf("answer: %q, %v", got, err)
	}
	frame := a.Seal(nil, nil, []byte("whole"))
	flips(t, "channel", frame, func(f []byte) error { _, err := b.Open(nil, nil, f); return err })
}

func TestReplayWindow(t *testing.T) {
	t.Parallel()
	var w replayWindow
	for _, c := range []struct {
		n    uint64
		want bool
	}{
		{0, false},
		{1, true},
		{1, false},
		{3, true},
		{2, true},
		{2, false},
		{window + 3, true},
		{3, false},
		{4, true},
		{4, false},
		{10 * window, true},
		{10*window - 1, true},
		{9 * window, false},
		{9*window + 1, true},
		{9*window + 1, false},
	} {
		if got := w.accept(c.n); got != c.want {
			t.Errorf("accept(%d) = %v, want %v", c.n, got, c.want)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	k, _ := RandomKey()
	sealed := k.Seal(nil, []byte("ad"), []byte("state"))
	if got, err := k.Open(nil, []byte("ad"), sealed); err != nil || string(got) != "state" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if _, err := k.Open(nil, []byte("other"), sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("moved value: %v, want ErrOpen", err)
	}
	flips(t, "key", sealed, func(b []byte) error { _, err := k.Open(nil, []byte("ad"), b); return err })
}

func TestSign(t *testing.T) {
	t.Parallel()
	k, _ := GenerateSignKey()
	sig := k.Sign("domain", []byte("m"))
	if !k.Public().Verify("domain", []byte("m"), sig) {
		t.Fatal("a good signature is refused")
	}
	if k.Public().Verify("domai", []byte("nm"), sig) || k.Public().Verify("domain", []byte("n"), sig) {
		t.Error("a signature verifies elsewhere")
	}
	flips(t, "signature", sig, func(b []byte) error {
		if k.Public().Verify("domain", []byte("m"), b) {
			return nil
		}
		return ErrOpen
	})
}

func TestTupleIsInjective(t *testing.T) {
	t.Parallel()
	lists := [][][]byte{{}, {nil}, {nil, nil}, {[]byte("ab")}, {[]byte("a"), []byte("b")}, {[]byte("ab"), nil}, {nil, []byte("ab")}}
	seen := map[string]int{}
	for i, l := range lists {
		e := string(Tuple(nil, l...))
		if j, ok := seen[e]; ok {
			t.Errorf("lists %d and %d have the same encoding", i, j)
		}
		seen[e] = i
	}
}

func BenchmarkSealerSeal(b *testing.B) {
	k, _ := GenerateKey()
	s := NewSealer(k.Public(), "p")
	plain, buf := make([]byte, 512), make([]byte, 0, 1024)
	for b.Loop() {
		buf, _ = s.Seal(buf[:0], testNow, nil, plain)
	}
}

func BenchmarkSealOneShot(b *testing.B) {
	k, _ := GenerateKey()
	plain := make([]byte, 512)
	for b.Loop() {
		_, _ = Seal(k.Public(), "p", nil, plain)
	}
}
