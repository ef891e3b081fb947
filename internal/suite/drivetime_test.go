package suite

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

const timedFlows = `integration: times
title: Times
flows:
  minutely:
    trigger: {schedule: {cron: "* * * * *", timezone: Europe/Berlin}}
    steps: [{id: out, return: {at: "${{ trigger.time }}", type: "${{ trigger.type }}"}}]
  every:
    trigger: {schedule: {every: PT1M}}
    steps: [{id: out, return: {at: "${{ trigger.time }}"}}]
`

// driveTimes lets the clock run for two of its minutes: it cannot be turned.
func driveTimes(d *drive) {
	t := d.t
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	i, paused := d.put(timedFlows, nil), d.put(timedFlows, nil)
	deployed := time.Now()
	if _, err := d.Pause(t.Context(), paused); err != nil {
		t.Fatal(err)
	}
	runs := func(i id.Instance, flow string, n int) []api.Execution {
		var list []api.Execution
		d.eventually2(fmt.Sprintf("run %d of %s", n, flow), 2*time.Minute, func() bool {
			list = d.of(i, flow)
			return len(list) >= n
		})
		return list
	}
	first := runs(i, "minutely", 1)[0]
	at := first.Accepted.Truncate(time.Minute)
	same(t, "the time of a run", d.output(first.ID), fmt.Sprintf(`{"at":%q,"type":"schedule"}`, at.UTC().Format(time.RFC3339)))
	if late := first.Accepted.Sub(at); late > 20*time.Second {
		t.Errorf("the run of %v began %v late", at, late)
	}
	every := runs(i, "every", 1)[0]
	if after := every.Accepted.Sub(deployed); after < 55*time.Second || after > 90*time.Second {
		t.Errorf("the first run of PT1M came %v after the deployment", after)
	}
	same(t, "runs while paused", len(d.of(paused, "minutely"))+len(d.of(paused, "every")), 0)
	resumed := time.Now()
	if _, err := d.Resume(t.Context(), paused); err != nil {
		t.Fatal(err)
	}
	list := runs(paused, "minutely", 1)
	same(t, "runs that a pause left", len(list), 1)
	if list[0].Accepted.Before(resumed) || list[0].Accepted.Sub(resumed) > 90*time.Second {
		t.Errorf("resumed at %v, run at %v", resumed, list[0].Accepted)
	}
	n := len(runs(i, "minutely", 2))
	if want := int(time.Since(deployed)/time.Minute) + 1; n > want {
		t.Errorf("%d runs in %v", n, time.Since(deployed))
	}
}

// eventually2 is eventually with another patience.
func (s *system) eventually2(what string, patience time.Duration, ok func() bool) {
	s.t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			s.t.Fatalf("there never was %s", what)
		}
		<-tick.C
	}
}

const pollFlows = `integration: poll
title: Poll
connections:
  api: {connector: http, title: Api}
flows:
  items:
    trigger:
      poll:
        uses: api.request
        with: {path: /items, query: {after: "${{ cursor }}"}}
        every: PT1M
        items: "${{ result.body.items }}"
        key: "${{ string(item.id) }}"
        cursor: "${{ item.id }}"
        start: beginning
    steps:
      - {id: sent, uses: api.request, with: {method: POST, path: "/item/${{ string(trigger.body.id) }}", body: {}}}
`

// drivePoll finds items, also while the server is killed in the middle of it.
func drivePoll(d *drive) {
	t := d.t
	want := 40
	var items []int
	for n := 1; n <= want; n++ {
		items = append(items, n)
	}
	d.out.lists(items...)
	i := d.put(pollFlows, nil)
	d.eventually("the first items", func() bool { return len(d.out.bodies("/item/1")) > 0 })
	var killing sync.WaitGroup
	killing.Go(func() { d.killServer() })
	killing.Wait()
	begun := func(n int) bool {
		for _, k := range items[:n] {
			if len(d.out.bodies(fmt.Sprintf("/item/%d", k))) == 0 {
				return false
			}
		}
		return true
	}
	d.eventually2("every item", 2*time.Minute, func() bool { return begun(want) })
	d.eventually("the server", func() bool {
		list, err := d.Executions(t.Context(), api.ExecutionQuery{Instance: i}, client.List{Limit: 200})
		if err != nil {
			return false
		}
		return !slices.ContainsFunc(list.Items, func(x api.Execution) bool { return x.Status == "running" || x.Status == "pending" })
	})
	count := map[int]int{}
	for _, x := range d.of(i, "items") {
		ev := d.event(x.ID)
		if ev["poll"] == true {
			continue
		}
		body, _ := ev["body"].(map[string]any)
		n, _ := body["id"].(float64)
		count[int(n)]++
		d.becomes(x.ID, "completed")
	}
	for _, n := range items {
		same(t, fmt.Sprintf("executions of item %d", n), count[n], 1)
	}
	same(t, "items with executions", len(count), want)
	if testing.Short() {
		return
	}
	// The next poll asks from the cursor on, and starts what is new.
	items = append(items, want+1)
	d.out.lists(items...)
	d.eventually2("the new item", 2*time.Minute, func() bool { return begun(want + 1) })
	same(t, "requests of the first item", d.out.effects("/item/1"), 1)
}

// killServer kills the server role and waits until another answers.
func (d *drive) killServer() {
	d.t.Helper()
	was := 0
	for _, p := range d.processes() {
		if p.name == "server" {
			was = p.pid
		}
	}
	if was == 0 || syscall.Kill(was, syscall.SIGKILL) != nil {
		d.t.Fatal("there is no server to kill")
	}
	d.eventually("a server that answers", func() bool {
		_, err := d.Server(d.t.Context())
		return err == nil && slices.ContainsFunc(d.processes(), func(p process) bool { return p.name == "server" && p.pid != was })
	})
}
