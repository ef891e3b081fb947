package api

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// bodies are valid bodies of the routes that have one, about the scene.
func (s *scene) bodies(key []byte) map[string]any {
	view := id.View{1}
	return map[string]any{
		"upsert-customer":         map[string]any{"external_id": "c-1"},
		"put-customer":            map[string]any{"name": "stolen"},
		"change-customer":         map[string]any{"name": "stolen"},
		"validate-integration":    map[string]any{"source": sample},
		"publish-integration":     map[string]any{"source": sample},
		"put-draft":               map[string]any{"source": sample},
		"make-connection":         map[string]any{"customer": s.customer.ID, "kind": "none", "url": "https://evil.example.com"},
		"put-connection":          map[string]any{"customer": s.customer.ID, "kind": "none", "url": "https://evil.example.com"},
		"deploy-instance":         map[string]any{"customer": s.customer.ID, "integration": s.version.Integration, "slots": map[string]any{"shop": s.connection.ID}},
		"put-instance":            map[string]any{"customer": s.customer.ID, "integration": s.version.Integration, "slots": map[string]any{"shop": s.connection.ID}},
		"change-instance":         map[string]any{"in_flight_cap": 1},
		"upgrade-instance":        map[string]any{},
		"rotate-hook":             map[string]any{},
		"start-execution":         map[string]any{"flow": "main"},
		"skip-wait":               map[string]any{},
		"replay-execution":        map[string]any{},
		"retry-executions":        map[string]any{"query": map[string]any{"customer": s.customer.ID}},
		"replay-executions":       map[string]any{"query": map[string]any{"customer": s.customer.ID}},
		"read-execution":          map[string]any{"view": view, "key": key, "what": "event"},
		"read-instance":           map[string]any{"view": view, "key": key, "what": "config"},
		"test-draft":              map[string]any{"customer": s.customer.ID, "source": sample, "flow": "main", "view": view, "key": key},
		"list-choices":            map[string]any{"action": "listOrders", "input": "of"},
		"get-input-schema":        map[string]any{"action": "listOrders", "input": "of"},
		"list-options":            map[string]any{"variable": "greeting"},
		"rename-connection":       map[string]any{"name": "stolen"},
		"put-connection-template": map[string]any{"connector": "acme", "customers": []string{"*"}, "fields": map[string]string{"client_id": "a", "client_secret": "b"}},
		"make-connect-link":       map[string]any{"customer": s.customer.ID, "connector": "acme"},
		"plan-revocation":         map[string]any{"customer": s.customer.ID},
		"revoke-connections":      map[string]any{"customer": s.customer.ID},
		"make-token":              map[string]any{"name": "t", "role": "viewer"},
	}
}

// fill writes the ids of the scene into the path of a route.
func (s *scene) fill(path string, token id.Token) string {
	return Prefix + strings.NewReplacer(
		"{customer}", s.customer.ID.String(), "{integration}", s.version.Integration.String(), "{version}", "1", "{connection}", s.connection.ID.String(),
		"{instance}", s.instance.ID.String(), "{flow}", "hook", "{execution}", s.execution.String(), "{token}", token.String(),
		"{template}", s.template.ID.String(), "{link}", s.link.ID.String(), "{notice}", s.notice.String(),
	).Replace(path)
}

// Every route, asked by an administrator of another organization about what is here, finds
// nothing, says what it says about ids that never existed, and changes nothing.
func TestForeignIDsAreNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	token := ask[Page[Token]](w, call{method: "GET", path: "/api/v1/tokens"}).Items[0].ID
	key := make([]byte, 32)
	key[0] = 9
	before := w.everything(s)
	tried := 0
	for _, r := range w.server.routes() {
		path := s.fill(r.path, token)
		foreign := path != Prefix+r.path || strings.Contains(r.id, "-executions") || r.id == "make-connection" || r.id == "make-connect-link" || r.id == "plan-revocation" || r.id == "revoke-connections" || r.id == "deploy-instance"
		if !foreign || r.id == "list-executions" {
			continue
		}
		tried++
		w.refused(call{method: r.method, path: path, body: s.bodies(key)[r.id], token: w.other}, CodeNotFound)
	}
	if tried < 25 {
		t.Errorf("only %d routes were tried", tried)
	}
	for _, path := range []string{"customers", "integrations", "instances", "connections", "executions", "connection-templates", "connect-links", "notices"} {
		if p := ask[Page[struct{}]](w, call{method: "GET", path: Prefix + "/" + path, token: w.other}); len(p.Items) != 0 {
			t.Errorf("%s of another organization: %d", path, len(p.Items))
		}
	}
	w.refused(call{method: "GET", path: Prefix + "/executions?customer=" + s.customer.ID.String(), token: w.other}, CodeNotFound)
	if d := cmp.Diff(before, w.everything(s)); d != "" {
		t.Errorf("another organization has changed something:\n%s", d)
	}
}

