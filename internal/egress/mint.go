package egress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// legHeader says in a committed answer which leg it belongs to.
const legHeader = "Bulkhead-Leg"

var errClientMethod = errors.New("the connection's method is not the one that its client was entered for")

// Engine is the [Minter] that talks to providers as the methods of connections say. Safe for concurrent use.
type Engine struct{ client *Client }

var _ Minter = (*Engine)(nil)

// NewEngine makes an Engine whose requests go out through a client.
func NewEngine(c *Client) *Engine { return &Engine{c} }

// Mint implements [Minter].
func (e *Engine) Mint(ctx context.Context, w *lease.Work, callback []wire.Pair, commit func(*lease.Raw) error) *Made {
	j := &job{work: w, record: w.Record, made: &Made{}}
	j.record.Fields = slices.Clone(w.Record.Fields)
	way := e.client.Tokens(w.Record.Customer, w.Record.Connection)
	defer way.Close()
	j.doer = &committer{Doer: way, commit: commit, kept: w.Raw}
	err := j.open(callback)
	switch {
	case err != nil:
	case w.Grant == lease.GrantRevoke:
		err = j.revoke(ctx)
	default:
		err = j.run(ctx)
	}
	if err != nil {
		j.failure(oauth.FaultOf(err))
		return j.made
	}
	if j.made.Outcome == 0 {
		j.saved(e.client)
	}
	return j.made
}

// job is one work on the tokens of a connection.
type job struct {
	work   *lease.Work
	spec   *credential.Spec
	doer   *committer
	grant  *oauth.Grant
	record lease.Record
	made   *Made
}

// open joins the records of the connection and of its client to a grant.
func (j *job) open(callback []wire.Pair) error {
	var err error
	if j.spec, err = credential.ParseSpec(j.work.Record.Spec); err != nil {
		return fmt.Errorf("method of the connection: %w", err)
	}
	in := oauth.Input{
		Spec: j.spec, Fields: engineFields(j.record.Fields), Client: map[string]secret.Value{}, Now: time.Now(),
		RedirectURI: j.work.RedirectURI, Verifier: secret.New([]byte(j.work.Verifier)), Nonce: j.work.Nonce,
	}
	if c := j.work.Client; c != nil {
		client, err := credential.ParseSpec(c.Spec)
		if err != nil {
			return fmt.Errorf("method of the client: %w", err)
		}
		// The client's secret goes where the method says that was entered with it, and nowhere else.
		if !j.spec.SameMethod(client) {
			return errClientMethod
		}
		in.Client = engineFields(c.Fields)
	} else {
		for _, f := range j.spec.Method.Client() { // entered with the connection
			if v, ok := in.Fields[f.Name]; ok {
				in.Client[f.Name] = v
			}
		}
	}
	if j.work.Grant == lease.GrantExchange {
		if in.Callback, err = oauth.ReadCallback(j.spec, callbackPairs(callback)); err != nil {
			return err
		}
	}
	j.grant, err = oauth.New(in)
	return err
}

func callbackPairs(in []wire.Pair) []oauth.Pair {
	out := make([]oauth.Pair, len(in))
	for i, p := range in {
		out[i] = oauth.Pair{Name: p.Name, Value: p.Value}
	}
	return out
}

// engineFields are the fields of a record as the engine calls them.
func engineFields(fields []lease.Field) map[string]secret.Value {
	out := make(map[string]secret.Value, len(fields))
	for _, f := range fields {
		out[strings.TrimPrefix(f.Name, lease.KeptPrefix)] = secret.New(f.Secret)
	}
	return out
}

// run makes the legs: those whose answers were committed before, then those that are due.
func (j *job) run(ctx context.Context) error {
	legs, err := j.legs()
	if err != nil {
		return err
	}
	for i, leg := range legs {
		j.doer.begin(leg, j.grant.Consumes(leg))
		tokens, err := j.grant.Run(ctx, j.doer, leg)
		if tokens != nil && (err == nil || leg.Kind == oauth.LegRefresh) {
			if applied := j.apply(tokens); applied != nil {
				return applied
			}
		}
		if err == nil {
			continue
		}
		if i == 0 && (tokens == nil || leg.Kind != oauth.LegRefresh) {
			return err
		}
		f := oauth.FaultOf(err) // what the legs before have brought is not lost
		j.made.Reason, j.made.Message = reason(f), f.Message
		return nil
	}
	return nil
}

