package connector_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// walk reads all pages of an action from answers that are chosen by the request, and returns the requests.
func walk(t *testing.T, a *connector.Action, in string, answer func(r *connector.Request, n int) (body, link string)) ([]string, error) {
	t.Helper()
	d := &connector.Defaults{}
	p := d.Pages(a)
	var list []string
	for at := new(connector.Page); at != nil; {
		r, err := connector.Build(a, d, parse(t, in), nil, at)
		if err != nil {
			return list, err
		}
		list = append(list, shown(r))
		if len(list) > 20 {
			return list, errors.New("it does not end")
		}
		body, link := answer(r, len(list)-1)
		reply := connector.Reply{Body: parse(t, body), Header: func(name string) string {
			if name == "link" || name == "x-next" {
				return link
			}
			return ""
		}}
		if at, err = p.Next(at, r, reply); err != nil {
			return list, err
		}
	}
	return list, nil
}

func TestNextReadsEveryPage(t *testing.T) {
	t.Parallel()
	const get = `{"name":"l","method":"GET","path":"/l/{id}","input":[{"name":"id","in":"path","type":"string"},{"name":"limit","in":"query","type":"integer"},{"name":"q","in":"query","type":"string"}],"paginate":`
	bodies := func(list ...string) func(*connector.Request, int) (string, string) {
		return func(_ *connector.Request, n int) (string, string) { return list[min(n, len(list)-1)], "" }
	}
	for _, c := range []struct {
		name, action, in string
		answer           func(*connector.Request, int) (string, string)
		want             string
	}{
		{
			"cursor", get + `{"type":"cursor","name":"after","from":"paging.next.after","items":"results","size":{"name":"limit","value":2}}}`, `{"id":"7","q":"x"}`,
			bodies(`{"results":[1,2],"paging":{"next":{"after":"A"}}}`, `{"results":[3],"paging":{"next":{"after":"B"}}}`, `{"results":[]}`),
			"[GET /l/7 ?q=x ?limit=2 GET /l/7 ?q=x ?limit=2 ?after=A GET /l/7 ?q=x ?limit=2 ?after=B]",
		},
		{
			"cursor of the last item", get + `{"type":"cursor","name":"starting_after","last":"id","items":"data","more":"has_more"}}`, `{"id":"7"}`,
			bodies(`{"data":[{"id":"a"},{"id":"b"}],"has_more":true}`, `{"data":[{"id":"c"}],"has_more":false}`),
			"[GET /l/7 GET /l/7 ?starting_after=b]",
		},
		{
			"an empty page that names itself", get + `{"type":"cursor","name":"c","from":"c","items":"i"}}`, `{"id":"7"}`,
			bodies(`{"i":[1],"c":"x"}`, `{"i":[],"c":"x"}`), "[GET /l/7 GET /l/7 ?c=x]",
		},
		{
			"offset", get + `{"type":"offset","name":"start","items":"i","size":{"name":"limit","value":2}}}`, `{"id":"7"}`,
			bodies(`{"i":[1,2]}`, `{"i":[3]}`), "[GET /l/7 ?limit=2 ?start=0 GET /l/7 ?limit=2 ?start=2]",
		},
		{
			"offset, smaller pages", get + `{"type":"offset","name":"start","items":"i","size":{"name":"limit","value":2}}}`, `{"id":"7","limit":1}`,
			bodies(`{"i":[1]}`, `{"i":[2]}`, `{"i":[]}`), "[GET /l/7 ?limit=1 ?start=0 GET /l/7 ?limit=1 ?start=1 GET /l/7 ?limit=1 ?start=2]",
		},
		{
			"offset with a total", get + `{"type":"offset","name":"startAt","items":"i","total":"total"}}`, `{"id":"7"}`,
			bodies(`{"i":[1,2],"total":3}`, `{"i":[3],"total":3}`), "[GET /l/7 ?startAt=0 GET /l/7 ?startAt=2]",
		},
		{
			"page", get + `{"type":"page","name":"page","start":1,"items":"items","more":"!last"}}`, `{"id":"7"}`,
			bodies(`{"last":false,"items":[1]}`, `{"last":true,"items":[2]}`), "[GET /l/7 ?page=1 GET /l/7 ?page=2]",
		},
		{"link", get + `{"type":"link"}}`, `{"id":"7","q":"x"}`, func(_ *connector.Request, n int) (string, string) {
			return "[1]", []string{`<https://evil.example/other?page=2&q=x>; rel="next"`, `<?page=3>; rel=prev, </l?page=3>; rel=next`, ""}[n]
		}, "[GET /l/7 ?q=x GET /l/7 ?page=2 ?q=x GET /l/7 ?page=3]"},
		{
			"link in the body", get + `{"type":"link","from":"@odata.nextLink","items":"value"}}`, `{"id":"7"}`,
			bodies(`{"value":[1],"@odata.nextLink":"https://graph.example/v1/l?$skiptoken=A"}`, `{"value":[]}`), "[GET /l/7 GET /l/7 ?$skiptoken=A]",
		},
		{
			"link below", get + `{"type":"link","from":"nextRecordsUrl","items":"records","below":true}}`, `{"id":"7"}`,
			bodies(`{"records":[1],"nextRecordsUrl":"/services/data/v60/l/7/01g-2000"}`, `{"records":[2],"nextRecordsUrl":"/services/data/v60/l/7/01g-4000"}`, `{"records":[3]}`),
			"[GET /l/7 GET /l/7/01g-2000 GET /l/7/01g-4000]",
		},
		{"header", get + `{"type":"cursor","name":"c","from":"header:X-Next"}}`, `{"id":"7"}`, func(_ *connector.Request, n int) (string, string) {
			return "[1]", []string{"A", ""}[n]
		}, "[GET /l/7 GET /l/7 ?c=A]"},
		{
			"body", `{"name":"l","method":"POST","path":"/g","fields":[{"at":"query","value":"q"}],"paginate":{"type":"cursor","in":"body","name":"variables.after","from":"data.x.end","items":"data.x.nodes","more":"data.x.more"}}`, `null`,
			bodies(`{"data":{"x":{"nodes":[1],"end":"A","more":true}}}`, `{"data":{"x":{"nodes":[1],"end":"B","more":false}}}`),
			`[POST /g [application/json] {"query":"q"} POST /g [application/json] {"variables":{"after":"A"},"query":"q"}]`,
		},
	} {
		got, err := walk(t, action(t, c.action), c.in, c.answer)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v\n got %v\nwant %s", c.name, err, got, c.want)
		}
	}
}

