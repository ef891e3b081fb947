package api

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestScene(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	if s.instance.State != "enabled" || s.instance.Version != 1 || s.instance.Slots["shop"] != s.connection.ID {
		t.Errorf("instance = %+v", s.instance)
	}
	if got := string(w.vault.configs[s.instance.ID]); got != `{"greeting":"`+canary+`"}` {
		t.Errorf("config = %s", got)
	}
	if r := w.vault.records[s.connection.ID]; r == nil || string(r.Fields[0].Secret) != canary || r.Binding.BasePath != "/v1" {
		t.Errorf("record = %+v", r)
	}
	x := ask[Execution](w, call{method: "GET", path: "/api/v1/executions/" + s.execution.String()})
	if x.Flow != "main" || x.Integration != "hello" || x.Version != 1 || x.Status != "pending" || !x.Test {
		t.Errorf("execution = %+v", x)
	}
	for _, path := range []string{"c-1", s.customer.ID.String()} {
		if c := ask[Customer](w, call{method: "GET", path: "/api/v1/customers/" + path}); c.ID != s.customer.ID || c.Name != "One" {
			t.Errorf("customer %s = %+v", path, c)
		}
	}
}

// Every part of a path is a parameter that is read: one that is not would be zero.
func TestEveryPathIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := w.server.api()
	part := regexp.MustCompile(`\{(\w+)\}`)
	n := 0
	for path, item := range a.OpenAPI().Paths {
		for _, m := range part.FindAllStringSubmatch(path, -1) {
			for method, op := range map[string]*opParams{"GET": params(item.Get), "PUT": params(item.Put), "POST": params(item.Post), "PATCH": params(item.Patch), "DELETE": params(item.Delete)} {
				if op == nil {
					continue
				}
				if n++; !slices.Contains(op.path, m[1]) {
					t.Errorf("%s %s does not read %s", method, path, m[1])
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("%d parts", n)
	}
}

// The table of routes decides who may do what: every route and role is tried.
func TestEveryRouteAndRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, r := range w.server.routes() {
		path := Prefix + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(r.path, "x")
		if r.permission == "" {
			t.Errorf("%s %s has no permission", r.method, r.path)
		}
		for _, role := range []Role{RoleAdmin, RoleOperator, RoleBuilder, RoleViewer} {
			a := w.send(call{method: r.method, path: path, token: w.tokens[role]})
			if refused, want := a.Code == http.StatusForbidden, !slices.Contains(Grants(role), r.permission); refused != want {
				t.Errorf("%s %s as %s: %d, want refused %v", r.method, path, role, a.Code, want)
			}
		}
		for _, token := range []string{"none", "bhk_x_y", strings.Replace(w.tokens[RoleAdmin], "_", "-", 1), w.tokens[RoleAdmin] + "A"} {
			w.refused(call{method: r.method, path: path, token: token}, CodeUnauthenticated)
		}
	}
	if Grants("nobody") != nil {
		t.Error("a role that does not exist may do something")
	}
	// Who may do what, in one place: a change of the table shows here.
	got := map[Role]int{}
	for _, r := range w.server.routes() {
		for _, role := range []Role{RoleAdmin, RoleOperator, RoleBuilder, RoleViewer} {
			if slices.Contains(Grants(role), r.permission) {
				got[role]++
			}
		}
	}
	if n := len(w.server.routes()); got[RoleAdmin] != n || got[RoleViewer] >= got[RoleBuilder] || got[RoleOperator] >= n {
		t.Errorf("of %d routes: %v", n, got)
	}
}

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/", "/api/v1/nothing", "/api/v2/customers", "/callbacks/", "/callbacks/a/b", "/hooks/x"} {
		w.refused(call{method: "POST", path: path, token: "none"}, CodeNotFound)
	}
	w.refused(call{method: "DELETE", path: "/api/v1/customers"}, CodeMethod)
	if allow := w.send(call{method: "DELETE", path: "/api/v1/customers"}).Header().Values("Allow"); fmt.Sprint(allow) != "[GET POST]" {
		t.Errorf("allow = %v", allow)
	}
}
