package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"
)

// every returns one empty message of each frame type.
func every() []Typed {
	return []Typed{
		&Error{}, &Hello{}, &VaultStart{}, &VaultReady{}, &Enroll{}, &Enrolled{}, &Start{}, &Ready{}, &Stop{},
		&WorkerHello{}, &Bind{}, &Bound{}, &Renew{}, &Unit{}, &Cancel{}, &Append{}, &Appended{}, &Released{},
		&Call{}, &Answer{}, &View{}, &Progress{}, &Wake{}, &State{}, &StateResult{}, &BlobWrite{}, &BlobRead{},
		&BlobChunk{}, &SandboxWant{}, &SandboxReady{}, &SandboxGone{}, &SandboxHello{}, &SandboxOpen{},
		&SandboxRun{}, &SandboxResult{}, &SandboxClose{}, &Want{}, &Dispatch{}, &DefinitionGet{}, &Definition{},
		&Reply{}, &FlowRecord{}, &Pause{}, &LeaseRequest{}, &LeaseGrant{}, &VaultCall{}, &VaultAnswer{}, &LeaseDrop{}, &LeaseGive{}, &Read{}, &ReadPage{},
		&JournalGet{}, &JournalPage{},
		&Peers{}, &Retire{}, &Drain{}, &Health{}, &Unseal{}, &Lost{}, &Certificate{},
		&Order{}, &OrderAnswer{}, &ConnectionStatus{},
	}
}

// fill sets every field of a message to random values that survive a round trip.
func fill(v reflect.Value, r *rand.Rand) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.UnixMicro(r.Int64N(1 << 50)).UTC()))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), r)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 4))
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case v.Kind() == reflect.String:
		v.SetString(string([]byte{'a', byte(r.IntN(256)), 0}))
	case v.Kind() == reflect.Bool:
		v.SetBool(r.IntN(2) == 1)
	case v.CanInt():
		v.SetInt(r.Int64() >> r.IntN(60))
	case v.Kind() == reflect.Uint64:
		v.SetUint(r.Uint64() >> r.IntN(60))
	case v.Kind() == reflect.Uint32:
		v.SetUint(uint64(r.Uint32()))
	default:
		v.SetUint(uint64(r.IntN(256)))
	}
}

func TestEveryMessageSurvivesTheRoundTrip(t *testing.T) {
	t.Parallel()
	seen := map[Type]bool{}
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range every() {
		seen[m.FrameType()] = true
		for range 20 {
			fill(reflect.ValueOf(m).Elem(), r)
			frame, rest, err := Next(AppendFrame(nil, m))
			if err != nil || len(rest) != 0 {
				t.Fatalf("%v: %d bytes left, %v", m.FrameType(), len(rest), err)
			}
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Typed)
			if err := frame.Parse(got); err != nil {
				t.Fatalf("%v: %v", m.FrameType(), err)
			}
			if diff := cmp.Diff(m, got); diff != "" {
				t.Fatalf("%v (-want +got):\n%s", m.FrameType(), diff)
			}
			for cut := range len(frame.Body) {
				if err := ParseBody(frame.Body[:cut], reflect.New(reflect.TypeOf(m).Elem()).Interface().(Typed)); !errors.Is(err, ErrMalformed) {
					t.Fatalf("%v cut to %d of %d bytes: %v, want ErrMalformed", m.FrameType(), cut, len(frame.Body), err)
				}
			}
		}
	}
	for typ := TypeError; typ < typeEnd; typ++ {
		if !seen[typ] || typeNames[typ] == "" {
			t.Errorf("type %d has no message in this test, or no name", typ)
		}
	}
}

func TestNextRefuses(t *testing.T) {
	t.Parallel()
	good := AppendFrame(nil, &Cancel{Fence: 7})
	for name, b := range map[string][]byte{
		"cut header":   good[:5],
		"cut body":     good[:len(good)-1],
		"version 0":    append(append(bytes.Clone(good[:4]), 0), good[5:]...),
		"version 2":    append(append(bytes.Clone(good[:4]), 2), good[5:]...),
		"length 0":     {0, 0, 0, 0, 1, 1},
		"length 1":     {0, 0, 0, 1, 1, 1},
		"a huge frame": {0xff, 0xff, 0xff, 0xff, 1, 1},
	} {
		if _, _, err := Next(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	if _, _, err := Next(nil); !errors.Is(err, io.EOF) {
		t.Errorf("empty batch: %v, want EOF", err)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	pr, pw := io.Pipe()
	w := NewWriter(pw)
	go func() {
		for i := range uint64(1000) {
			_ = w.Write(&Cancel{Fence: i})
		}
		_ = w.Close()
		_ = pw.Close()
	}()
	r := NewReader(pr)
	for i := range uint64(1000) {
		f, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		var m Cancel
		if err := f.Parse(&m); err != nil || m.Fence != i {
			t.Fatalf("frame %d: %+v, %v", i, m, err)
		}
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v, want EOF", err)
	}
	if err := w.Write(&Cancel{}); err == nil {
		t.Error("a closed writer accepts a frame")
	}
}

func TestUintRoundTrip(t *testing.T) {
	t.Parallel()
	if err := quick.Check(func(u uint64, i int64, s string, ok bool) bool {
		c := Coder{}
		c.Uint(&u)
		c.Int(&i)
		c.String(&s)
		c.Bool(&ok)
		d := Coder{buf: c.buf, reading: true}
		var u2 uint64
		var i2 int64
		var s2 string
		var ok2 bool
		d.Uint(&u2)
		d.Int(&i2)
		d.String(&s2)
		d.Bool(&ok2)
		return d.err == nil && u == u2 && i == i2 && s == s2 && ok == ok2
	}, nil); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range every() {
		fill(reflect.ValueOf(m).Elem(), rand.New(rand.NewPCG(3, 4)))
		f.Add(AppendFrame(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			frame, rest, err := Next(b)
			if err != nil {
				return
			}
			b = rest
			for _, m := range every() {
				if m.FrameType() != frame.Type || frame.Parse(m) != nil {
					continue
				}
				again := AppendFrame(nil, m)
				f2, _, err := Next(again)
				if err != nil || f2.Parse(m) != nil {
					t.Fatalf("a parsed %v does not parse again", frame.Type)
				}
			}
		}
	})
}

func BenchmarkAppendFrame(b *testing.B) {
	m := &Append{Fence: 1, Entries: []Entry{{Seq: 1, Kind: EntryResult, Path: "order", Body: make([]byte, 300)}}, Finish: &Finish{Status: StatusCompleted}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendFrame(buf[:0], m)
	}
}

func BenchmarkParseFrame(b *testing.B) {
	buf := AppendFrame(nil, &Append{Fence: 1, Entries: []Entry{{Seq: 1, Kind: EntryResult, Path: "order", Body: make([]byte, 300)}}, Finish: &Finish{Status: StatusCompleted}})
	b.ReportAllocs()
	for b.Loop() {
		f, _, _ := Next(buf)
		var m Append
		_ = f.Parse(&m)
	}
}
