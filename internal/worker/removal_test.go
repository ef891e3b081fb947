package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// provider is the other side of subscriptions: it makes one for every request, and lists them.
type provider struct {
	made  int
	alive map[string]string // address by id
	list  *wire.Response    // instead of the list
	end   *wire.Response    // instead of ending one
}

func (p *provider) serve(h *host) func(*wire.Request) *wire.Response {
	p.alive = map[string]string{}
	return func(r *wire.Request) *wire.Response {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch r.Method {
		case "POST":
			p.made++
			name := fmt.Sprintf("h%d", p.made)
			_, rest, _ := strings.Cut(string(r.Body), `"target":"`)
			p.alive[name], _, _ = strings.Cut(rest, `"`)
			return jsonAnswer(200, `{"hook":{"id":"`+name+`"}}`)
		case "GET":
			if p.list != nil {
				return p.list
			}
			list := `{"id":"another","to":{"url":"https://me.example/hooks/z"}},{"id":"bare"}`
			for name, url := range p.alive {
				list += `,{"id":"` + name + `","to":{"url":"` + url + `"}}`
			}
			return jsonAnswer(200, `{"all":[`+list+`]}`)
		case "DELETE":
			name := strings.TrimPrefix(r.Path, "/hooks/")
			if p.end != nil {
				return p.end
			}
			if _, ok := p.alive[name]; !ok {
				return refusal("not-found", 404)
			}
			delete(p.alive, name)
		}
		return jsonAnswer(200, `{}`)
	}
}

// stay gives an execution to a worker once, however that ends.
func (h *host) stay(e id.Execution) outcomeOf {
	l := h.start()
	l.give(e)
	h.released(e)
	_ = l.stop()
	return h.result(e)
}

// through has an execution run until it ends. Whatever it waits for comes.
func (h *host) through(flowName, event string) outcomeOf {
	h.t.Helper()
	e := h.add(flowName, event)
	for range 10 {
		if got := h.stay(e); got.Status != 0 && got.Status != wire.StatusWaiting {
			return got
		}
		h.mu.Lock()
		waits := h.runs[e].waits
		h.mu.Unlock()
		if len(waits) > 0 {
			h.wake(e, waits[len(waits)-1].Path, wire.WakeTimer, [16]byte{}, "")
		}
	}
	h.t.Fatalf("%s does not end", flowName)
	return outcomeOf{}
}

// known is how many values the state has.
func (h *host) known() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, c := range h.state {
		if len(c.value) > 0 {
			n++
		}
	}
	return n
}

const unsubscribed = `{"body":null}`

// However the flow that makes a subscription is cut off for good, its removal leaves none where the other side lists them, and
// says so where it does not and one may be left.
func TestARemovalEndsWhatACutOffCallHasLeft(t *testing.T) {
	t.Parallel()
	for _, trigger := range []string{"found", "changed"} {
		told, cuts := 0, 0
		for cut := 1; cut < 14; cut++ {
			for _, how := range []cutting{lose, loseAck} {
				h, p := hooked(t, trigger), &provider{}
				h.egress = p.serve(h)
				h.cut = func(n int, _ *wire.Append) cutting {
					if n == cut {
						return how
					}
					return goOn
				}
				if got := h.stay(h.add("main$subscribe", subscribed)); got.Status == 0 {
					cuts++
				}
				h.cut = nil
				made, left := p.made, len(p.alive)
				got := h.through("main$unsubscribe", unsubscribed)
				switch {
				case trigger == "found" && (got.Status != wire.StatusCompleted || len(p.alive) > 0):
					t.Errorf("append %d %v: %d are left: %+v", cut, how, len(p.alive), got)
				case trigger == "changed" && len(p.alive) > 0 && got.Type != flow.TypeSubscriptionLeft:
					t.Errorf("append %d %v: %d are left of %d, %d before, and nobody is told: %+v", cut, how, len(p.alive), made, left, got)
				case got.Type == flow.TypeSubscriptionLeft:
					told++
					if !strings.Contains(got.Output, "at acme") || !strings.Contains(got.Output, "https://me.example/hooks/x") {
						t.Errorf("append %d %v: it does not say where: %s", cut, how, got.Output)
					}
				case got.Status != wire.StatusCompleted:
					t.Errorf("append %d %v: %+v", cut, how, got)
				}
				if n := h.known(); n > 0 {
					t.Errorf("append %d %v: %d values are left in the state", cut, how, n)
				}
			}
		}
		if cuts < 6 || (told > 0) != (trigger == "changed") {
			t.Errorf("%s: %d were cut off, %d told of it", trigger, cuts, told)
		}
	}
}

// lost makes a subscription whose id is in an answer that nobody takes.
func lost(t *testing.T, trigger string) (*host, *provider) {
	t.Helper()
	h, p := hooked(t, trigger), &provider{}
	h.egress = p.serve(h)
	h.cut = func(int, *wire.Append) cutting {
		h.mu.Lock()
		defer h.mu.Unlock()
		if p.made > 0 {
			return lose
		}
		return goOn
	}
	if got := h.stay(h.add("main$subscribe", subscribed)); got.Status != 0 || len(p.alive) != 1 {
		t.Fatalf("%+v, %d are there", got, len(p.alive))
	}
	h.cut = nil
	return h, p
}

