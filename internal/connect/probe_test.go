package connect

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// keyed makes the connection of a customer by a key.
func (w *world) keyed() id.Connection {
	w.t.Helper()
	return must(w.Save(w.t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary}, By: "ann",
	}))
}

// A connection of another organization is not found by any question, and nothing is made or run for it.
func TestQuestionsOfAnotherOrganization(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.keyed()
	stranger := id.NewOrg(time.Now())
	_, tested := w.Test(t.Context(), stranger, n)
	_, listed := w.Choices(t.Context(), &InputQuery{Org: stranger, Connection: n, Action: "a", Input: "b"})
	_, _, described := w.Schema(t.Context(), &InputQuery{Org: stranger, Connection: n, Action: "a", Input: "b"})
	_, offered := w.Options(t.Context(), &OptionsQuery{Org: stranger, Instance: id.NewInstance(time.Now()), Variable: "v"})
	for what, err := range map[string]error{"test": tested, "choices": listed, "schema": described, "options": offered} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list := must(w.db.Customer(t.Context(), w.customer).Probes(id.Connection{}, 9)); len(list) > 0 {
		t.Errorf("instances were made: %+v", list)
	}
}

// What cannot be tested or asked is refused before anything is made for it.
func TestWhatCannotBeAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.keyed()
	if _, err := w.Test(t.Context(), w.org, n); !errors.Is(err, ErrNoTest) {
		t.Errorf("without a test: %v", err)
	}
	if _, err := w.Choices(t.Context(), &InputQuery{Org: w.org, Connection: n, Action: "x", Input: "y"}); err == nil {
		t.Error("choices of an action that is not there")
	}
	must(w.SetHealth(t.Context(), w.customer, n, store.HealthNeedsReconnect, "refused"))
	if _, err := w.Test(t.Context(), w.org, n); !errors.Is(err, ErrConflict) {
		t.Errorf("a connection that must be connected again: %v", err)
	}
	must(w.SetHealth(t.Context(), w.customer, n, store.HealthOK, ""))
	w.manifest.Title = "Another content of the same version"
	if _, err := w.Test(t.Context(), w.org, n); !errors.Is(err, ErrConflict) {
		t.Errorf("another manifest: %v", err)
	}
}

// A test that nobody runs has not ended, and says nothing. A credential that is not for the test's action has no test.
func TestATestThatHasNotEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.askWait = time.Millisecond
	w.manifest.Actions = []connector.Action{{Name: "me", Method: "GET", Path: "/me"}, {Name: "other", Method: "GET", Path: "/other"}}
	w.manifest.Auth[1].Test = &credential.Test{Action: "me"}
	got := must(w.Test(t.Context(), w.org, w.keyed()))
	if got.OK || got.Ended || got.Type != "" || got.Health != store.HealthUnknown || got.Execution.IsZero() {
		t.Errorf("%+v", got)
	}
	shared := must(w.Save(t.Context(), &Entry{
		Org: w.org, Customer: w.own, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary}, Shared: store.Shared{Customers: []string{"*"}, Actions: []string{"other"}}, By: "ann",
	}))
	if _, err := w.Test(t.Context(), w.org, shared); !errors.Is(err, ErrNoTest) {
		t.Errorf("a credential for another action: %v", err)
	}
}

// A connection has one instance for questions, of its connector as it is; the oldest of too many go, and all with it.
func TestInstancesForQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Actions = []connector.Action{{Name: "me", Method: "GET", Path: "/me"}, {Name: "find", Method: "GET", Path: "/q", Inputs: []connector.Input{
		{Name: "q", In: connector.InQuery, Type: connector.TypeString, Language: "soql", Choices: &connector.Choices{Action: "me", Value: "id"}},
		{Name: "asked", In: connector.InQuery, Type: connector.TypeString, Choices: &connector.Choices{Action: "find", Value: "id"}},
	}}}
	w.manifest.Auth[1].Test = &credential.Test{Action: "me"}
	n := w.keyed()
	probes := func(n id.Connection) []store.Probe {
		return slices.DeleteFunc(must(w.db.Customer(t.Context(), w.customer).Probes(n, 2*MaxProbes)), func(p store.Probe) bool { return p.State == store.InstanceRemoving })
	}
	make := func(n id.Connection) id.Instance {
		t.Helper()
		x, m, err := w.connection(t.Context(), w.org, n)
		if err != nil {
			t.Fatal(err)
		}
		return must(w.probe(t.Context(), w.org, x, m, flow.ProbeTest("key")))
	}
	first := make(n)
	if again := make(n); again != first || len(probes(n)) != 1 {
		t.Errorf("%v and %v: %+v", first, again, probes(n))
	}
	x, m, err := w.connection(t.Context(), w.org, n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.probe(t.Context(), w.org, x, m, flow.ProbeChoices(w.manifest.Actions[1].Inputs[1].Choices)); !errors.Is(err, ErrNoChoices) {
		t.Errorf("an action that takes a query: %v", err)
	}
	if list := must(w.db.Org(t.Context(), w.org).Integrations(id.Integration{}, 9)); len(list) > 0 {
		t.Errorf("integrations are listed: %+v", list)
	}
	w.manifest.Title = "Acme"
	w.keyedAs(n)
	if second := make(n); second == first || len(probes(n)) != 1 {
		t.Errorf("of another manifest: %v, %+v", second, probes(n))
	}
	third := make(n)
	w.keyedAs(n)
	if err := w.Resume(t.Context(), w.org, n); err != nil {
		t.Fatal(err)
	}
	if fourth := make(n); fourth == third || len(probes(n)) != 1 {
		t.Errorf("of another credential: %v, %+v", fourth, probes(n))
	}
	for range MaxProbes {
		make(w.keyed())
	}
	if all := probes(id.Connection{}); len(all) != MaxProbes || len(probes(n)) != 0 {
		t.Errorf("%d instances, %d of the first", len(all), len(probes(n)))
	}
	make(n)
	if _, err := w.End(t.Context(), w.org, n, ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	if left := probes(n); len(left) > 0 {
		t.Errorf("left behind: %+v", left)
	}
}

// keyedAs enters the key of a connection again.
func (w *world) keyedAs(n id.Connection) {
	w.t.Helper()
	must(w.Save(w.t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connection: n, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary}, By: "ann",
	}))
}

