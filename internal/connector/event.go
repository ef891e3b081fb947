package connector

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// Delivery is a request that the other side sends about an event.
type Delivery struct {
	Method string
	URL    string // as the other side was told, with its query
	Header func(name string) string
	Query  func(name string) string
	Raw    []byte     // the body
	Body   expr.Value // the body parsed; nil where it is none
}

// At returns what is at a place of a delivery: body:a.b, header:NAME, query:NAME, or method:NAME, which is there when that is
// its method. ok is false where there is nothing.
func (d *Delivery) At(place string) (v expr.Value, ok bool) {
	kind, name, _ := strings.Cut(place, ":")
	switch kind {
	case "body":
		if v, ok = At(d.Body, name); ok && expr.Kind(v) == expr.KindNull {
			return nil, false
		}
		return v, ok
	case "header":
		s := d.Header(name)
		return expr.String(s), s != ""
	case "query":
		s := d.Query(name)
		return expr.String(s), s != ""
	case "method":
		return expr.String(d.Method), d.Method == name
	}
	return nil, false
}

// Text is At as a text: numbers and truths as they are written, anything else as nothing.
func (d *Delivery) Text(place string) (string, bool) {
	v, ok := d.At(place)
	if !ok {
		return "", false
	}
	switch expr.Kind(v) {
	case expr.KindString, expr.KindNumber, expr.KindBool:
		s, err := expr.Text(v)
		return s, err == nil
	}
	return "", false
}

// ID is the id of a delivery, by which it is known when it comes again: the texts at the places of the trigger's key, joined
// by +. It is empty where a place has nothing, so that two deliveries without an id are never the same.
func (t *Trigger) ID(d *Delivery) string {
	if t.Key == "" {
		return ""
	}
	var b strings.Builder
	for place := range strings.SplitSeq(t.Key, "+") {
		text, ok := d.Text(place)
		if !ok || text == "" {
			return ""
		}
		if b.Len() > 0 {
			b.WriteByte('+')
		}
		b.WriteString(text)
	}
	return b.String()
}

// Takes says whether a delivery is an event of the trigger; inputs are those of the flow.
func (t *Trigger) Takes(d *Delivery, inputs expr.Value) bool {
	for _, m := range t.Match {
		want := expr.Value(nil)
		got, ok := d.Text(m.From)
		if m.Present && !ok {
			return false
		}
		if m.Input != "" {
			v, given := At(inputs, m.Input)
			if !given || expr.Kind(v) == expr.KindNull {
				continue // an input that was not given excludes nothing
			}
			want = v
		} else if m.Present {
			continue
		}
		if !ok || want == nil && !slices.Contains(m.Values, got) || want != nil && !oneOf(want, got) {
			return false
		}
	}
	return true
}

func oneOf(want expr.Value, got string) bool {
	if expr.Kind(want) != expr.KindList {
		s, err := expr.Text(want)
		return err == nil && s == got
	}
	for i := range expr.Len(want) {
		if item, ok := expr.Index(want, i); ok && oneOf(item, got) {
			return true
		}
	}
	return false
}

// Proof is what a delivery claims in order to prove its sender. Whoever holds the secret checks it: for a signature, that
// one of Signatures is the MAC of Signed; else, that Plain is the secret.
type Proof struct {
	Algorithm  string // of the HMAC; empty: Plain counts
	Signed     []byte
	Signatures [][]byte
	Plain      string
	At         time.Time // when it was made, as it says; zero: it does not say
}

// ErrProof is wrapped where a delivery does not carry what its proof needs.
var ErrProof = errors.New("the delivery proves nothing")

// maxSignatures bounds the signatures of one delivery.
const maxSignatures = 10

// Proof takes a delivery apart. It checks no signature and no time: see [Verify.Fresh].
func (v *Verify) Proof(d *Delivery) (*Proof, error) {
	switch v.Type {
	case "hmac":
		return v.hmac(d)
	case "standard-webhooks":
		w := Verify{
			Type: "hmac", Algorithm: "sha256", Encoding: "base64", Header: "webhook-signature", List: " ", Prefix: "v1,",
			Signed: "{header.webhook-id}.{timestamp}.{body}", Timestamp: "header:webhook-timestamp",
		}
		return w.hmac(d)
	case "basic":
		return v.basic(d)
	case "body":
		value, ok := d.Text("body:" + v.Header)
		if !ok || value == "" {
			return nil, fmt.Errorf("%w: no %s in the body", ErrProof, v.Header)
		}
		return &Proof{Plain: value}, nil
	case "header", "query":
		value := d.Header(v.Header)
		if v.Type == "query" {
			value = d.Query(v.Header)
		}
		value, ok := strings.CutPrefix(value, v.Value+v.Prefix)
		if !ok || value == "" {
			return nil, fmt.Errorf("%w: no %s", ErrProof, v.Header)
		}
		return &Proof{Plain: value}, nil
	}
	return nil, fmt.Errorf("%w: type %q", ErrProof, v.Type)
}

// ProvesApp says whether events of an app can be proved by the recipe: there is one, and its secret is the app's. One address
// takes the events of all customers, so nobody is believed without.
func (v *Verify) ProvesApp() bool {
	return v != nil && v.Type != "none" && (v.Secret == "app" || v.Secret == "client")
}

// Fresh says whether the time of a proof is within the tolerance. A recipe without a timestamp has no time to check.
func (v *Verify) Fresh(p *Proof, now time.Time) bool {
	if v.Timestamp == "" && v.Type != "standard-webhooks" {
		return true
	}
	tolerance := v.Tolerance.Std()
	if tolerance == 0 {
		tolerance = 5 * time.Minute
	}
	return !p.At.IsZero() && now.Sub(p.At).Abs() <= tolerance
}