func TestNextRefusesWhatDoesNotAdvanceOrLeavesThePath(t *testing.T) {
	t.Parallel()
	same := func(body string) func(*connector.Request, int) (string, string) {
		return func(*connector.Request, int) (string, string) { return body, `</l?page=2>; rel=next` }
	}
	const get = `{"name":"l","method":"GET","path":"/l","paginate":`
	for _, c := range []struct {
		name, action, body string
		want               error
	}{
		{"cursor", get + `{"type":"cursor","name":"c","from":"c","items":"i"}}`, `{"i":[1],"c":"x"}`, connector.ErrNoAdvance},
		{"link", get + `{"type":"link"}}`, `[1]`, connector.ErrNoAdvance},
		{"no list", get + `{"type":"link","items":"i"}}`, `{"i":{}}`, connector.ErrNoList},
		{"elsewhere", get + `{"type":"link","from":"n","items":"i","below":true}}`, `{"i":[1],"n":"/admin/users"}`, nil},
		{"up", get + `{"type":"link","from":"n","items":"i","below":true}}`, `{"i":[1],"n":"/l/../admin"}`, nil},
		{"hidden slash", get + `{"type":"link","from":"n","items":"i","below":true}}`, `{"i":[1],"n":"/l/a%2f..%2fb"}`, nil},
		{"beside", get + `{"type":"link","from":"n","items":"i","below":true}}`, `{"i":[1],"n":"/list"}`, nil},
		{"an object as cursor", get + `{"type":"cursor","name":"c","from":"c","items":"i"}}`, `{"i":[1],"c":{"a":1}}`, nil},
	} {
		_, err := walk(t, action(t, c.action), `null`, same(c.body))
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestFailedReadsTheBody(t *testing.T) {
	t.Parallel()
	slack := &connector.Defaults{Error: &connector.ErrorBody{Path: "error", OK: "ok", Auth: []string{"invalid_auth"}, Limited: []string{"ratelimited"}}}
	graphql := &connector.Defaults{Error: &connector.ErrorBody{Path: "errors", Message: "errors[0].message"}}
	several := &connector.Defaults{Error: &connector.ErrorBody{
		Path: "errors[0].extensions.code", Message: "errors[0].message", Limited: []string{"THROTTLED"},
		Also: []string{"errors[0].message", "data.make.problems[0].message"},
	}}
	for _, c := range []struct {
		d    *connector.Defaults
		body string
		want string
	}{
		{slack, `{"ok":true,"error":"x"}`, "{  false false} false"},
		{slack, `{"ok":false,"error":"invalid_auth"}`, "{invalid_auth invalid_auth true false} true"},
		{slack, `{"ok":false,"error":"ratelimited"}`, "{ratelimited ratelimited false true} true"},
		{slack, `{"ok":false}`, "{  false false} true"},
		{slack, `[1]`, "{  false false} false"},
		{graphql, `{"data":1}`, "{  false false} false"},
		{graphql, `{"errors":[]}`, "{  false false} false"},
		{graphql, `{"errors":[{"message":"no"}]}`, "{no  false false} true"},
		{several, `{"errors":[{"message":"slow","extensions":{"code":"THROTTLED"}}]}`, "{slow THROTTLED false true} true"},
		{several, `{"errors":[{"message":"no"}]}`, "{no  false false} true"},
		{several, `{"data":{"make":{"problems":[{"message":"blank"}]}}}`, "{blank  false false} true"},
		{several, `{"data":{"make":{"problems":[]}}}`, "{  false false} false"},
	} {
		f, ok := c.d.Failed(&connector.Action{}, parse(t, c.body))
		if got := fmt.Sprintf("%v %v", f, ok); got != c.want {
			t.Errorf("%s: %s, want %s", c.body, got, c.want)
		}
	}
}

func TestWaitReadsWhatTheOtherSideAsksFor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	full := &connector.Retry{Reset: "X-Reset", Remaining: "X-Left"}
	for _, c := range []struct {
		r      *connector.Retry
		status int
		header http.Header
		want   time.Duration
	}{
		{nil, 429, http.Header{"Retry-After": {"7"}}, 7 * time.Second},
		{nil, 429, http.Header{"Retry-After": {"Sat, 31 Jan 2026 12:01:00 GMT"}}, time.Minute},
		{nil, 429, nil, connector.DefaultRetryAfter},
		{nil, 429, http.Header{"Retry-After": {"1e18"}}, connector.MaxRetryAfter},
		{nil, 429, http.Header{"Retry-After": {"-5"}}, 0},
		{nil, 429, http.Header{"Retry-After": {"NaN"}}, connector.DefaultRetryAfter},
		{nil, 200, http.Header{"Retry-After": {"7"}}, 0},
		{full, 200, http.Header{"X-Left": {"0"}, "X-Reset": {"1769860830"}}, 30 * time.Second},
		{full, 200, http.Header{"X-Left": {"1"}, "X-Reset": {"1769860830"}}, 0},
		{full, 429, http.Header{"X-Reset": {"1769860830"}}, 30 * time.Second},
		{&connector.Retry{Statuses: []int{403}, Remaining: "X-Left"}, 403, http.Header{"X-Left": {"5"}}, 0},
		{&connector.Retry{After: "X-After", Statuses: []int{400}}, 400, http.Header{"X-After": {"2.5"}}, 2500 * time.Millisecond},
		{&connector.Retry{Reset: "R", ResetUnit: "ms"}, 503, http.Header{"R": {"1500"}}, 1500 * time.Millisecond},
		{&connector.Retry{Pause: 30}, 429, nil, 30 * time.Second},
		{&connector.Retry{Pause: 30}, 429, http.Header{"Retry-After": {"2"}}, 2 * time.Second},
		{&connector.Retry{Pause: 30, Statuses: []int{429}}, 503, nil, 0},
		{&connector.Retry{Pause: 30, Statuses: []int{403}}, 403, nil, 0}, // it says something else as well
		{&connector.Retry{Pause: 30}, 200, nil, 0},
		{&connector.Retry{Pause: 30, Reset: "X-Reset", Remaining: "X-Left"}, 200, http.Header{"X-Left": {"0"}}, 0},
		{&connector.Retry{Reset: "R", ResetUnit: "unix_ms"}, 503, http.Header{"R": {"1769860801000"}}, time.Second},
	} {
		if got := c.r.Wait(c.status, c.header.Get, now); got.Round(time.Millisecond) != c.want {
			t.Errorf("%d %v: %v, want %v", c.status, c.header, got, c.want)
		}
	}
}

func TestAtFindsNamesWithDots(t *testing.T) {
	t.Parallel()
	v := parse(t, `{"a":{"b.c":{"d":1}},"@odata.nextLink":2,"l":[{"x":3}]}`)
	for path, want := range map[string]string{"a.b.c.d": "1", `a.b\.c.d`: "1", "@odata.nextLink": "2", "l[0].x": "3", "l.0.x": "3", "": "object"} {
		got, ok := connector.At(v, path)
		if s, _ := expr.Text(got); !ok || path != "" && s != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	for _, path := range []string{"a.x", "l[1]", "a..b", ".", "l[x]", "a."} {
		if got, ok := connector.At(v, path); ok {
			t.Errorf("%q finds %v", path, got)
		}
	}
}
