package id

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)
	v := NewExecution(at)
	if !v.Time().Equal(at) {
		t.Errorf("Time = %v, want %v", v.Time(), at)
	}
	got, err := Parse[execution](v.String())
	if err != nil || got != v {
		t.Fatalf("Parse(%q) = %v, %v", v, got, err)
	}
	b, err := json.Marshal(map[string]Execution{"id": v})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]Execution
	if err := json.Unmarshal(b, &back); err != nil || back["id"] != v {
		t.Errorf("JSON round trip of %s: %v, %v", b, back, err)
	}
}

func TestTextSortsByTime(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	prev := NewEvent(at)
	for range 1000 {
		at = at.Add(time.Millisecond)
		next := NewEvent(at)
		if prev.String() >= next.String() || prev.Compare(next) >= 0 {
			t.Fatalf("%s does not sort before %s", prev, next)
		}
		prev = next
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := NewCustomer(time.UnixMilli(1)).String()
	for _, s := range []string{"", "cus_", good[:len(good)-1], good + "0", "exe" + good[3:], good[:5] + "u" + good[6:], "cus_z" + good[5:], "CUS" + good[3:]} {
		if v, err := Parse[customer](s); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %v, %v, want ErrInvalid", s, v, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("cus_01jd3k5m6n7p8q9r0s1t2v3w4x")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Parse[customer](s)
		if err == nil && v.String() != s && !v.IsZero() {
			t.Errorf("Parse(%q) prints as %q", s, v.String())
		}
	})
}