// basic takes the password of HTTP basic authentication (RFC 7617), whose user name is known.
func (v *Verify) basic(d *Delivery) (*Proof, error) {
	scheme, pair, _ := strings.Cut(d.Header("Authorization"), " ")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(pair))
	user, password, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok || !strings.EqualFold(scheme, "basic") || user != v.Value || password == "" {
		return nil, fmt.Errorf("%w: no user name and password", ErrProof)
	}
	return &Proof{Plain: password}, nil
}

func (v *Verify) hmac(d *Delivery) (*Proof, error) {
	header := d.Header(v.Header)
	if header == "" || len(header) > MaxText {
		return nil, fmt.Errorf("%w: no %s", ErrProof, v.Header)
	}
	values, parts := []string{header}, map[string]string{}
	switch {
	case v.Pairs != "":
		values = nil
		for pair := range strings.SplitSeq(header, v.Pairs) {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if name == v.Part {
				values = append(values, value)
			}
			parts[name] = value
		}
	case v.List != "":
		values = strings.Split(header, v.List)
	}
	p := &Proof{Algorithm: v.Algorithm}
	for _, value := range values[:min(len(values), maxSignatures)] {
		if s, ok := strings.CutPrefix(strings.TrimSpace(value), v.Prefix); ok {
			if b, err := v.decode(s); err == nil && len(b) > 0 {
				p.Signatures = append(p.Signatures, b)
			}
		}
	}
	if len(p.Signatures) == 0 {
		return nil, fmt.Errorf("%w: no signature in %s", ErrProof, v.Header)
	}
	stamp, err := v.timestamp(d, parts)
	if err != nil {
		return nil, err
	}
	p.At = moment(stamp)
	p.Signed = v.signed(d, stamp)
	return p, nil
}

func (v *Verify) decode(s string) ([]byte, error) {
	if v.Encoding == "base64" {
		return base64.StdEncoding.DecodeString(s)
	}
	return hex.DecodeString(s)
}

func (v *Verify) timestamp(d *Delivery, parts map[string]string) (string, error) {
	if v.Timestamp == "" {
		return "", nil
	}
	stamp := ""
	if name, ok := strings.CutPrefix(v.Timestamp, "part:"); ok {
		stamp = parts[name]
	} else {
		stamp, _ = d.Text(v.Timestamp)
	}
	if stamp == "" {
		return "", fmt.Errorf("%w: no timestamp", ErrProof)
	}
	return stamp, nil
}

// moment reads seconds or milliseconds since 1970, or a time of RFC 3339; zero is none.
func moment(s string) time.Time {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n > 1e11 {
			return time.UnixMilli(n).UTC()
		}
		return time.Unix(n, 0).UTC()
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC()
	}
	return time.Time{}
}

// signed is the text whose signature proves the sender.
func (v *Verify) signed(d *Delivery, stamp string) []byte {
	if v.Signed == "" || v.Signed == "{body}" {
		return d.Raw
	}
	var out []byte
	rest := v.Signed
	for {
		before, after, ok := strings.Cut(rest, "{")
		out = append(out, before...)
		if !ok {
			return out
		}
		name, tail, ok := strings.Cut(after, "}")
		if !ok {
			return append(out, "{"+after...)
		}
		rest = tail
		switch name {
		case "body":
			out = append(out, d.Raw...)
		case "timestamp":
			out = append(out, stamp...)
		case "method":
			out = append(out, d.Method...)
		case "url":
			out = append(out, d.URL...)
		case "path":
			if u, err := url.Parse(d.URL); err == nil {
				out = append(out, u.EscapedPath()...)
			}
		case "form":
			out = append(out, sortedForm(d.Raw)...)
		default:
			out = append(out, d.Header(strings.TrimPrefix(name, "header."))...)
		}
	}
}

// sortedForm writes the parameters of a form as name and value, sorted by name, without separators.
func sortedForm(raw []byte) string {
	list := ParseQuery(string(raw))
	slices.SortStableFunc(list, func(a, b Fixed) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	for _, f := range list {
		b.WriteString(f.Name + f.Value)
	}
	return b.String()
}

// Asked says whether a delivery is a check of the address, and the text that answers it, before HMAC.
func (c *Challenge) Asked(d *Delivery) (text string, ok bool) {
	place, want, compared := strings.Cut(c.When, "=")
	got, there := d.Text(place)
	if !there || compared && got != want {
		return "", false
	}
	return d.Text(c.Answer)
}

// Events are the events of a delivery to an app's address: the items of the list at Many, or the body. Where Form is set,
// the body is a form, and the event is JSON in that field of it.
func (r *AppRoute) Events(body expr.Value) ([]expr.Value, error) {
	if r.Form != "" {
		v, ok := At(body, r.Form)
		s, isText := expr.Str(v)
		if !ok || !isText {
			return nil, fmt.Errorf("%w: no field %s", ErrProof, r.Form)
		}
		var err error
		if body, err = expr.ParseJSON([]byte(s)); err != nil {
			return nil, fmt.Errorf("read field %s: %w", r.Form, err)
		}
	}
	if r.Many == "" {
		return []expr.Value{body}, nil
	}
	list, ok := body, true
	if r.Many != "." {
		list, ok = At(body, r.Many)
	}
	if !ok || expr.Kind(list) != expr.KindList {
		return nil, fmt.Errorf("%w: no list %s", ErrProof, r.Many)
	}
	events := make([]expr.Value, 0, expr.Len(list))
	for i := range expr.Len(list) {
		if v, ok := expr.Index(list, i); ok {
			events = append(events, v)
		}
	}
	return events, nil
}
