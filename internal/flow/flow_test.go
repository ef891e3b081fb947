package flow

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want time.Duration
		out  string
	}{
		{"PT0.1S", 100 * time.Millisecond, "PT0.1S"},
		{"PT15M", 15 * time.Minute, "PT15M"},
		{"P2D", 48 * time.Hour, "P2D"},
		{"P30D", 720 * time.Hour, "P30D"},
		{"P1W", 168 * time.Hour, "P7D"},
		{"P1DT2H3M4.5S", 26*time.Hour + 3*time.Minute + 4500*time.Millisecond, "P1DT2H3M4.5S"},
		{"PT1.5H", 90 * time.Minute, "PT1H30M"},
		{"PT36H", 36 * time.Hour, "P1DT12H"},
		{"PT90S", 90 * time.Second, "PT1M30S"},
		{"PT0.000000001S", 1, "PT0.000000001S"},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if err != nil || got.Std() != tt.want || got.String() != tt.out {
			t.Errorf("ParseDuration(%q): got %v %q %v, want %v %q", tt.in, got.Std(), got.String(), err, tt.want, tt.out)
		}
	}
	for _, bad := range []string{
		"", "P", "PT", "5m", "PT5", "P5", "P1Y", "P1M", "-PT5M", "PT-5M", "PT0S", "PT5M3H", "PT1.5H3M", "P1DT", "PT.5S", "PT1.S", "PT1.2.3S",
		"PT1H1H", "PTT1H", "pt5m", "PT5M ", "P9999999999999D", "PT99999999999999999999S", "PT0.0000000001S", "P1S", "PT1D",
	} {
		if got, err := ParseDuration(bad); !errors.Is(err, ErrDuration) {
			t.Errorf("ParseDuration(%q): got %v, %v, want an error", bad, got.Std(), err)
		}
	}
}

func FuzzDuration(f *testing.F) {
	f.Add("P1DT2H3M4.5S")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		again, err := ParseDuration(d.String())
		if err != nil || again != d {
			t.Errorf("%q prints as %q, which reads as %v, %v", s, d.String(), again, err)
		}
	})
}

