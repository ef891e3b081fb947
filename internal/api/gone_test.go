package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// A client that goes away while the vault is asked leaves nothing half done: no credential without its connection, no instance
// that the vault alone knows, and with the same key it gets the answer that it did not wait for.
func TestClientsThatGoAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	// abandon sends a request whose client goes away when the vault is asked for an operation.
	abandon := func(op, method, path, body string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.vault.mu.Lock()
		w.vault.asked = func(o string) {
			if o == op {
				cancel()
			}
		}
		w.vault.mu.Unlock()
		r := httptest.NewRequest(method, Prefix+path, strings.NewReader(body)).WithContext(ctx)
		r.Header.Set("Authorization", "Bearer "+w.tokens[RoleAdmin])
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(headerKey, "of "+op)
		w.public.ServeHTTP(httptest.NewRecorder(), r)
		if ctx.Err() == nil {
			t.Fatalf("%s %s does not ask the vault for %s", method, path, op)
		}
		w.vault.mu.Lock()
		w.vault.asked = nil
		w.vault.mu.Unlock()
	}
	credentials := len(w.vault.records)
	connection := `{"customer": "c-1", "name": "second", "kind": "bearer", "url": "https://api.example.com", "fields": {"token": "t"}}`
	abandon(lease.OpConnection, http.MethodPost, "/connections", connection)
	list := ask[Page[Connection]](w, call{method: "GET", path: Prefix + "/connections?customer=c-1"}).Items
	if len(list) != 2 || len(w.vault.records) != credentials+1 {
		t.Fatalf("%d connections, %d credentials more", len(list), len(w.vault.records)-credentials)
	}
	a := w.send(call{method: "POST", path: Prefix + "/connections", body: connection, header: map[string]string{headerKey: "of " + lease.OpConnection}})
	var again Connection
	if err := json.Unmarshal(a.Body.Bytes(), &again); err != nil || a.Header().Get("Idempotency-Replayed") != "true" || w.vault.records[again.ID] == nil {
		t.Errorf("asked again: %d %s, %v", a.Code, a.Body, err)
	}

	abandon(lease.OpConnectionDelete, http.MethodDelete, "/connections/"+s.connection.ID.String(), "")
	w.refused(call{method: "GET", path: Prefix + "/connections/" + s.connection.ID.String()}, CodeNotFound)
	if i := ask[Instance](w, call{method: "GET", path: Prefix + "/instances/" + s.instance.ID.String()}); i.State != "needs_connection" {
		t.Errorf("the instance is %s", i.State)
	}
}
