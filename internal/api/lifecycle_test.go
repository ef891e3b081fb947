package api

import (
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func TestLifecycleOfAnInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	path := "/api/v1/instances/" + s.instance.ID.String()
	stale := map[string]string{"If-Match": `"99"`}
	for _, c := range []call{{method: "PATCH", path: path, body: map[string]any{}}, {method: "POST", path: path + "/upgrade", body: map[string]any{}}, {method: "POST", path: path + "/rollback"}, {method: "DELETE", path: path}} {
		c.header = stale
		w.refused(c, CodeChanged)
	}
	w.refused(call{method: "POST", path: path + "/rollback"}, CodeConflict)

	// A change keeps what it does not name.
	x := ask[Instance](w, call{method: "PATCH", path: path, body: map[string]any{"in_flight_cap": 3}})
	if x.InFlightCap != 3 || x.ConfigVersion != s.instance.ConfigVersion || x.Slots["shop"] != s.connection.ID || x.State != "enabled" {
		t.Errorf("after a change of the cap: %+v", x)
	}
	x = ask[Instance](w, call{method: "PATCH", path: path, body: map[string]any{"config": map[string]any{"greeting": "ho"}}})
	if x.InFlightCap != 3 || x.ConfigVersion == s.instance.ConfigVersion || x.Slots["shop"] != s.connection.ID {
		t.Errorf("after a change of the config: %+v", x)
	}
	w.refused(call{method: "PATCH", path: path, body: map[string]any{"config": map[string]any{"greeting": 1}}}, CodeInvalid)
	w.refused(call{method: "PATCH", path: path, body: map[string]any{"slots": map[string]any{"other": s.connection.ID}}}, CodeInvalid)

	// An upgrade and its roll-back; a slot that is not filled is said by the state.
	timed := strings.Replace(sample, "manual: {}", `schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}`, 1)
	ask[Version](w, call{method: "POST", path: "/api/v1/integrations", body: map[string]any{"source": timed}})
	ask[Instance](w, call{method: "POST", path: path + "/pause"})
	x = ask[Instance](w, call{method: "POST", path: path + "/upgrade", body: map[string]any{}})
	if x.Version != 2 || x.PreviousVersion != 1 || x.State != "paused" {
		t.Errorf("after the upgrade: %+v", x)
	}
	if x = ask[Instance](w, call{method: "GET", path: path}); len(x.Schedules) != 1 || x.Schedules[0].Flow != "main" || x.Schedules[0].Kind != "schedule" {
		t.Errorf("schedules after the upgrade: %+v", x.Schedules)
	}
	if x = ask[Instance](w, call{method: "POST", path: path + "/rollback"}); x.Version != 1 || x.PreviousVersion != 2 {
		t.Errorf("after the roll-back: %+v", x)
	}
	if x = ask[Instance](w, call{method: "GET", path: path}); len(x.Schedules) != 0 || len(x.Hooks) != 1 {
		t.Errorf("after the roll-back: schedules %+v, hooks %+v", x.Schedules, x.Hooks)
	}
	if x = ask[Instance](w, call{method: "PATCH", path: path, body: map[string]any{"slots": map[string]any{}}}); x.State != "needs_connection" {
		t.Errorf("without its connection it is %s", x.State)
	}

	// Rejections, and the end.
	err := w.db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Customer(s.customer.ID).PutRejection(s.instance.ID, "hook", &store.Rejection{At: time.Now(), Reason: "expired", Size: -1, Repeats: 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	if list := ask[Page[Rejection]](w, call{method: "GET", path: path + "/rejections"}).Items; len(list) != 1 || list[0].Flow != "hook" || list[0].Reason != "expired" || list[0].Repeats != 2 {
		t.Errorf("rejections: %+v", list)
	}
	for range 2 { // removing what is being removed changes nothing
		a := w.send(call{method: "DELETE", path: path})
		if a.Code != 204 && a.Code != 404 {
			t.Errorf("removal: %d %s", a.Code, a.Body)
		}
	}
	w.refused(call{method: "PATCH", path: path, body: map[string]any{}, token: w.other}, CodeNotFound)
}

func TestSecretsOfTheConfigAreStored(t *testing.T) {
	t.Parallel()
	i, problems := flowfile.Decode("secret.yaml", []byte(`bulkhead: 1
integration: signed
config:
  hook_secret: {type: secret, required: true}
flows:
  main:
    trigger: {webhook: {verify: {bearer: {secret: config.hook_secret}}}}
    steps: [{id: done, set: 1}]
`))
	if i == nil {
		t.Fatal(problems)
	}
	definition := must(i.Integration.Encode())
	got, err := checkConfig(definition, []byte(`{"hook_secret": "sesame"}`), false)
	if want := `{"hook_secret":"sesame"}`; err != nil || string(got) != want {
		t.Errorf("sealed is %s, %v; want %s", got, err, want)
	}
	if _, err := checkConfig(definition, nil, false); err == nil {
		t.Error("without its required secret the config is accepted")
	}
}

// Of changes that are bound to one revision one is made, also at the same moment.
func TestOneOfTwoMatchedChangesIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	path := "/api/v1/instances/" + s.instance.ID.String()
	put := map[string]any{"customer": "c-1", "integration": "hello", "slots": map[string]any{"shop": s.connection.ID}}
	for _, c := range []call{
		{method: "POST", path: path + "/pause", body: map[string]any{}},
		{method: "POST", path: path + "/resume", body: map[string]any{}},
		{method: "PUT", path: path, body: put},
	} {
		c.header = map[string]string{"If-Match": w.send(call{method: "GET", path: path}).Header().Get("ETag")}
		codes := make(chan int, 8)
		for range cap(codes) {
			go func() { codes <- w.send(c).Code }()
		}
		made := 0
		for range cap(codes) {
			switch code := <-codes; code {
			case 200:
				made++
			case 412:
			default:
				t.Errorf("%s %s: status %d", c.method, c.path, code)
			}
		}
		if made != 1 {
			t.Errorf("%s %s: %d of the changes were made, want one", c.method, c.path, made)
		}
	}
}

// An instance is named by its customer and its integration where an id is taken, only within
// the organization, and only while there is one.
func TestInstancesHaveNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	get := call{method: "GET", path: "/api/v1/instances/c-1%2Fhello"}
	if x := ask[Instance](w, get); x.ID != s.instance.ID {
		t.Errorf("named is %v, want %v", x.ID, s.instance.ID)
	}
	get.path = "/api/v1/instances/" + s.customer.ID.String() + "%2F" + s.instance.Integration.String()
	if x := ask[Instance](w, get); x.ID != s.instance.ID {
		t.Errorf("named by ids it is %v, want %v", x.ID, s.instance.ID)
	}
	if x := ask[Instance](w, call{method: "POST", path: "/api/v1/instances/c-1%2Fhello/pause"}); x.State != "paused" {
		t.Errorf("paused by name it is %s", x.State)
	}
	for _, c := range []struct{ ref, token, detail string }{
		{"c-1%2Fother", "", "There is no such integration."},
		{"nobody%2Fhello", "", noCustomer},
		{"c-1%2Fhello", w.other, noCustomer}, // as if it did not exist
	} {
		if p := w.refused(call{method: "GET", path: "/api/v1/instances/" + c.ref, token: c.token}, CodeNotFound); p.Detail != c.detail {
			t.Errorf("%s: %q, want %q", c.ref, p.Detail, c.detail)
		}
	}
	ask[Instance](w, call{method: "POST", path: "/api/v1/instances", body: map[string]any{
		"customer": "c-1", "integration": "hello", "slots": map[string]any{"shop": s.connection.ID},
	}})
	w.refused(call{method: "GET", path: "/api/v1/instances/c-1%2Fhello"}, CodeConflict)
}
