package connector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// The sealed record has the limits of the connection, and those that actions have of their own; the lock keeps both.
func TestARateHasTheLimitsOfActions(t *testing.T) {
	t.Parallel()
	m := &Manifest{
		Defaults: Defaults{Limits: &Limits{Concurrent: 4, PerSecond: 10}, Retry: &Retry{After: "X-Wait", Pause: 30}},
		Actions:  []Action{{Name: "search", Limits: &Limits{PerSecond: 0.5, Burst: 3}}, {Name: "read"}},
	}
	want := &credential.Rate{Concurrent: 4, PerSecond: 10, After: "X-Wait", Pause: 30, Actions: map[string]credential.Quota{"search": {PerSecond: 0.5, Burst: 3}}}
	if diff := cmp.Diff(want, m.Rate()); diff != "" {
		t.Error(diff)
	}
	l := m.Lock("slot", []string{"search", "read"}, nil)
	if diff := cmp.Diff(m.Actions[0].Limits, l.Action("search").Limits); diff != "" || l.Defaults.Limits.Concurrent != 4 {
		t.Errorf("the lock: %s", diff)
	}
	for name, change := range map[string]func(){
		"per_second":       func() { m.Actions[0].Limits.PerSecond = credential.MaxPerSecond + 1 },
		"too many actions": func() { m.Actions = many() },
	} {
		change()
		if problems := m.Check(); !strings.Contains(problems.Error(), "defaults.limits: ") {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func many() []Action {
	list := make([]Action, credential.MaxQuotas+1)
	for i := range list {
		list[i] = Action{Name: fmt.Sprintf("a%d", i), Method: "GET", Path: "/", Limits: &Limits{Concurrent: 1}}
	}
	return list
}
