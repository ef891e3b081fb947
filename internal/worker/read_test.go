package worker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// viewing is what one viewer asks of a worker.
type viewing struct {
	l    *link
	key  *seal.PrivateKey
	read wire.Read
	page chan *wire.ReadPage
}

// viewing gives a worker a lease for a read.
func (l *link) viewing(kind wire.ReadKind, e id.Execution, class wire.Class) *viewing {
	h := l.h
	v := &viewing{l: l, key: newKey(h.t), page: make(chan *wire.ReadPage, 4)}
	v.read = wire.Read{
		View: id.NewView(time.Now()), Customer: h.customer, Instance: h.instance, Definition: h.definition.Digest(), ConfigVersion: 3,
		Config:    h.key.Seal(nil, lease.ConfigPlace(h.customer, h.instance, 3), []byte(h.config)),
		Execution: e, Kind: kind, Day: uint32(h.day),
	}
	if r := h.run(e); r != nil {
		v.read.EventID, v.read.Flow = r.unit.EventID, r.unit.Flow
	}
	m := h.newLease()
	m.Channel, m.Egress, m.Viewers = nil, id.Node{}, nil
	m.Read = &lease.Read{Viewer: lease.Viewer{View: v.read.View, Key: v.key.Public()}, Who: "test", Execution: e, Kind: kind, Class: class}
	sealed, err := lease.SealWorker(l.worker, m)
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	if l.pages == nil {
		l.pages = map[id.View]chan *wire.ReadPage{}
	}
	l.pages[v.read.View] = v.page
	h.mu.Unlock()
	_ = l.out.Write(&wire.Renew{Lease: sealed})
	return v
}

// ask sends the read and waits for its page.
func (v *viewing) ask() *wire.ReadPage {
	v.l.h.t.Helper()
	_ = v.l.out.Write(&v.read)
	select {
	case p := <-v.page:
		return p
	case <-time.After(20 * time.Second):
		v.l.h.t.Fatal("no page came")
		return nil
	}
}

func (v *viewing) open(p *wire.ReadPage) []byte {
	v.l.h.t.Helper()
	if p.Error != "" {
		v.l.h.t.Fatalf("the page is an error: %s", p.Error)
	}
	plain, err := v.key.Open(lease.PurposeView, lease.ReadPlace(v.read.View, v.read.Instance, v.read.Execution, v.read.Kind, v.read.Cursor), p.Sealed)
	if err != nil {
		v.l.h.t.Fatal(err)
	}
	return plain
}

// shown asks for a page and prints its items: kind, path and value or data.
func (v *viewing) shown() []string {
	v.l.h.t.Helper()
	var c wire.Content
	if err := json.Unmarshal(v.open(v.ask()), &c); err != nil {
		v.l.h.t.Fatal(err)
	}
	var out []string
	for _, i := range c.Items {
		out = append(out, strings.Join([]string{i.Kind, i.Path, string(i.Value) + string(i.Data)}, " "))
	}
	return out
}

// rows are the entries of a path, as the server sends them.
func (v *viewing) rows(path string) *viewing {
	for _, e := range v.l.h.run(v.read.Execution).unit.Journal {
		if e.Path == path {
			v.read.Rows = append(v.read.Rows, wire.Sealed{Entry: e})
		}
	}
	return v
}

func (v *viewing) row(body []byte) *viewing {
	v.read.Rows = append(v.read.Rows, wire.Sealed{Entry: wire.Entry{Body: body}})
	return v
}

const readFlow = `bulkhead: 1
integration: test
connections:
  api: {connector: http}
config:
  token: {type: secret, required: true}
  pin: {type: secret}
  absent: {type: secret}
  zone: {type: string}
  region: {type: string, visible: organization}
  limit: {type: integer, default: 5}
flows:
  main:
    trigger: {manual: {}}
    labels: {order: "${{ trigger.body.order }}"}
    steps:
      - {id: get, uses: api.request, with: {path: /x}, retry: {attempts: 3, delay: PT0.01S}}
      - {id: pure, set: 1}
      - {id: out, return: {echo: "${{ steps.get.body.echo }}", n: 1.50, region: "${{ config.region }}"}}
`

const secretToken = "s3cr3t-token-Qz81"

