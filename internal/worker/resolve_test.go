package worker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const resolveFlow = `bulkhead: 1
integration: test
connections:
  api: {connector: http}
config:
  token: {type: secret, required: true}
  zone: {type: timezone, required: true}
  hour: {type: integer, default: 3}
  pause: {type: string, default: PT20M}
  plan: {type: string, required: true, enum: [basic, pro]}
flows:
  nightly:
    trigger: {schedule: {cron: "0 ${{ config.hour }} * * *", timezone: "${{ config.zone }}", jitter: PT5M}}
    steps:
      - {id: a, set: 1}
  local:
    trigger: {schedule: {cron: "30 6 * * 1", timezone: "${{ customer.timezone }}"}}
    steps:
      - {id: a, set: 1}
  often:
    trigger: {schedule: {every: "${{ config.pause }}"}}
    steps:
      - {id: a, set: 1}
  watch:
    trigger: {poll: {uses: api.request, with: {path: /x}, every: PT10M, items: "${{ result.body.list }}", key: "${{ item.id }}"}}
    steps:
      - {id: a, set: 1}
  hook:
    trigger: {manual: {}}
    steps:
      - {id: a, set: 1}
`

func TestResolve(t *testing.T) {
	t.Parallel()
	const zone = "Mars/Olympus-canary-4471"
	for name, tt := range map[string]struct {
		config string
		want   wire.Resolved
	}{
		"a good config": {
			`{"token":"t","zone":"Europe/Berlin","plan":"pro","left_over":1}`,
			wire.Resolved{Schedules: []wire.ResolvedSchedule{
				{Flow: "nightly", Kind: "schedule", Cron: "0 3 * * *", Timezone: "Europe/Berlin", Jitter: 5 * time.Minute},
				{Flow: "local", Kind: "schedule", Cron: "30 6 * * 1", Timezone: "America/New_York"},
				{Flow: "often", Kind: "schedule", Every: 20 * time.Minute},
				{Flow: "watch", Kind: "poll", Every: 10 * time.Minute},
			}},
		},
		"a bad config": {
			`{"zone":"` + zone + `","hour":77,"pause":"PT1S","plan":"canary-plan"}`,
			wire.Resolved{
				Schedules: []wire.ResolvedSchedule{
					{Flow: "nightly", Kind: "schedule", Problem: "cron: it is no cron line of five fields"},
					{Flow: "local", Kind: "schedule", Cron: "30 6 * * 1", Timezone: "America/New_York"},
					{Flow: "often", Kind: "schedule", Problem: "every: it is shorter than 1m0s"},
					{Flow: "watch", Kind: "poll", Every: 10 * time.Minute},
				},
				Problems: []wire.ConfigProblem{
					{Name: "zone", Problem: "want a time zone such as Europe/Berlin"},
					{Name: "plan", Problem: "want one of basic, pro"},
					{Name: "token", Problem: "a value is required"},
				},
			},
		},
		"a wrong zone": {
			`{"token":"t","zone":"Local","plan":"pro","pause":[1]}`,
			wire.Resolved{
				Schedules: []wire.ResolvedSchedule{
					{Flow: "nightly", Kind: "schedule", Problem: "timezone: it is no time zone such as Europe/Berlin"},
					{Flow: "local", Kind: "schedule", Cron: "30 6 * * 1", Timezone: "America/New_York"},
					{Flow: "often", Kind: "schedule", Problem: "every: it is no ISO 8601 duration such as PT15M"},
					{Flow: "watch", Kind: "poll", Every: 10 * time.Minute},
				},
				Problems: []wire.ConfigProblem{
					{Name: "zone", Problem: "want a time zone such as Europe/Berlin"},
					{Name: "pause", Problem: "want text"},
				},
			},
		},
	} {
		h := newHost(t, parse(t, resolveFlow))
		h.config = tt.config
		l := h.start()
		v := l.viewing(wire.ReadResolve, id.Execution{}, wire.ClassServer)
		var err error
		v.read.Profile, err = h.events.Seal(nil, time.Now(), lease.ProfilePlace(h.customer, h.instance), []byte(`{"name":"Acme","timezone":"America/New_York"}`))
		if err != nil {
			t.Fatal(err)
		}
		plain := v.open(v.ask())
		var got wire.Resolved
		if err := json.Unmarshal(plain, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if strings.Contains(string(plain), "canary") {
			t.Errorf("%s: the answer holds a value: %s", name, plain)
		}
		operator := l.viewing(wire.ReadResolve, id.Execution{}, wire.ClassOperator)
		if p := operator.ask(); p.Error != wire.ReadRefused {
			t.Errorf("an operator resolves: %q", p.Error)
		}
		if err := l.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}