func canonical(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/canonical.json")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestDecodeEncodeKeepsEveryByte(t *testing.T) {
	t.Parallel()
	in := canonical(t)
	i, err := Decode([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	out, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, string(out)); diff != "" {
		t.Errorf("canonical form changed (-want +got):\n%s", diff)
	}
	kinds := map[StepKind]bool{}
	for _, s := range Walk("", i.Flows[0].Steps) {
		kinds[s.Kind()] = true
	}
	for _, k := range StepKinds() {
		if !kinds[k] {
			t.Errorf("testdata/canonical.json has no step %q", k)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	ok := canonical(t)
	tests := map[string]string{
		"white space":        ok + "\n",
		"unknown key":        strings.Replace(ok, `{"bulkhead":1,`, `{"bulkhead":1,"x":1,`, 1),
		"unknown step key":   strings.Replace(ok, `"id":"get",`, `"id":"get","x":1,`, 1),
		"other case":         strings.Replace(ok, `"bulkhead"`, `"Bulkhead"`, 1),
		"repeated key":       strings.Replace(ok, `{"bulkhead":1,`, `{"bulkhead":1,"bulkhead":1,`, 1),
		"repeated flow":      strings.Replace(ok, `"flows":{`, `"flows":{"sub":{"trigger":{"call":{}},"steps":[]},`, 1),
		"two kinds":          strings.Replace(ok, `"id":"get",`, `"id":"get","set":1,`, 1),
		"no kind":            strings.Replace(ok, `{"id":"get","uses":"shop.request",`, `{"id":"get",`, 1),
		"other version":      strings.Replace(ok, `{"bulkhead":1,`, `{"bulkhead":2,`, 1),
		"too deep":           strings.Repeat("[", MaxDocumentDepth+1),
		"too large":          strings.Repeat(" ", MaxFileBytes+1),
		"escaped needlessly": strings.Replace(ok, `"integration":"all`, `"integration":"\u0061ll`, 1),
		"empty":              "",
		"null":               "null",
		"two documents":      ok + ok,
	}
	for name, in := range tests {
		if in == ok {
			t.Errorf("%s: the test changes nothing", name)
		}
		if _, err := Decode([]byte(in)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func TestDigestNamesTheDefinition(t *testing.T) {
	t.Parallel()
	decode := func(s string) *Integration {
		i, err := Decode([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	in := canonical(t)
	a, b := decode(in), decode(in)
	if a.Digest() != b.Digest() {
		t.Error("equal definitions have different digests")
	}
	c := decode(strings.Replace(in, "/orders/", "/order/", 1))
	if a.Digest() == c.Digest() {
		t.Error("different definitions have one digest")
	}
}

func TestWalkPaths(t *testing.T) {
	t.Parallel()
	i, err := Decode([]byte(canonical(t)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for path, s := range Walk("flows.main.steps", i.Flows[0].Steps) {
		got[s.ID] = path
	}
	want := map[string]string{
		"small": "flows.main.steps[3].switch[0].steps[0]",
		"other": "flows.main.steps[3].switch[1].steps[0]",
		"sent":  "flows.main.steps[4].steps[0]",
		"left":  "flows.main.steps[7].fork.branches.a[0]",
		"right": "flows.main.steps[7].fork.branches.b[0]",
		"risky": "flows.main.steps[8].try[0]",
		"saved": "flows.main.steps[8].catch.steps[0]",
		"ask":   "flows.main.steps[11].wait.callback.notify[0]",
	}
	for id, path := range want {
		if got[id] != path {
			t.Errorf("path of step %s: got %q, want %q", id, got[id], path)
		}
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	i, err := Decode([]byte(canonical(t)))
	if err != nil {
		t.Fatal(err)
	}
	f := &i.Flows[0]
	// An hour, a computed time, two days for the callback and one for the event.
	if got, want := f.Life(), DefaultExpires+time.Hour+DefaultComputedWait+72*time.Hour; got != want {
		t.Errorf("life from waits: got %v, want %v", got, want)
	}
	g := *f
	g.Expires = Duration(5 * time.Hour)
	if got := g.Life(); got != 5*time.Hour {
		t.Errorf("life as written: got %v, want 5h", got)
	}
}

func TestRetryPause(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		retry Retry
		want  []time.Duration
	}{
		{"defaults", Retry{}, []time.Duration{time.Second, time.Second}},
		{"constant", Retry{Delay: Duration(2 * time.Second)}, []time.Duration{2 * time.Second, 2 * time.Second}},
		{"exponential", Retry{Delay: Duration(time.Second), Backoff: BackoffExponential, MaxDelay: Duration(5 * time.Second)}, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}},
		{"long delay without a maximum", Retry{Delay: Duration(time.Hour), Backoff: BackoffExponential}, []time.Duration{time.Hour, time.Hour}},
	}
	for _, tt := range tests {
		for n, want := range tt.want {
			if got := tt.retry.Pause(n+1, 0.5); got != want {
				t.Errorf("%s: pause after try %d: got %v, want %v", tt.name, n+1, got, want)
			}
		}
	}
	jittered := Retry{Delay: Duration(time.Second), Jitter: true}
	if low, high := jittered.Pause(1, 0), jittered.Pause(1, 0.999); low != 500*time.Millisecond || high <= low || high > time.Second {
		t.Errorf("jitter: got %v to %v, want 500ms to just under 1s", low, high)
	}
	if got := (*Retry)(nil).Tries(); got != 1 {
		t.Errorf("tries without retry: got %d, want 1", got)
	}
}

func TestTextIn(t *testing.T) {
	t.Parallel()
	text := Text{Locale: map[string]string{"de": "Hallo", "en": "Hello", "de-AT": "Servus"}}
	for locale, want := range map[string]string{"de-AT": "Servus", "de-CH": "Hallo", "fr": "Hello", "": "Hello"} {
		if got := text.In(locale); got != want {
			t.Errorf("text in %q: got %q, want %q", locale, got, want)
		}
	}
	if got := (Text{Locale: map[string]string{"sv": "Hej", "fi": "Moi"}}).In("fr"); got != "Moi" {
		t.Errorf("text without English: got %q, want Moi", got)
	}
}

func TestNotYet(t *testing.T) {
	t.Parallel()
	i, err := Decode([]byte(canonical(t)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, n := range i.NotYet() {
		got[n.Path] = n.What != ""
	}
	want := map[string]bool{
		"config.ledger.choices.uses": true, "config.fields.from.uses": true, "config.fields.to.uses": true, "config.logo.type": true, "connections.crm.connector": true, "wizard": true,
		"flows.main.steps[12].wait.event.uses": true, "flows.main.steps[5].for.each.uses": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("not yet (-want +got):\n%s", diff)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := os.ReadFile("testdata/canonical.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, in []byte) {
		i, err := Decode(in)
		if err != nil {
			return
		}
		for range Walk("", i.Flows[0].Steps) {
		}
		i.NotYet()
	})
}

func TestRawPath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, want string
		ok       bool
	}{
		{"rawPath(trigger.body.path)", "trigger.body.path", true},
		{`rawPath("a)b" + f(x))`, `"a)b" + f(x)`, true},
		{"rawPath(a) + rawPath(b)", "", false},
		{"rawPath(a", "", false},
		{"trigger.body", "", false},
		{`rawPath("a\")")`, `"a\")"`, true},
	}
	for _, tt := range tests {
		got, _, ok := (&Expr{Source: tt.in}).RawPath()
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("raw path of %s: got %q, %v, want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}