func readHost(t *testing.T) (*host, id.Execution) {
	t.Helper()
	h := newHost(t, parse(t, readFlow))
	h.config = `{"token":"` + secretToken + `","pin":"4711","zone":"west","region":"internal-region-7"}`
	tries := 0
	h.egress = func(*wire.Request) *wire.Response {
		if tries++; tries == 1 {
			return refusal("upstream", 503)
		}
		return jsonAnswer(200, `{"echo":"you sent `+secretToken+`!","mark":"a [redacted] b","pin":"4711","other":"47110","region":"internal-region-7","`+secretToken+`":1}`)
	}
	l := h.start()
	t.Cleanup(func() { _ = l.stop() })
	e := h.add("main", `{"body":{"order":"A-1","note":"uses `+secretToken+`","n":1.0}}`)
	if got := h.finish(l, e); got.Status != wire.StatusCompleted {
		t.Fatalf("it ended as %+v", got)
	}
	return h, e
}

func TestReadsShowWhatIsStored(t *testing.T) {
	t.Parallel()
	h, e := readHost(t)
	l := h.link
	r := h.run(e)
	step := l.viewing(wire.ReadStep, e, wire.ClassOperator).rows("get").shown()
	if len(step) != 2 || !strings.HasPrefix(step[0], `attempt get {"type":"upstream"`) ||
		!strings.Contains(step[1], `"body":{"echo":"you sent ••••!","mark":"a •••• b","pin":"••••","other":"47110","region":"internal-region-7","••••":1}`) {
		t.Errorf("step: %q", step)
	}
	step = l.viewing(wire.ReadStep, e, wire.ClassCustomer).rows("get").shown()
	if len(step) != 2 || !strings.Contains(step[1], `"region":"••••"`) {
		t.Errorf("step for the customer: %q", step)
	}
	event := l.viewing(wire.ReadEvent, e, wire.ClassCustomer).row(r.unit.Event).shown()
	if diff := cmp.Diff([]string{`event  {"body":{"order":"A-1","note":"uses ••••","n":1.0}}`}, event); diff != "" {
		t.Error(diff)
	}
	out := l.viewing(wire.ReadOutput, e, wire.ClassOperator).row(r.finish.Output)
	out.read.Rows[0].Status = wire.StatusCompleted
	if diff := cmp.Diff([]string{`output  {"echo":"you sent ••••!","n":1.50,"region":"internal-region-7"}`}, out.shown()); diff != "" {
		t.Error(diff)
	}
	label := l.viewing(wire.ReadLabels, e, wire.ClassOperator).row(r.labels[0].Sealed)
	label.read.Rows[0].Path = "order"
	if diff := cmp.Diff([]string{`label order "A-1"`}, label.shown()); diff != "" {
		t.Error(diff)
	}
	operator := l.viewing(wire.ReadConfig, id.Execution{}, wire.ClassOperator)
	operator.read.Day = 0
	if diff := cmp.Diff([]string{
		`config token "••••"`, `config pin "••••"`, `config absent null`, `config zone "west"`, `config region "internal-region-7"`, `config limit 5`,
	}, operator.shown()); diff != "" {
		t.Error(diff)
	}
	customer := l.viewing(wire.ReadConfig, id.Execution{}, wire.ClassCustomer)
	customer.read.Day = 0
	if diff := cmp.Diff([]string{
		`config token "••••"`, `config pin "••••"`, `config absent null`, `config zone "west"`, `config limit 5`,
	}, customer.shown()); diff != "" {
		t.Error(diff)
	}
}

// TestRedactedIsOneWord: what egress writes into answers is what masking looks for.
func TestRedactedIsOneWord(t *testing.T) {
	t.Parallel()
	if redacted != secret.Redacted {
		t.Errorf("masking looks for %q, egress writes %q", redacted, secret.Redacted)
	}
}

