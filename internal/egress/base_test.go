package egress

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// recorded makes the lease of a record, as a node does.
func recorded(t testing.TB, change func(*lease.Record)) (*Lease, error) {
	t.Helper()
	r := &lease.Record{
		Connection: id.NewConnection(time.Now()), Connector: "acme", Kind: lease.KindBearer, Fields: []lease.Field{{Name: "token", Secret: []byte(canary)}},
		Binding: lease.Binding{
			Scheme: "https", Host: "api.example.com", BasePath: "/2", Bases: []lease.Base{{Name: "content", Host: "files.example.com", BasePath: "/c"}},
		},
	}
	if change != nil {
		change(r)
	}
	spec, err := specOf(&lease.Egress{Customer: id.NewCustomer(time.Now())}, r)
	if err != nil {
		return nil, err
	}
	return NewLease(spec)
}

// TestOnlyTheRecordsBasesAreCalled: a request chooses one of the places that the record names; a name that it does not have is
// none, even if it is a host that exists.
func TestOnlyTheRecordsBasesAreCalled(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	l, err := recorded(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{}
	for _, base := range []string{"", "content"} {
		if _, err := x.Do(t.Context(), n.callOf(t.Context(), l, &wire.Request{Method: "POST", Base: base, Path: "/f"})); err != nil {
			t.Errorf("base %q: %v", base, err)
		}
	}
	auth := fmt.Sprintf("auth=%q", "Bearer "+canary) + ` key="" author="" accept="" body=""`
	if d := cmp.Diff([][]string{{"POST /2/f " + auth}, {"POST /c/f " + auth}}, [][]string{x.api.list(), x.files.list()}); d != "" {
		t.Errorf("API and content server (-want +got):\n%s", d)
	}
	narrow, err := recorded(t, func(r *lease.Record) { r.Binding.Bases = nil })
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*Lease{"Content": l, "files.example.com": l, "content": narrow, "api.example.com": narrow} {
		_, err := x.Do(t.Context(), n.callOf(t.Context(), l, &wire.Request{Method: "POST", Base: name, Path: "/c/f"}))
		if f := faultOf(t, err); f.Type != EgressDenied || !strings.Contains(f.Message, "not bound to this base") {
			t.Errorf("base %q: %v", name, f)
		}
	}
	if len(x.api.list()) != 1 || len(x.files.list()) != 1 {
		t.Errorf("more was called: %v %v", x.api.list(), x.files.list())
	}
}

// TestBasesAreApart: what one place allows says nothing of another, and a redirect from one to another is followed without the
// credential or not at all.
func TestBasesAreApart(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	l, err := recorded(t, func(r *lease.Record) { r.Binding.Methods, r.Binding.Paths = []string{"GET"}, []string{"/f"} })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, base, path, location string }{
		{"POST", "content", "/f", ""},
		{"GET", "content", "/g", ""},
		{"GET", "content", "/../2/f", ""},
		{"GET", "", "/f", "https://files.example.com/c/f"},
		{"GET", "content", "/f", "https://api.example.com/2/f"},
		{"GET", "content", "/f", "/2/f"},
	} {
		redirect := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, c.location, http.StatusFound) }
		x.apiHandler, x.filesHandler = redirect, redirect
		before := len(x.api.list()) + len(x.files.list())
		_, err := x.Do(t.Context(), &Call{Lease: l, Method: c.method, Base: c.base, Path: c.path})
		if f := faultOf(t, err); f.Type != EgressDenied {
			t.Errorf("%+v: %v", c, f)
		}
		calls := len(x.api.list()) + len(x.files.list()) - before
		if want := map[bool]int{true: 1}[c.location != ""]; calls != want {
			t.Errorf("%+v: %d calls, want %d", c, calls, want)
		}
	}
}

func TestBasesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	base := lease.Base{Name: "content", Host: "files.example.com"}
	for name, bases := range map[string][]lease.Base{
		"no name":     {{Host: base.Host}},
		"twice":       {base, base},
		"no host":     {{Name: "content"}},
		"a pattern":   {{Name: "content", Host: "*.example.com"}},
		"an odd host": {{Name: "content", Host: "127.1"}},
		"an odd path": {{Name: "content", Host: base.Host, BasePath: "/../x"}},
		"a port":      {{Name: "content", Host: base.Host, Port: 1 << 16}},
		"too many":    make([]lease.Base, MaxBases+1),
	} {
		if _, err := recorded(t, func(r *lease.Record) { r.Binding.Bases = bases }); !errors.Is(err, ErrBinding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatWentWrongIsNoFile: the answer that refuses a download is read, not stored.
func TestWhatWentWrongIsNoFile(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"error":"not_found"}`))
	})
	r := newRig(t, dial.Policy{Allow: loopback()})
	call := &Call{Lease: newLease(t, s.URL, bearer(canary)), Response: ModeFile}
	made := 0
	call.Sink = func(*Answer) (io.WriteCloser, error) {
		made++
		return &memorySink{}, nil
	}
	_, err := r.Do(t.Context(), call)
	if f := faultOf(t, err); f.Answer == nil || string(f.Answer.Body) != `{"error":"not_found"}` || f.Answer.Format != ModeJSON || made > 0 {
		t.Errorf("fault %+v, stored: %d", f, made)
	}
	call.Expect = []string{"409"}
	if a, err := r.Do(t.Context(), call); err != nil || !a.Streamed || a.Format != ModeFile {
		t.Errorf("an expected one: %+v, %v", a, err)
	}
}