// everything is what the owner sees of the scene.
func (w *world) everything(s *scene) map[string]string {
	out := map[string]string{}
	for _, path := range []string{
		"/customers", "/integrations", "/connections", "/instances", "/executions", "/instances/" + s.instance.ID.String(),
		"/connection-templates", "/connect-links", "/notices", "/brand",
		"/integrations/hello/versions",
	} {
		out[path] = w.send(call{method: "GET", path: Prefix + path}).Body.String()
	}
	return out
}

// No route returns a credential, config or an event, and nothing of them is logged; the
// answer that makes a token is the only one that holds its secret.
func TestNoRouteReturnsASecret(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newWorld(t, func(o *Options) {
		o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s := w.scene()
	made := ask[NewToken](w, call{method: "POST", path: Prefix + "/tokens", body: map[string]any{"name": "t", "role": "viewer"}})
	if !strings.HasPrefix(made.Secret, "bhk_") {
		t.Fatalf("token = %+v", made)
	}
	n := 0
	for _, r := range w.server.routes() {
		if r.method != http.MethodGet {
			continue
		}
		n++
		a := w.send(call{method: "GET", path: s.fill(r.path, made.ID)})
		for _, secret := range []string{canary, s.secret(), made.Secret, made.Secret[len(made.Secret)-20:], "sealed config"} {
			if strings.Contains(a.Body.String(), secret) {
				t.Errorf("%s returns a secret: %s", r.path, a.Body)
			}
		}
	}
	if n < 12 {
		t.Errorf("%d routes", n)
	}
	// What is wrong with a request is told without what was sent.
	for _, body := range []string{
		`{"customer":"c-1","kind":"bearer","url":"https://x","fields":{"token":["` + canary + `"]}}`,
		`{"customer":"c-1","kind":"` + canary + `","url":"https://x"}`,
		`{"customer":"c-1","kind":"bearer","url":"https://x","fields":{"tokne":"` + canary + `"}}`,
		`{"customer":"c-1","kind":"bearer","fields":{"token":"` + canary + `"},"fields":{}}`,
		`{"customer":"c-1","kind":"bearer","fields":{"token":"` + canary + `"`,
	} {
		if a := w.send(call{method: "POST", path: Prefix + "/connections", body: body}); a.Code < 400 || strings.Contains(a.Body.String(), canary) {
			t.Errorf("%s: %d %s", body, a.Code, a.Body)
		}
	}
	for _, config := range []any{map[string]any{"greeting": []string{canary}}, []string{canary}} {
		a := w.send(call{method: "POST", path: Prefix + "/instances", body: map[string]any{"customer": "c-1", "integration": "hello", "config": config}})
		if a.Code < 400 || strings.Contains(a.Body.String(), canary) {
			t.Errorf("%v: %d %s", config, a.Code, a.Body)
		}
	}
	if text := log.String(); strings.Contains(text, canary) || strings.Contains(text, made.Secret) || !strings.Contains(text, "make-token") {
		t.Errorf("log holds a secret, or nothing: %s", text)
	}
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := ask[NewToken](w, call{method: "POST", path: Prefix + "/tokens", body: map[string]any{"name": "t", "role": "viewer"}})
	get := call{method: "GET", path: Prefix + "/server", token: made.Secret}
	if info := ask[ServerInfo](w, get); info.Role != RoleViewer || info.Organization != w.org || len(info.VaultKey) != 32 {
		t.Errorf("server = %+v", info)
	}
	if a := w.send(call{method: "DELETE", path: Prefix + "/tokens/" + made.ID.String()}); a.Code != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", a.Code, a.Body)
	}
	w.refused(get, CodeUnauthenticated)
	w.refused(call{method: "GET", path: Prefix + "/server", token: w.token(w.org, RoleAdmin, -1)}, CodeUnauthenticated)
	// The id of a valid token with another's secret.
	own, other := strings.Split(w.tokens[RoleViewer], "_"), strings.Split(w.tokens[RoleAdmin], "_")
	w.refused(call{method: "GET", path: Prefix + "/server", token: other[0] + "_" + other[1] + "_" + strings.Join(own[2:], "_")}, CodeUnauthenticated)
}
