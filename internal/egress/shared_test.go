package egress

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestTemplatesOfSharedActions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		action   lease.SharedAction
		requests string // method and path each
		want     bool
	}{
		{lease.SharedAction{Method: "GET", Path: "/orders"}, "GET /v2/orders, GET /v2/%6Frders", true},
		{lease.SharedAction{Method: "GET", Path: "/orders"}, "POST /v2/orders, HEAD /v2/orders, GET /v2/Orders, GET /v2/orders/, GET /v2/orders/1, GET /v2, GET /v2/x/orders, GET /orders", false},
		{lease.SharedAction{Method: "GET", Path: "/orders/{id}/lines"}, "GET /v2/orders/1/lines, GET /v2/orders/a%20b/lines, GET /v2/orders/a:b;c/lines, GET /v2/orders/%7Bid%7D/lines", true},
		{lease.SharedAction{Method: "GET", Path: "/orders/{id}/lines"}, "GET /v2/orders//lines, GET /v2/orders/1/2/lines, GET /v2/orders/1/lines/2, GET /v2/orders/1%2F2/lines, GET /v2/orders/1%252F2/lines, GET /v2/orders/1%5C2/lines, GET /v2/orders/1/notes, GET /v2/orders/lines", false},
		{lease.SharedAction{Method: "POST", Path: "/users('{id}')/mail.send"}, "POST /v2/users('a')/mail.send, POST /v2/users(%27a%27)/mail.send", true},
		{lease.SharedAction{Method: "POST", Path: "/users('{id}')/mail.send"}, "POST /v2/users('')/mail.send, POST /v2/users(a)/mail.send, POST /v2/users('a')/mailxsend", false},
		{lease.SharedAction{Method: "GET", Path: "/files/{path+}/meta"}, "GET /v2/files/a/meta, GET /v2/files/a/b/meta, GET /v2/files/a%2Fb/meta", true},
		{lease.SharedAction{Method: "GET", Path: "/files/{path+}/meta"}, "GET /v2/files/meta, GET /v2/files/a/b, GET /v2/file/a/meta", false},
		{lease.SharedAction{Method: "POST", Path: ""}, "POST /v2, POST /v2/", true},
		{lease.SharedAction{Method: "POST", Path: ""}, "POST /v2/a, GET /v2, POST /v22", false},
		{lease.SharedAction{Method: lease.AnyMethod, Path: lease.AnyPath}, "GET /v2, PUT /v2/a%2Fb/c, DELETE /v2/", true},
		{lease.SharedAction{Method: lease.AnyMethod, Path: lease.AnyPath}, "GET /v1", false},
		{lease.SharedAction{Method: "GET", Base: "files", Path: "/orders"}, "GET /v2/orders", false}, // which goes to another place
	} {
		c.action.Name = "a"
		only, err := compileShared([]lease.SharedAction{c.action})
		if err != nil {
			t.Fatal(err)
		}
		b := &bound{base: "/v2"}
		for request := range strings.SplitSeq(c.requests, ", ") {
			method, path, _ := strings.Cut(request, " ")
			if got := b.permits(method, path) && b.allows(only["a"], "", method, path); got != c.want {
				t.Errorf("%s %s: %s: got %v", c.action.Method, c.action.Path, request, got)
			}
		}
	}
	for _, bad := range []lease.SharedAction{{Name: "a", Path: "/x"}, {Name: "a", Method: "GET", Path: "x"}, {Name: "a", Method: "GET", Path: "/{x"}, {Name: "a", Method: "GET", Path: "/{}"}, {Method: "GET", Path: "/x"}, {Name: "a", Method: "get", Path: "/x"}} {
		if _, err := compileShared([]lease.SharedAction{bad}); !errors.Is(err, ErrBinding) {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
	if all, err := compileShared(nil); all != nil || err != nil {
		t.Errorf("shared for all: %v, %v", all, err)
	}
}

// TestSharedActionsHaveTheirMeaning sends requests in the name of an action for which a connection is shared, as somebody who writes the
// definition that a worker runs.
func TestSharedActionsHaveTheirMeaning(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var came []string
	r := newNodeRig(t, func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		came = append(came, q.Method+" "+q.URL.Path)
		mu.Unlock()
		switch q.URL.Path {
		case "/orders/astray":
			w.Header().Set("Location", "/admin")
			w.WriteHeader(http.StatusFound)
		case "/orders/moved":
			w.Header().Set("Location", "/orders/7")
			w.WriteHeader(http.StatusFound)
		}
	})
	node := func(list ...lease.SharedAction) func(*wire.Request) *wire.Response {
		l, _, _ := r.lease(r.authority, time.Minute)
		b := &l.Slots[0].Record.Binding
		b.Bases = []lease.Base{{Name: "files", Host: b.Host, Port: b.Port, BasePath: "/files"}}
		l.Slots[0].Record.SharedFor = list
		sealed, err := lease.SealEgress(r.authority, r.cfg.Seal.Public(), l)
		if err != nil {
			t.Fatal(err)
		}
		g, err := openLease(r.cfg.Seal, r.authority.Public(), &wire.LeaseGive{Lease: l.Lease, Sealed: sealed})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.cancel)
		return func(q *wire.Request) *wire.Response {
			q.Slot, q.Execution = "s", id.NewExecution(time.Now())
			return r.do(&task{lease: g, request: *q})
		}
	}
	get, note := lease.SharedAction{Name: "getOrder", Method: "GET", Path: "/orders/{id}"}, lease.SharedAction{Name: "note", Method: "POST", Path: "/orders/{id}/notes"}
	bound, free := node(get, note, lease.AnyRequest([]string{"request"})[0]), node(lease.AnyRequest([]string{"getOrder", "note"})...)
	form := func(q *wire.Request, kind, body string) *wire.Request {
		q.HasBody, q.Body, q.ContentType = true, []byte(body), kind
		return q
	}
	for what, c := range map[string]struct {
		request func() *wire.Request
		allowed bool
	}{
		"what it is": {func() *wire.Request { return &wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/7"} }, true},
		"with a query": {func() *wire.Request {
			return &wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/7", Query: []wire.Pair{{Name: "a", Value: "b"}}}
		}, true},
		"the other": {func() *wire.Request { return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"} }, true},
		"another place": {func() *wire.Request {
			return &wire.Request{Action: "getOrder", Method: "GET", Base: "files", Path: "/orders/7"}
		}, false},
		"another method": {func() *wire.Request { return &wire.Request{Action: "getOrder", Method: "DELETE", Path: "/orders/7"} }, false},
		"another path":   {func() *wire.Request { return &wire.Request{Action: "getOrder", Method: "GET", Path: "/admin"} }, false},
		"a path below":   {func() *wire.Request { return &wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/7/notes"} }, false},
		"a slash in disguise": {func() *wire.Request {
			return &wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/7%2Fnotes"}
		}, false},
		"the other's request": {func() *wire.Request {
			return &wire.Request{Action: "getOrder", Method: "POST", Path: "/orders/7/notes"}
		}, false},
		"a redirect within":    {func() *wire.Request { return &wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/moved"} }, true},
		"a redirect elsewhere": {func() *wire.Request { return &wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/astray"} }, false},
		"another method by parameter": {func() *wire.Request {
			return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes", Query: []wire.Pair{{Name: "_method", Value: "delete"}}}
		}, false},
		"another method by form": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-www-form-urlencoded", "a=b&%5fmethod=DELETE")
		}, false},
		"another method by JSON": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json", `{"\u005fmethod":"DELETE"}`)
		}, false},
		"another method by header": {func() *wire.Request {
			return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes", Headers: []wire.Pair{{Name: "X-HTTP-Method-Override", Value: "DELETE"}}}
		}, false},
		"another method, as PHP reads it": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-www-form-urlencoded", "a=b&.method=DELETE")
		}, false},
		"another method behind a semicolon": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-www-form-urlencoded", "a=b;_method=DELETE")
		}, false},
		"a form that is a file": {func() *wire.Request {
			return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes", HasBody: true, ContentType: "application/x-www-form-urlencoded", BodyBlob: &wire.BlobRef{Size: 14}}
		}, false},
		"parts that are a file": {func() *wire.Request {
			return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes", HasBody: true, ContentType: "multipart/form-data; boundary=x", BodyBlob: &wire.BlobRef{Size: 14}}
		}, false},
		"JSON that is a file": {func() *wire.Request {
			return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes", HasBody: true, ContentType: "application/json", BodyBlob: &wire.BlobRef{Size: 20}}
		}, false},
		"JSON that is a file, by a vendor's type": {func() *wire.Request {
			return &wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes", HasBody: true, ContentType: "application/vnd.api+JSON", BodyBlob: &wire.BlobRef{Size: 20}}
		}, false},
		"another method by what is nearly JSON": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json", `{"_method":"DELETE",}`)
		}, false},
		"another method by an escape in what is nearly JSON": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json", `{"\u005fmethod":"DELETE",}`)
		}, false},
		"another method by an escape that JSON does not have": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json", `{"\x5fmethod":"DELETE"}`)
		}, false},
		"another method in characters of two bytes": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json; charset=utf-16", "{\x00\"\x00_\x00m\x00e\x00t\x00h\x00o\x00d\x00\"\x00:\x001\x00}\x00")
		}, false},
		"another method by a second line, escaped": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-ndjson", "{\"a\":1}\n{\"\\u005fmethod\":1}\n")
		}, false},
		"lines of JSON with escapes": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-ndjson", "{\"a\":\"\\u00e9\\n\"}\n{\"a\":2}\n")
		}, true},
		"lines of JSON": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n")
		}, true},
		"a list": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json", `[{"_method":"x"}]`)
		}, true},
		"a parameter method": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/x-www-form-urlencoded", "method=x&a.method=y")
		}, true},
		"any method by parameter": {func() *wire.Request {
			return &wire.Request{Action: "request", Method: "POST", Path: "/x", Query: []wire.Pair{{Name: "_method", Value: "delete"}}}
		}, true},
		"a body": {func() *wire.Request {
			return form(&wire.Request{Action: "note", Method: "POST", Path: "/orders/7/notes"}, "application/json", `{"a":{"_method":"x"}}`)
		}, true},
	} {
		out := bound(c.request())
		if allowed := out.ErrorType == ""; allowed != c.allowed || !allowed && out.ErrorType != string(EgressDenied) && out.ErrorType != string(InvalidInput) {
			t.Errorf("%s: %s %s, want allowed %v", what, out.ErrorType, out.Message, c.allowed)
		}
	}
	mu.Lock()
	seen := strings.Join(came, ", ")
	mu.Unlock()
	for _, never := range []string{"DELETE", "/admin", "/files", "GET /orders/7/notes"} {
		if strings.Contains(seen, never) {
			t.Errorf("the service saw %s", seen)
		}
	}
	// Who says only names is believed: the red twin.
	for _, q := range []*wire.Request{
		{Action: "getOrder", Method: "DELETE", Path: "/orders/7"},
		{Action: "getOrder", Method: "GET", Path: "/admin"},
		{Action: "getOrder", Method: "GET", Path: "/orders/astray"},
		{Action: "getOrder", Method: "GET", Base: "files", Path: "/orders/7"},
	} {
		if out := free(q); out.ErrorType != "" {
			t.Errorf("red twin: %s %s: %s %s", q.Method, q.Path, out.ErrorType, out.Message)
		}
	}
	if out := free(&wire.Request{Action: "another", Method: "GET", Path: "/orders/7"}); out.ErrorType != string(EgressDenied) {
		t.Errorf("an action that is not named: %s", out.ErrorType)
	}
	// A record that cannot be read allows nothing.
	if out := node(lease.SharedAction{Name: "getOrder", Method: "GET", Path: "/{"})(&wire.Request{Action: "getOrder", Method: "GET", Path: "/orders/7"}); out.ErrorType != string(EgressDenied) {
		t.Errorf("a template that is none: %s %s", out.ErrorType, fmt.Sprint(out.Message))
	}
}

// What a connection is not shared for is refused by name, with what it is shared for.
func TestNotSharedNamesTheActions(t *testing.T) {
	t.Parallel()
	sharing := map[string][]permitted{"sendMail": nil, "getMail": nil}
	got := notShared(sharing, "deleteMail")
	for _, want := range []string{`not shared for the action "deleteMail", but for getMail, sendMail;`, "its owner can share it"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	for n := range maxNamed {
		sharing[fmt.Sprint("a", n)] = nil
	}
	if got := notShared(sharing, "deleteMail"); !strings.Contains(got, "a9 and 2 more;") {
		t.Errorf("of many: %s", got)
	}
}
