package suite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const driveFile = `integration: drive
title: Drive
connections:
  api: {connector: http, title: Api}
flows:
  parent:
    trigger: {webhook: {verify: none}}
    steps:
      - {id: sub, call: {flow: child, with: {n: "${{ trigger.body.n }}"}, wait: true}}
      - {id: away, call: {flow: child, with: {n: 100}, wait: false}}
      - {id: out, return: {n: "${{ steps.sub.double }}"}}
  child:
    trigger: {call: {input: {type: object}}}
    steps:
      - {id: out, return: {double: "${{ trigger.body.n * 2 }}"}}
  counted:
    trigger: {webhook: {verify: none}}
    steps:
      - {id: n, state: {increment: hits}}
      - {id: out, return: {n: "${{ steps.n }}"}}
  code:
    trigger: {webhook: {verify: none}}
    steps:
      - id: out
        with: {n: "${{ trigger.body.n }}"}
        code: |
          export default ({n}) => { console.log("the number is", n); console.warn("watch out"); return {n: n + 1}; };
  asked:
    trigger: {webhook: {verify: none}}
    steps:
      - {id: answer, wait: {callback: {timeout: PT5M, notify: [{id: ask, uses: api.request, with: {method: POST, path: "/ask/${{ trigger.body.n }}", body: {url: "${{ callback.url }}"}}}]}}}
      - {id: out, return: {yes: "${{ steps.answer.body.yes }}", q: "${{ steps.answer.query.q }}"}}
  fragile:
    trigger: {webhook: {verify: none}}
    on_fault: tell
    steps:
      - {id: before, uses: api.request, with: {method: POST, path: /before, body: {n: 1}}}
      - {id: call, retry: {attempts: 1}, uses: api.request, with: {method: POST, path: /fragile, body: {n: "${{ trigger.body.n }}"}}}
      - {id: out, return: {n: "${{ steps.call.body.n }}"}}
  tell:
    trigger: {call: {}}
    steps:
      - {id: told, uses: api.request, with: {method: POST, path: /told, body: {type: "${{ error.type }}", step: "${{ error.step }}"}}}
  slow:
    trigger: {webhook: {verify: none}}
    steps:
      - {id: first, uses: api.request, with: {method: POST, path: /slow, body: {n: "${{ trigger.body.n }}"}}}
      - {id: rest, wait: {for: PT10M}}
      - {id: second, uses: api.request, with: {method: POST, path: /slow-after, body: {}}}
`

