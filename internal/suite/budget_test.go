package suite

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/role"
)

// manyCalls calls a service as often as the event says.
const manyCalls = `bulkhead: 1
integration: suite
title: Suite
connections:
  shop: {connector: http, title: Shop}
flows:
  main:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: all
        for: {each: "${{ trigger.body.calls }}", as: n, parallel: 4}
        steps:
          - {id: call, uses: shop.request, with: {method: POST, path: /x, body: {n: "${{ n }}"}}}
`

// TestBudgetOfALease uses a leased credential for more requests, and for more bytes, than its lease allows.
func TestBudgetOfALease(t *testing.T) {
	t.Parallel()
	needSystem(t)
	const (
		calls  = 60
		answer = 50 << 10
		atOnce = 4 // as the flow says
	)
	for name, c := range map[string]struct {
		requests, bytes uint64
		most            int64 // requests that come through
		limited         bool
	}{
		"requests": {20, 0, 20, true},
		"bytes":    {0, 1 << 20, 1<<20/answer + atOnce, true}, // those that are under way at the limit are cut off
		"red twin": {0, 0, calls, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var came atomic.Int64
			shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "Bearer token-of-the-shop" {
					came.Add(1)
				}
				reply(w, http.StatusOK, map[string]any{"text": strings.Repeat("x", answer)})
			}))
			t.Cleanup(shop.Close)
			s := startService(t, func(cfg *role.Config) { cfg.LeaseRequests, cfg.LeaseBytes = c.requests, c.bytes })
			_, i := s.deploy(manyCalls, nil, map[string]account{"shop": bearer(shop.URL, "token-of-the-shop")})
			e := s.run(i, "main", map[string]any{"calls": make([]int, calls)})
			if limited := e.status == "faulted" && e.errorType == "limit"; limited != c.limited {
				t.Errorf("it ends as %s %s: %s", e.status, e.errorType, e.output)
			}
			if n := came.Load(); n > c.most || n < c.most/2 {
				t.Errorf("%d requests with the credential came, want at most %d, and not many fewer", n, c.most)
			}
			t.Logf("%d of %d requests came; %s %s", came.Load(), calls, e.status, e.errorType)
		})
	}
}