// legs decides what is to be done.
func (j *job) legs() ([]oauth.Leg, error) {
	if j.work.Grant == lease.GrantExchange {
		return []oauth.Leg{{Kind: oauth.LegExchange}}, nil
	}
	var legs []oauth.Leg
	for i := range j.work.Raw {
		if leg, ok := legOf(&j.work.Raw[i]); ok {
			legs = append(legs, leg)
		}
	}
	due := j.grant.Due(time.Now().Add(oauth.Margin(j.spec.Method.Recipe, time.Until(j.work.Record.Expires)) + time.Minute))
	if len(due) == 0 && len(legs) == 0 {
		due = []string{""}
	}
	for _, set := range due {
		leg, ok := j.grant.Renewal(set)
		if ok && !slices.Contains(legs, leg) {
			legs = append(legs, leg)
		}
	}
	if len(legs) == 0 {
		return nil, &oauth.Fault{Kind: oauth.Refused, Message: "there is nothing to renew the token with"}
	}
	return legs, nil
}

// apply puts what a leg has brought into the record.
func (j *job) apply(t *oauth.Tokens) error {
	for name, v := range t.Fields {
		j.put(j.fieldName(name), v.Reveal())
	}
	for _, name := range j.placed() { // what places need of the client, or of what was entered, is leased with the tokens
		if v, ok := j.value(name); ok {
			j.put(lease.KeptPrefix+name, v)
		}
	}
	j.record.Expires = t.Expires
	if len(t.Scopes) > 0 {
		j.made.Scopes = strings.Join(t.Scopes, " ")
	}
	if t.Account != "" {
		j.put(lease.FieldAccount, []byte(t.Account))
		label := shortLabel(t.Label)
		j.put(lease.FieldAccountLabel, []byte(label))
		j.made.Account = lease.Account{ID: t.Account, Label: label}
	}
	return j.bind(t.Base)
}

// shortLabel is the name of an account as it is kept: one line of whole characters.
func shortLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > lease.MaxAccountLabel {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.TrimSpace(s)
}

// bind narrows the binding to the base URL that the recipe made of the first answer, within what the record allows. Nothing
// that comes later moves a connection.
func (j *job) bind(base *url.URL) error {
	b := &j.record.Binding
	below, open := strings.CutPrefix(b.Host, "*")
	hosts := j.record.Hosts
	if base == nil || !open && len(hosts) == 0 && (b.BasePath != "" || base.Hostname() != b.Host) {
		return nil // it was decided before
	}
	if len(hosts) > 0 && !slices.Contains(hosts, base.Hostname()) || len(hosts) == 0 && !strings.HasSuffix(base.Hostname(), below) {
		return &oauth.Fault{Kind: oauth.Protocol, Message: "the provider names a host outside of the connection's binding"}
	}
	j.record.Hosts = nil
	b.Scheme, b.Host, b.Port, b.BasePath = base.Scheme, base.Hostname(), uint32(defaultPort(base.Scheme)), strings.TrimRight(base.EscapedPath(), "/")
	if p := base.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return fmt.Errorf("port of the base URL: %w", err)
		}
		b.Port = uint32(n)
	}
	return nil
}

// fieldName is how the record calls what the engine has brought: tokens and their ends by their names, kept values with a prefix,
// which lets them be leased.
func (j *job) fieldName(name string) string {
	switch last := name[strings.LastIndexByte(name, '.')+1:]; last {
	case oauth.FieldAccess, oauth.FieldRefresh, oauth.FieldID, oauth.FieldExpires:
		return name
	}
	return lease.KeptPrefix + name
}

// put sets a field of the record; an empty value takes it away.
func (j *job) put(name string, value []byte) {
	j.record.Fields = slices.DeleteFunc(j.record.Fields, func(f lease.Field) bool { return f.Name == name })
	if len(value) > 0 {
		j.record.Fields = append(j.record.Fields, lease.Field{Name: name, Secret: slices.Clone(value)})
	}
}

