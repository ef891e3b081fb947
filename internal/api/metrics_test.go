package api

import (
	"regexp"
	"strings"
	"testing"
)

// Labels hold nothing of customers: no id, no name, no address.
func TestMetricsHoldNoCustomerData(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) {
		o.Health = Health{Roles: func() []RoleFacts { return []RoleFacts{{Role: "vault", Up: true, Restarts: 2, Memory: 1 << 20}} }}
	})
	s := w.scene()
	ask[Customer](w, call{method: "GET", path: Prefix + "/customers/c-1"})
	get := call{method: "GET", path: "/metrics", token: w.tokens[RoleViewer]}
	text := w.send(get).Body.String()
	for _, want := range []string{
		"bulkhead_pending_executions 1", "bulkhead_accepted_total 1", `bulkhead_role_restarts_total{role="vault"} 2`, `bulkhead_role_up{role="vault"} 1`,
		`bulkhead_api_request_seconds_count{route="get-customer",status="200"} 1`, "bulkhead_ready 1", "bulkhead_notices_unseen 1", "bulkhead_refreshes_due 0", "bulkhead_refreshes_overdue 0", "bulkhead_refreshes_overdue_customers 0", "bulkhead_refreshes_ordered 0", "bulkhead_oldest_refresh_due_seconds 0",
		`bulkhead_refreshes_total{outcome="saved"} 0`, `bulkhead_refreshes_total{outcome="lost_answer"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, foreign := range []string{"c-1", "hello", "One", s.customer.ID.String(), s.instance.ID.String(), "shop", canary} {
		if strings.Contains(text, foreign) {
			t.Errorf("metrics hold %s", foreign)
		}
	}
	labels := map[string]bool{"role": true, "route": true, "status": true, "type": true, "le": true, "quantile": true, "version": true, "outcome": true}
	for _, m := range regexp.MustCompile(`[{,](\w+)="`).FindAllStringSubmatch(text, -1) {
		if !labels[m[1]] {
			t.Errorf("label %s", m[1])
		}
	}
	get.token = "none"
	w.refused(get, CodeUnauthenticated)
}