func TestARemovalLooksTwice(t *testing.T) {
	t.Parallel()
	h, p := lost(t, "found")
	serve := h.egress
	h.egress = func(r *wire.Request) *wire.Response { // another call arrives when the list was given
		answer := serve(r)
		if r.Method == "GET" && p.made == 1 {
			serve(&wire.Request{Method: "POST", Body: []byte(`{"target":"https://me.example/hooks/x"}`)})
		}
		return answer
	}
	if got := h.through("main$unsubscribe", unsubscribed); got.Status != wire.StatusCompleted || len(p.alive) > 0 || p.made != 2 {
		t.Errorf("%+v, %d of %d are left", got, len(p.alive), p.made)
	}
}

// What cannot be listed or ended is told, with nothing left in the state. A service that is down for a moment is asked again.
func TestARemovalTellsWhatItCannotEnd(t *testing.T) {
	t.Parallel()
	later := refusal("upstream", 503)
	later.Definite = false
	for name, c := range map[string]struct {
		set  func(*provider)
		told bool
	}{
		"no list":      {func(p *provider) { p.list = refusal("auth", 403) }, true},
		"not ended":    {func(p *provider) { p.end = refusal("auth", 403) }, true},
		"always later": {func(p *provider) { p.list = later }, true},
		"all is well":  {func(*provider) {}, false},
	} {
		h, p := lost(t, "found")
		c.set(p)
		got := h.through("main$unsubscribe", unsubscribed)
		if told := got.Type == flow.TypeSubscriptionLeft; told != c.told || !told && got.Status != wire.StatusCompleted || h.known() > 0 {
			t.Errorf("%s: %+v, %d values are left", name, got, h.known())
		}
	}
	h, p := lost(t, "found")
	p.list = later
	serve := h.egress
	h.egress = func(r *wire.Request) *wire.Response {
		defer func() {
			h.mu.Lock()
			p.list = nil
			h.mu.Unlock()
		}()
		return serve(r)
	}
	if got := h.through("main$unsubscribe", unsubscribed); got.Status != wire.StatusCompleted || len(p.alive) > 0 {
		t.Errorf("a service that was down: %+v, %d are left", got, len(p.alive))
	}
}

// A subscription that is made elsewhere ends what was left at the place before it, and is taken back as every other.
func TestWhatIsLeftIsEndedAlsoElsewhere(t *testing.T) {
	t.Parallel()
	h, p := lost(t, "found")
	elsewhere := strings.ReplaceAll(subscribed, "hooks/x", "hooks/y")
	for range 2 {
		if got := h.through("main$subscribe", elsewhere); got.Status != wire.StatusCompleted || len(p.alive) != 1 || p.alive["h2"] != "https://me.example/hooks/y" {
			t.Fatalf("%+v: %v", got, p.alive)
		}
	}
	asked := len(h.asked())
	if got := h.through("main$unsubscribe", unsubscribed); got.Status != wire.StatusCompleted || len(p.alive) > 0 {
		t.Errorf("%+v: %v", got, p.alive)
	}
	if got := strings.Join(h.asked()[asked:], ", "); got != "DELETE /hooks/h2" {
		t.Errorf("what is known for sure is taken back by %s", got)
	}
}

func TestWhatWasNeverKnownIsNotRenewed(t *testing.T) {
	t.Parallel()
	h, _ := lost(t, "changed")
	asked := len(h.asked())
	if got := h.through("main$renew", unsubscribed); got.Status != wire.StatusCompleted || len(h.asked()) != asked {
		t.Errorf("%+v: %v", got, h.asked()[asked:])
	}
}

// What may be left at the address before is ended when the address changes. Where that does not go, it is told on removal, for each
// address, also when it is the only one.
func TestAnAddressBeforeIsNotForgotten(t *testing.T) {
	t.Parallel()
	for trigger, told := range map[string]bool{"changed": true, "found": false, "found, and cannot be listed": true} {
		name, fails, _ := strings.Cut(trigger, ",")
		h, p := lost(t, name)
		if fails != "" {
			p.list = refusal("auth", 403)
		}
		for _, at := range []string{"hooks/y", "hooks/z"} {
			if got := h.through("main$subscribe", strings.ReplaceAll(subscribed, "hooks/x", at)); got.Status != wire.StatusCompleted {
				t.Fatalf("%s: %+v", trigger, got)
			}
		}
		p.list = nil
		got := h.through("main$unsubscribe", unsubscribed)
		if (got.Type == flow.TypeSubscriptionLeft) != told || told != strings.Contains(got.Output, "https://me.example/hooks/x") || strings.Contains(got.Output, "hooks/z") || h.known() > 0 {
			t.Errorf("%s: %+v, %d values are left", trigger, got, h.known())
		}
		if left := len(p.alive); left > 0 != told {
			t.Errorf("%s: %d are left", trigger, left)
		}
	}
}