// placed are the names that the places of the method use and that an egress lease would not hold.
func (j *job) placed() []string {
	var out []string
	for _, p := range j.spec.Method.Placed() {
		for _, name := range credential.Uses(p.Format + p.User) {
			name, _, _ := strings.Cut(name, ".")
			if !slices.Contains(out, name) && !slices.Contains([]string{oauth.FieldAccess, oauth.FieldRefresh, oauth.FieldID, "client_secret"}, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func (j *job) value(name string) ([]byte, bool) {
	for _, r := range []*lease.Record{&j.work.Record, j.work.Client} {
		if r != nil {
			if v := r.Field(name); len(v) > 0 {
				return v, true
			}
		}
	}
	return nil, false
}

// saved says that the record is to be saved.
func (j *job) saved(c *Client) {
	m := j.made
	m.Outcome, m.Record = lease.OutcomeSaved, &j.record
	if !j.record.Expires.IsZero() {
		m.Refresh = j.record.Expires.Add(-oauth.Margin(j.spec.Method.Recipe, time.Until(j.record.Expires)))
	}
	m.Undo = func(ctx context.Context) {
		way := c.Tokens(j.record.Customer, j.record.Connection)
		defer way.Close()
		// Whether it works or not, there is nobody to tell: the tokens were never anybody's.
		_, _ = j.grant.Revoke(ctx, way)
	}
}

// failure says what a fault means for the work.
func (j *job) failure(f *oauth.Fault) {
	m := j.made
	m.Reason, m.Message = reason(f), f.Message
	if f.Code != "" {
		m.Message += " (" + f.Code + ")"
	}
	switch {
	case f.Kind == oauth.Refused && j.work.Grant != lease.GrantRevoke:
		m.Outcome = lease.OutcomeRefused
		m.Denied = j.work.Grant == lease.GrantExchange && f.Code == "access_denied"
	case f.Kind == oauth.Ambiguous, f.Kind == oauth.Protocol && j.doer.consumed:
		m.Outcome = lease.OutcomeUnsure
	default:
		m.Outcome = lease.OutcomeFailed
	}
}

// reason is a stable word for the log.
func reason(f *oauth.Fault) string {
	const longest = 40
	if code := strings.ToLower(strings.ReplaceAll(f.Code, " ", "_")); code != "" && len(code) <= longest {
		return code
	}
	return string(f.Kind)
}

// revoke gives the tokens of a connection up at the provider.
func (j *job) revoke(ctx context.Context) error {
	j.doer.begin(oauth.Leg{}, false)
	offered, err := j.grant.Revoke(ctx, j.doer)
	if err != nil {
		return err
	}
	j.made.Outcome = lease.OutcomeRevoked
	if !offered {
		j.made.Reason, j.made.Message = "not_offered", "the provider offers no revocation: the tokens end by themselves"
	}
	return nil
}

// committer is the sender of a work: what consumes something is committed before it is read, and what was committed before is
// returned instead of being sent again.
type committer struct {
	oauth.Doer
	commit func(*lease.Raw) error
	kept   []lease.Raw

	leg      oauth.Leg
	first    bool // the next request is the first of its leg, and consumes
	consumed bool
}

// begin is told before each leg.
func (c *committer) begin(leg oauth.Leg, consumes bool) { c.leg, c.first = leg, consumes }

// Do implements [oauth.Doer].
func (c *committer) Do(ctx context.Context, r *oauth.Request) (*oauth.Response, error) {
	if !c.first {
		return c.Doer.Do(ctx, r)
	}
	c.first, c.consumed = false, true
	if len(c.kept) > 0 {
		if leg, ok := legOf(&c.kept[0]); ok && leg == c.leg {
			kept := c.kept[0]
			c.kept = c.kept[1:]
			return responseOf(&kept), nil
		}
	}
	sent := time.Now()
	answer, err := c.Doer.Do(ctx, r)
	if err != nil {
		c.consumed = !errors.Is(err, oauth.ErrUnsent)
		return nil, err
	}
	raw, err := c.raw(answer, sent)
	if err != nil {
		return nil, err
	}
	return answer, c.commit(raw)
}

// raw is an answer as it is committed.
func (c *committer) raw(answer *oauth.Response, sent time.Time) (*lease.Raw, error) {
	raw := &lease.Raw{Sent: sent, Status: uint32(answer.Status), Body: answer.Body, Headers: []wire.Pair{{Name: legHeader, Value: string(c.leg.Kind) + "/" + c.leg.Set}}}
	size := len(answer.Body)
	for name, values := range answer.Header {
		for _, v := range values {
			size += len(name) + len(v)
			raw.Headers = append(raw.Headers, wire.Pair{Name: name, Value: v})
		}
	}
	if size > lease.MaxRaw {
		return nil, errTokenSize
	}
	return raw, nil
}

// legOf is the leg that a committed answer belongs to.
func legOf(r *lease.Raw) (oauth.Leg, bool) {
	for _, h := range r.Headers {
		if h.Name == legHeader {
			kind, set, _ := strings.Cut(h.Value, "/")
			return oauth.Leg{Kind: oauth.LegKind(kind), Set: set}, true
		}
	}
	return oauth.Leg{}, false
}

func responseOf(r *lease.Raw) *oauth.Response {
	h := http.Header{}
	for _, p := range r.Headers {
		if p.Name != legHeader {
			h[p.Name] = append(h[p.Name], p.Value)
		}
	}
	return &oauth.Response{Status: int(r.Status), Header: h, Body: r.Body, Sent: r.Sent}
}
