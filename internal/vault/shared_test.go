package vault

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// A record that is shared for an action says what the requests of that action are: a name alone would mean whatever somebody says later.
func TestSharedActionsHaveTemplates(t *testing.T) {
	t.Parallel()
	customer, connection := id.NewCustomer(time.Now()), id.NewConnection(time.Now())
	for name, c := range map[string]struct {
		action lease.SharedAction
		good   bool
	}{
		"whole":        {lease.SharedAction{Name: "list", Method: "GET", Path: "/orders/{id}"}, true},
		"the base":     {lease.SharedAction{Name: "list", Method: "POST"}, true},
		"any request":  {lease.AnyRequest([]string{"request"})[0], true},
		"a name alone": {lease.SharedAction{Name: "list"}, false},
		"no name":      {lease.SharedAction{Method: "GET", Path: "/orders"}, false},
		"no path":      {lease.SharedAction{Name: "list", Method: "GET", Path: "orders"}, false},
		"a long path":  {lease.SharedAction{Name: "list", Method: "GET", Path: "/" + strings.Repeat("x", maxPath)}, false},
	} {
		r := bearer(customer, connection, "token", lease.SharedWithAll)
		r.SharedFor = []lease.SharedAction{c.action}
		if err := checkRecord(r, &lease.ConnectionCall{Customer: customer, Connection: connection}); (err == nil) != c.good || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