// So much is asked for a customer at a time, and no more.
func TestQuestionsAreBounded(t *testing.T) {
	t.Parallel()
	a, c, other := &asking{}, id.NewCustomer(time.Now()), id.NewCustomer(time.Now())
	for range MaxAsking {
		if !a.take(c) {
			t.Fatal("there was no room")
		}
	}
	if a.take(c) || !a.take(other) {
		t.Error("the bound is not that of a customer")
	}
	a.give(c)
	if !a.take(c) {
		t.Error("what ended still counts")
	}
}

func TestWhatATestSays(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		t    Tested
		want store.Health
	}{
		{Tested{OK: true}, store.HealthOK},
		{Tested{Type: "auth"}, store.HealthFailing},
		{Tested{Type: "timeout"}, store.HealthFailing},
		{Tested{Type: "rate-limited"}, ""},
		{Tested{Type: "limit"}, ""},
		{Tested{}, ""},
	} {
		if got := x.t.health(); got != x.want {
			t.Errorf("%+v: %q, want %q", x.t, got, x.want)
		}
	}
	for _, x := range []struct {
		want, got int
		ok        bool
	}{{0, 200, true}, {0, 204, true}, {0, 300, false}, {200, 200, true}, {200, 204, false}} {
		if expected(x.want, x.got) != x.ok {
			t.Errorf("%+v", x)
		}
	}
}

// Of what comes, only what can be chosen is listed: each value once, with a label of one line.
func TestChoicesAreRead(t *testing.T) {
	t.Parallel()
	var a asked
	text := `{"list":[{"value":"a","label":"A  \n b"},{"value":"a","label":"again"},{"value":true},{"value":7,"label":8},{"value":null},{"value":{}},{"value":[1]},{},
		{"value":"` + strings.Repeat("x", MaxValue) + `"},{"value":"l","label":"` + strings.Repeat("ä", MaxLabel) + `"},{"value":"o","label":{"de":"x"}}]}`
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	got := choicesOf(&a, id.Execution{}, false)
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	want := &Choices{List: []Choice{
		{raw(`"a"`), "A b"},
		{raw("true"), "true"},
		{raw("7"), "8"},
		{raw(`"l"`), strings.Repeat("ä", MaxLabel/2)},
		{raw(`"o"`), "o"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want.List[1].Value, want.List[2].Value = raw(`"true"`), raw(`"7"`)
	if diff := cmp.Diff(want, choicesOf(&a, id.Execution{}, true)); diff != "" {
		t.Errorf("as texts: %s", diff)
	}
}

// What is passed to the action that lists are literals and the other inputs; one that is missing is named.
func TestInputsArePassedOn(t *testing.T) {
	t.Parallel()
	list := connector.Action{Name: "list", Inputs: []connector.Input{{Name: "year", Required: true}, {Name: "kind"}, {Name: "fixed"}}}
	with := []connector.Passed{{Name: "year", From: "of"}, {Name: "kind", From: "type"}, {Name: "fixed", Value: json.RawMessage("7")}}
	beside := []connector.Input{{Name: "of"}, {Name: "type", Default: json.RawMessage(`"x"`)}}
	q := &InputQuery{With: map[string]json.RawMessage{"of": json.RawMessage("2026")}}
	x := &subject{query: q, manifest: &connector.Manifest{Actions: []connector.Action{list}}, beside: beside}
	got, err := x.passed("list", with)
	text, _ := json.Marshal(got)
	if want := `{"fixed":7,"kind":"x","year":2026}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	q.With["of"] = json.RawMessage("null")
	if _, err := x.passed("list", with); err == nil || !strings.Contains(err.Error(), "with.of") {
		t.Errorf("without it: %v", err)
	}
	if _, err := x.passed("gone", with); !errors.Is(err, ErrNoChoices) {
		t.Errorf("of an action that the connector does not have: %v", err)
	}
}

// A list is kept for a short time, and what failed is not.
func TestListsAreKept(t *testing.T) {
	t.Parallel()
	var k keptChoices
	asked := 0
	ask := func() (*Choices, error) { asked++; return &Choices{}, nil }
	for range 3 {
		must(k.get([32]byte{1}, ask))
	}
	if _, err := k.get([32]byte{2}, func() (*Choices, error) { return nil, ErrAsking }); err == nil || asked != 1 || len(k.list) != 1 {
		t.Errorf("asked %d times, %d kept, %v", asked, len(k.list), err)
	}
	k.list[[32]byte{1}].until = time.Now().Add(-time.Second)
	must(k.get([32]byte{1}, ask))
	for n := range 2 * MaxKept {
		must(k.get([32]byte{3, byte(n), byte(n >> 8)}, ask))
	}
	if asked != 2+2*MaxKept || len(k.list) != MaxKept {
		t.Errorf("asked %d times, %d kept", asked, len(k.list))
	}
}
