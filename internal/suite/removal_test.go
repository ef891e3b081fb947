package suite

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// crmRepeats is the connector of crm, as it is of a provider that does not recognise a repeated request; crmFinds of one that
// lists subscriptions too.
var (
	crmRepeats = strings.ReplaceAll(crmManifest, "  createHook: {method: POST,", "  createHook: {idempotency: {unsafe: true}, method: POST,")
	crmFinds   = strings.NewReplacer(
		"  createHook:", "  listHooks: {method: GET, path: /hooks}\n  createHook:",
		"      id: id\n", "      find: {action: listHooks, url: target, id: id}\n      id: id\n",
	).Replace(crmRepeats)
)

// cutOff kills the worker when the provider has made a subscription and not answered, and removes the instance before the call
// is repeated: nobody knows the subscription's id.
func cutOff(t *testing.T, manifest string) (*drive, *crm, id.Instance) {
	t.Helper()
	needSystem(t)
	c := newCRM(t)
	c.manifest = manifest
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
	d.killAll("worker") // which one it is, its memory says, which cannot be read in a container
	list := d.of(i, "paid"+flow.SubscribeSuffix)
	if len(list) != 1 {
		t.Fatalf("%d executions subscribe", len(list))
	}
	d.becomes(list[0].ID, "pending")
	if err := d.Client.Remove(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	return d, c, i
}

func TestARemovalEndsWhatItNeverKnew(t *testing.T) {
	t.Parallel()
	d, c, _ := cutOff(t, crmFinds)
	d.eventually("no subscription", func() bool { return len(c.subscriptions()) == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	same(t, "calls that made one", c.made, 1)
}

// Where the provider lists nothing, the removed instance's executions say what may be left there.
func TestARemovalTellsWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	d, c, i := cutOff(t, crmRepeats)
	d.eventually("the end of the instance", func() bool {
		_, err := d.Instance(t.Context(), i)
		return err != nil
	})
	list := d.of(i, "paid"+flow.UnsubscribeSuffix)
	if len(list) != 1 || list[0].Status != "faulted" || list[0].ErrorType != flow.TypeSubscriptionLeft {
		t.Fatalf("the executions of the removal are %+v", list)
	}
	same(t, "subscriptions at the provider", len(c.subscriptions()), 1)
}
