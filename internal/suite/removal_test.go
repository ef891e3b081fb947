package suite

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// crmFinds is the connector of crm, as it is of a provider that does not recognise a repeated request, and lists subscriptions.
var crmFinds = strings.NewReplacer(
	"  createHook: {method: POST,", "  listHooks: {method: GET, path: /hooks}\n  createHook: {idempotency: {unsafe: true}, method: POST,",
	"      id: id\n", "      find: {action: listHooks, url: target, id: id}\n      id: id\n",
).Replace(crmManifest)

// TestARemovalEndsWhatItNeverKnew kills the worker when the provider has made a subscription and not answered, and removes the
// instance before the call is repeated: nobody knows the subscription's id, and it is ended.
func TestARemovalEndsWhatItNeverKnew(t *testing.T) {
	t.Parallel()
	needSystem(t)
	c := newCRM(t)
	c.manifest = crmFinds
	release := make(chan struct{})
	var held atomic.Bool
	c.after = func(r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/hooks" && held.CompareAndSwap(false, true) {
			<-release
		}
	}
	t.Cleanup(func() { close(release) })
	d := newDrive(t, startSystem(t, false))
	i := d.deployCRM(crmFlows, c)
	d.eventually("a subscription that nobody knows", func() bool { return len(c.subscriptions()) == 1 })
	if _, err := d.Pause(t.Context(), i); err != nil { // so that the call is not repeated
		t.Fatal(err)
	}
	d.kill("worker", boundTo("crm-notes"))
	list := d.of(i, "paid$subscribe")
	if len(list) != 1 {
		t.Fatalf("%d executions subscribe", len(list))
	}
	d.becomes(list[0].ID, "pending")
	if err := d.Client.Remove(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	d.eventually("no subscription", func() bool { return len(c.subscriptions()) == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	same(t, "calls that made one", c.made, 1)
}