// TestMaskRedTwin is the red twin of masking: what a masker that knows no secret lets through is just what the
// other tests do not find.
func TestMaskRedTwin(t *testing.T) {
	t.Parallel()
	const page = `{"a":"` + secretToken + `","b":["x ` + secretToken + `"],"c":"[redacted]"}`
	blind := &masker{}
	got, err := blind.json([]byte(page))
	if err != nil || string(got) != page {
		t.Errorf("a masker without values changed %s, %v", got, err)
	}
	definition := &flow.Integration{Config: []flow.ConfigVar{{Name: "token", Type: flow.ConfigSecret}}}
	given, err := expr.ParseJSON([]byte(`{"token":"` + secretToken + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err = newMasker(definition, given, wire.ClassOperator).json([]byte(page))
	if want := `{"a":"••••","b":["x ••••"],"c":"••••"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func TestMaskKeepsWhatItDoesNotHide(t *testing.T) {
	t.Parallel()
	k := &masker{parts: []string{"say \"hi\"\\now", "€uro-sign"}, wholes: map[string]bool{"four": true}}
	for in, want := range map[string]string{
		`{"a":1.50,"b":[1e3,true,null,"x\u00e9"]}`: `{"a":1.50,"b":[1e3,true,null,"x\u00e9"]}`,
		`"say \"hi\"\\now"`:                        `"••••"`,
		`["\u20acuro-sign","four","four more"]`:    `["••••","••••","four more"]`,
		` { "four" : "\\\"" } `:                    ` { "••••" : "\\\"" } `,
		`""`:                                       `""`,
	} {
		got, err := k.json([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{``, `{`, `"a`, `{"a":}`} {
		if got, err := k.json([]byte(in)); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}

// TestReadsAreRefused holds every way in which the frames of a read could be turned against the customer.
func TestReadsAreRefused(t *testing.T) {
	t.Parallel()
	h, e := readHost(t)
	l := h.link
	r := h.run(e)
	other := h.add("main", `{"body":{"order":"B"}}`)
	for name, tt := range map[string]struct {
		change func(*wire.Read)
		want   string
	}{
		"the read itself":              {func(*wire.Read) {}, ""},
		"a view that no lease permits": {func(m *wire.Read) { m.View = id.NewView(time.Now()) }, wire.ReadRefused},
		"another execution":            {func(m *wire.Read) { m.Execution = other }, wire.ReadRefused},
		"another kind":                 {func(m *wire.Read) { m.Kind = wire.ReadOutput }, wire.ReadRefused},
		"the server's kind":            {func(m *wire.Read) { m.Kind = wire.ReadResolve }, wire.ReadRefused},
		"another customer":             {func(m *wire.Read) { m.Customer = id.NewCustomer(time.Now()) }, wire.ReadRefused},
		"another instance":             {func(m *wire.Read) { m.Instance = id.NewInstance(time.Now()) }, wire.ReadRefused},
		"another version":              {func(m *wire.Read) { m.Definition[0] ^= 1 }, wire.ReadRefused},
		"an older config":              {func(m *wire.Read) { m.ConfigVersion = 2 }, wire.ReadRefused},
		"a config without its secrets": {func(m *wire.Read) {
			k, err := seal.RandomKey()
			if err != nil {
				t.Fatal(err)
			}
			m.Config = k.Seal(nil, lease.ConfigPlace(h.customer, h.instance, 3), []byte("{}"))
		}, wire.ReadBroken},
		"no config":                   {func(m *wire.Read) { m.Config = nil }, wire.ReadBroken},
		"a day that is not leased":    {func(m *wire.Read) { m.Day++ }, wire.ReadRefused},
		"the event of another":        {func(m *wire.Read) { m.Rows[0].Body = h.run(other).unit.Event }, wire.ReadBroken},
		"the output as an event":      {func(m *wire.Read) { m.Rows[0].Body = r.finish.Output }, wire.ReadBroken},
		"a changed row":               {func(m *wire.Read) { m.Rows[0].Body[9] ^= 1 }, wire.ReadBroken},
		"a row of another customer's": {func(m *wire.Read) { m.Rows[0].Body = foreign(t, h, m) }, wire.ReadBroken},
	} {
		v := l.viewing(wire.ReadEvent, e, wire.ClassOperator).row(append([]byte(nil), r.unit.Event...))
		tt.change(&v.read)
		h.mu.Lock()
		l.pages[v.read.View] = v.page
		h.mu.Unlock()
		if got := v.ask(); got.Error != tt.want || (got.Error != "") != (got.Sealed == nil) {
			t.Errorf("%s: %q with %d bytes, want %q", name, got.Error, len(got.Sealed), tt.want)
		}
	}
}

// foreign is an event that is sealed to the same key, but is another customer's.
func foreign(t *testing.T, h *host, m *wire.Read) []byte {
	t.Helper()
	sealed, err := h.events.Seal(nil, time.Now(), lease.EventPlace(id.NewCustomer(time.Now()), m.EventID, h.day), []byte(`{"body":1}`))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestAPageIsItsViewersOnly(t *testing.T) {
	t.Parallel()
	h, e := readHost(t)
	v := h.link.viewing(wire.ReadEvent, e, wire.ClassOperator).row(h.run(e).unit.Event)
	p := v.ask()
	v.open(p)
	m := &v.read
	for name, place := range map[string][]byte{
		"another view":      lease.ReadPlace(id.NewView(time.Now()), m.Instance, m.Execution, m.Kind, m.Cursor),
		"another execution": lease.ReadPlace(m.View, m.Instance, id.NewExecution(time.Now()), m.Kind, m.Cursor),
		"another instance":  lease.ReadPlace(m.View, id.NewInstance(time.Now()), m.Execution, m.Kind, m.Cursor),
		"another kind":      lease.ReadPlace(m.View, m.Instance, m.Execution, wire.ReadOutput, m.Cursor),
		"another page":      lease.ReadPlace(m.View, m.Instance, m.Execution, m.Kind, 1),
	} {
		if _, err := v.key.Open(lease.PurposeView, place, p.Sealed); err == nil {
			t.Errorf("the page opens as that of %s", name)
		}
	}
	if _, err := newKey(t).Open(lease.PurposeView, lease.ReadPlace(m.View, m.Instance, m.Execution, m.Kind, m.Cursor), p.Sealed); err == nil {
		t.Error("the page opens with another key")
	}
}

// TestAReadLeaseAllowsNoEffect binds a worker by a lease for a read and gives it an execution: it calls nobody.
func TestAReadLeaseAllowsNoEffect(t *testing.T) {
	t.Parallel()
	h := newHost(t, parse(t, readFlow))
	h.config = `{"token":"` + secretToken + `"}`
	h.grow = func(m *lease.Worker) {
		m.Channel, m.Egress = nil, id.Node{}
		m.Read = &lease.Read{Viewer: m.Viewers[0], Who: "test", Kind: wire.ReadConfig, Class: wire.ClassOperator}
		m.Viewers = nil
	}
	l := h.start()
	e := h.add("main", `{"body":{}}`)
	l.give(e)
	time.AfterFunc(200*time.Millisecond, func() { _ = l.out.Write(&wire.Cancel{Execution: e, Fence: 1}) })
	h.released(e)
	if sent := h.sent(); len(sent) != 0 {
		t.Errorf("it sent %+v", sent)
	}
	if err := l.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	// The same with the channel: the request goes out.
	h.grow = nil
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{"echo":1}`) }
	h.once("main", `{"body":{}}`)
	if sent := h.sent(); len(sent) != 1 {
		t.Errorf("with a lease for executions it sent %+v", sent)
	}
}

func TestLargeValuesAreReadInRanges(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - {id: get, uses: api.request, with: {path: /x}}
      - {id: out, return: 1}
`))
	big := strings.Repeat("0123456789", 50_000)
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{"text":"`+big+`"}`) }
	l := h.start()
	t.Cleanup(func() { _ = l.stop() })
	e := h.add("main", `{"body":1}`)
	h.finish(l, e)
	v := l.viewing(wire.ReadStep, e, wire.ClassOperator).rows("get")
	var c wire.Content
	p := v.ask()
	if err := json.Unmarshal(v.open(p), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Items) != 1 || c.Items[0].Value != nil || c.Items[0].Size < 500_000 || len(p.Sealed) > 1000 {
		t.Fatalf("items %+v in a page of %d bytes", c.Items, len(p.Sealed))
	}
	size := c.Items[0].Size
	var all []byte
	v.read.Length = 1 << 20
	for v.read.Offset = 0; v.read.Offset < size; {
		p := v.ask()
		if len(p.Sealed) > 256<<10 {
			t.Fatalf("a page of %d bytes", len(p.Sealed))
		}
		c = wire.Content{}
		if err := json.Unmarshal(v.open(p), &c); err != nil || len(c.Items) != 1 || c.Items[0].Offset != v.read.Offset || c.Items[0].Size != size {
			t.Fatalf("range at %d: %v", v.read.Offset, err)
		}
		all = append(all, c.Items[0].Data...)
		v.read.Offset += uint64(len(c.Items[0].Data))
	}
	if !json.Valid(all) || !strings.Contains(string(all), big) {
		t.Errorf("the ranges together have %d bytes", len(all))
	}
}