// driveFlows runs what a flow can do without anybody.
func driveFlows(d *drive) {
	t := d.t
	i := d.put(driveFile, nil)
	x := d.send("POST", d.hook(i, "parent"), `{"n": 21}`).execution(t)
	same(t, "a flow that calls another", d.output(x), `{"n":42}`)
	d.eventually("the calls", func() bool { return len(d.of(i, "child")) == 2 })
	for _, c := range d.of(i, "child") {
		d.becomes(c.ID, "completed")
		if c.Cause != "call" || c.Parent != x && c.CauseID != x && c.Root != x {
			t.Errorf("an execution that was called says: %+v", c)
		}
	}
	for n := 1; n <= 3; n++ {
		x := d.send("POST", d.hook(i, "counted"), `{}`).execution(t)
		same(t, "state", d.output(x), fmt.Sprintf(`{"n":%d}`, n))
	}
	x = d.send("POST", d.hook(i, "code"), `{"n": 4}`).execution(t)
	same(t, "code", d.output(x), `{"n":5}`)
	var lines []string
	d.eventually("log lines", func() bool {
		lines = nil
		for _, item := range d.read(x, wire.ReadLogs, "") {
			var l wire.LogLine
			if err := json.Unmarshal(item.Value, &l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l.Level+" "+l.Text)
		}
		return len(lines) == 2
	})
	if fmt.Sprint(lines) != "[info the number is 4 warn watch out]" && fmt.Sprint(lines) != "[log the number is 4 warn watch out]" {
		t.Errorf("log lines: %q", lines)
	}
	steps, err := d.Steps(t.Context(), x)
	if err != nil || len(steps.Items) == 0 {
		t.Errorf("steps: %+v, %v", steps, err)
	}
	// A start through the API: what the platform says of an event is not the caller's to say.
	begun, err := d.Trigger(t.Context(), i, api.ExecutionRequest{Flow: "counted", Event: json.RawMessage(`{"body": 1, "customer": {"name": "Forged"}, "poll": true}`)})
	if err != nil {
		t.Fatal(err)
	}
	ev := d.event(begun.Execution)
	customer, _ := ev["customer"].(map[string]any)
	same(t, "customer", fmt.Sprintf("%v %v", customer["name"], customer["id"]), "This machine "+d.customer.String())
	same(t, "type and poll", fmt.Sprintf("%v %v", ev["type"], ev["poll"]), "manual <nil>")
	// Cancel: what waits ends, and does nothing more.
	x = d.send("POST", d.hook(i, "slow"), `{"n": 1}`).execution(t)
	d.becomes(x, "waiting")
	if err := d.Cancel(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	d.becomes(x, "cancelled")
	same(t, "what comes after a wait that was cancelled", len(d.out.bodies("/slow-after")), 0)
	if err := d.Cancel(t.Context(), x); err != nil {
		t.Errorf("cancelling what was cancelled: %v", err)
	}
	if err := d.Cancel(t.Context(), d.of(i, "code")[0].ID); !client.IsCode(err, api.CodeConflict) {
		t.Errorf("cancelling what has completed: %v", err)
	}
}

// driveCallback answers a wait, as a link scanner, a person and a service.
func driveCallback(d *drive) {
	t := d.t
	i := d.put(driveFile, nil)
	asked := func(n int) (x id.Execution, url string) {
		x = d.send("POST", d.hook(i, "asked"), fmt.Sprintf(`{"n": %d}`, n)).execution(t)
		d.becomes(x, "waiting")
		var m struct{ URL string }
		sent := d.out.bodies(fmt.Sprintf("/ask/%d", n))
		if len(sent) != 1 || json.Unmarshal([]byte(sent[0]), &m) != nil || m.URL == "" {
			t.Fatalf("what was asked: %q", sent)
		}
		return x, m.URL
	}
	x, url := asked(1)
	for range 2 { // it asks, and answers nothing
		a := d.send("GET", url, "", "Accept", "text/html")
		if a.status != 200 || !strings.Contains(a.body, `<form method="post">`) {
			t.Errorf("GET of a callback: %d %s", a.status, a.body)
		}
	}
	d.becomes(x, "waiting")
	same(t, "the answer", d.send("POST", url+"?q=1", `{"yes": true}`).status, 200)
	same(t, "the second answer", d.send("POST", url, `{"yes": false}`).status, 404)
	same(t, "output", d.output(x), `{"yes":true,"q":"1"}`)
	same(t, "an answer after the end", d.send("POST", url, `{"yes": false}`).status, 404)
	same(t, "an answer to nobody", d.send("POST", url[:len(url)-2]+"aa", `{}`).status, 404)

	// Many at once: one counts.
	x, url = asked(2)
	answers := make(chan int, 8)
	for n := range cap(answers) {
		go func() { answers <- d.send("POST", fmt.Sprintf("%s?q=%d", url, n), `{"yes": true}`).status }()
	}
	count := map[int]int{}
	for range cap(answers) {
		count[<-answers]++
	}
	same(t, "answers at once", fmt.Sprint(count), fmt.Sprintf("map[200:1 404:%d]", cap(answers)-1))
	d.becomes(x, "completed")
	same(t, "form of a person", d.send("GET", url, "", "Accept", "text/html").status, http.StatusOK)
}

// driveAgain faults, repairs, retries and replays.
func driveAgain(d *drive) {
	t := d.t
	i := d.put(driveFile, nil)
	d.out.breaks("/fragile", true)
	x := d.send("POST", d.hook(i, "fragile"), `{"n": 5}`).execution(t)
	e := d.becomes(x, "faulted")
	same(t, "the fault", e.ErrorType+" in "+e.ErrorStep, "upstream in call")
	d.eventually("on_fault", func() bool { return len(d.out.bodies("/told")) == 1 })
	same(t, "what on_fault sees", d.out.bodies("/told")[0], `{"type":"upstream","step":"call"}`)
	d.eventually("the execution of on_fault", func() bool { return len(d.of(i, "tell")) == 1 })
	told := d.of(i, "tell")[0]
	if told.Cause != "on_fault" || told.CauseID != x {
		t.Errorf("the execution of on_fault: %+v", told)
	}
	d.out.breaks("/fragile", false)
	before := len(d.out.bodies("/before"))
	if _, err := d.Retry(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	d.eventually("the retry", func() bool {
		e, err := d.Execution(t.Context(), x)
		return err == nil && e.Status == "completed"
	})
	same(t, "the output of what was retried", d.output(x), `{"n":2}`)
	same(t, "finished steps that a retry repeats", len(d.out.bodies("/before"))-before, 0)
	if _, err := d.Retry(t.Context(), x); err == nil {
		t.Error("what has completed is retried")
	}
	again, err := d.Replay(t.Context(), x, api.ReplayRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the output of a replay", d.output(again.Execution), `{"n":3}`)
	if e := d.becomes(again.Execution, "completed"); e.Cause != "replay" || e.CauseID != x {
		t.Errorf("a replay says: %+v", e)
	}
	same(t, "what a replay sees", fmt.Sprint(d.event(again.Execution)["body"]), "map[n:5]")
}

func version(name string, steps string, more ...string) string {
	return "integration: " + name + "\ntitle: Versions\nconnections:\n  api: {connector: http, title: Api}\nflows:\n  main:\n    trigger: {webhook: {verify: none}}\n    steps:\n" + steps + strings.Join(more, "")
}

// driveVersions upgrades and rolls back: what begins follows, what runs ends on its own.
func driveVersions(d *drive) {
	t := d.t
	const first = "      - {id: a, uses: api.request, with: {method: POST, path: /hold/version, body: {}}}\n      - {id: out, return: {v: 1}}\n"
	const timed = "  hourly:\n    trigger: {schedule: {cron: \"0 * * * *\"}}\n    steps: [{id: a, set: 1}]\n"
	const side = "  side:\n    trigger: {webhook: {verify: none}}\n    steps: [{id: a, set: 1}]\n"
	i := d.put(version("versions", first, side), nil)
	running := d.send("POST", d.hook(i, "main"), `{}`).execution(t)
	h := <-d.out.held
	sideURL := d.hook(i, "side")
	url := d.hook(i, "main")
	if _, err := d.Publish(t.Context(), api.PublishRequest{Source: "bulkhead: 1\n" + version("versions", "      - {id: out, return: {v: 2}}\n", timed)}); err != nil {
		t.Fatal(err)
	}
	x, err := d.Upgrade(t.Context(), i, 0, api.UpgradeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "version", x.Version, 2)
	same(t, "the address after the upgrade", d.hook(i, "main"), url)
	same(t, "what begins after the upgrade", d.output(d.send("POST", url, `{}`).execution(t)), `{"v":2}`)
	d.eventually("the end of a webhook that the version has not", func() bool { return d.send("POST", sideURL, `{}`).status == 404 })
	d.eventually("the plan of the schedule", func() bool {
		x, err := d.Instance(t.Context(), i)
		return err == nil && len(x.Schedules) == 1 && !x.Schedules[0].Next.IsZero()
	})
	if _, err := d.RollBack(t.Context(), i, 0); err != nil {
		t.Fatal(err)
	}
	if x, err := d.Instance(t.Context(), i); err != nil || len(x.Schedules) != 0 || x.Version != 1 || len(x.Hooks) != 2 {
		t.Errorf("after the roll-back: %+v, %v", x, err)
	}
	same(t, "the address of a webhook that is back", d.hook(i, "side"), sideURL)
	d.eventually("the webhook that is back", func() bool { return d.send("POST", sideURL, `{}`).status == 202 })
	begun := d.send("POST", url, `{}`).execution(t)
	close((<-d.out.held).release)
	same(t, "what begins after the roll-back", d.output(begun), `{"v":1}`)
	close(h.release)
	same(t, "what ran through both", d.output(running), `{"v":1}`)
	same(t, "its version", d.becomes(running, "completed").Version, 1)
}

// driveEnd removes an instance: its flow runs, and then nothing of it is left.
func driveEnd(d *drive) {
	t := d.t
	i := d.put(version("end", "      - {id: rest, wait: {for: PT10M}}\n",
		"  bye:\n    trigger: {remove: {}}\n    steps: [{id: a, uses: api.request, with: {method: POST, path: /bye, body: {type: \"${{ trigger.type }}\", name: \"${{ customer.name }}\"}}}]\n",
		"  hourly:\n    trigger: {schedule: {every: PT1H}}\n    steps: [{id: a, set: 1}]\n"), nil)
	url := d.hook(i, "main")
	waiting := d.send("POST", url, `{}`).execution(t)
	d.becomes(waiting, "waiting")
	if err := d.Remove(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	d.becomes(waiting, "cancelled")
	d.eventually("the end of its webhook", func() bool { return d.send("POST", url, `{}`).status == 404 })
	d.eventually("the flow with a remove trigger", func() bool { return len(d.out.bodies("/bye")) > 0 })
	d.eventually("the end of the instance", func() bool {
		_, err := d.Instance(t.Context(), i)
		return err != nil
	})
	same(t, "what the remove flow sent", fmt.Sprint(d.out.bodies("/bye")), `[{"type":"remove","name":"This machine"}]`)
	if _, err := d.HookURL(t.Context(), i, "main"); err == nil {
		t.Error("a removed instance has an address")
	}
	same(t, "its executions, which stay listed", len(d.of(i, "main")), 1)
}

// driveDeploy deploys what has an initial load: it begins when everything is there, and once.
func driveDeploy(d *drive) {
	t := d.t
	const load = "  load:\n    trigger: {deploy: {}}\n    steps: [{id: a, uses: api.request, with: {method: POST, path: /load, body: {type: \"${{ trigger.type }}\", name: \"${{ customer.name }}\"}}}]\n"
	i := d.put(version("deployed", "      - {id: out, return: {v: 1}}\n", load), nil)
	d.eventually("the initial load", func() bool { return len(d.out.bodies("/load")) > 0 })
	x, err := d.Instance(t.Context(), i)
	if err != nil || len(x.Schedules) != 0 {
		t.Errorf("the instance shows schedules: %+v, %v", x.Schedules, err)
	}
	if _, err := d.Publish(t.Context(), api.PublishRequest{Source: "bulkhead: 1\n" + version("deployed", "      - {id: out, return: {v: 2}}\n", load)}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Upgrade(t.Context(), i, 0, api.UpgradeRequest{}); err != nil {
		t.Fatal(err)
	}
	// It waits for what is missing.
	without, err := d.ChangeInstance(t.Context(), i, 0, api.InstanceChange{Slots: map[string]id.Connection{}})
	if err != nil || without.State != "needs_connection" {
		t.Fatalf("without its connection: %+v, %v", without, err)
	}
	if with, err := d.ChangeInstance(t.Context(), i, 0, api.InstanceChange{Slots: x.Slots}); err != nil || with.State != "enabled" {
		t.Fatalf("with its connection: %+v, %v", with, err)
	}
	same(t, "what begins after the upgrade", d.output(d.send("POST", d.hook(i, "main"), `{}`).execution(t)), `{"v":2}`)
	same(t, "initial loads", fmt.Sprint(d.out.bodies("/load")), `[{"type":"deploy","name":"This machine"}]`)
	list := d.of(i, "load")
	if len(list) != 1 || list[0].Trigger != "deploy" {
		t.Errorf("executions of the initial load: %+v", list)
	}
}
