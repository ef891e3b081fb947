package trigger

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// The headers of Standard Webhooks 1.0.
const (
	standardID        = "Webhook-Id"
	standardTimestamp = "Webhook-Timestamp"
	standardSignature = "Webhook-Signature"
)

const (
	// maxProof bounds a header that proves something, in bytes.
	maxProof = 16 << 10
	// maxParts is how many checks that come in parts are open at a time: less than the
	// sessions that the vault keeps, of which other servers need some too.
	maxParts = 16
	// partsTime bounds such a check.
	partsTime = 30 * time.Second
)

// proof is what a request offers for who sent it, as a check for the vault. With body the
// data is the request's body with what was signed around it; else it is in the check.
type proof struct {
	check         lease.MacCheck
	before, after string // around the body
	body          bool
	then          func() error // checked after the signature
}

// Reasons of a refused proof, to be compared with errors.Is.
var (
	errNoProof   = errors.New("the request has no signature")
	errBadProof  = errors.New("the signature does not match")
	errExpired   = errors.New("the signature is too old")
	errNoSecret  = errors.New("the instance has no secret for the check")
	errNoRecipe  = errors.New("there is no recipe for the check")
	errUnchecked = errors.New("the vault could not check")
)

// hiddenHeaders are the headers that prove who a sender is, which no flow sees.
func hiddenHeaders(v *flow.Verify) []string {
	var name string
	switch {
	case v.HMAC != nil:
		name = v.HMAC.Header
	case v.StandardWebhooks != nil:
		name = standardSignature
	case v.Header != nil:
		name = v.Header.Name
	case v.JWT != nil:
		name = v.JWT.Header
	}
	if name == "" {
		return nil
	}
	return []string{http.CanonicalHeaderKey(name)}
}

// prove reads what a request offers. The error is one of the reasons above.
func prove(v *flow.Verify, r *http.Request, now time.Time) (*proof, error) {
	switch {
	case v.HMAC != nil:
		return proveHMAC(v.HMAC, r, now)
	case v.StandardWebhooks != nil:
		return proveStandard(v.StandardWebhooks, r, now)
	case v.Header != nil:
		text, err := oneHeader(r, v.Header.Name)
		return equal(v.Header.Secret, text, err)
	case v.Basic != nil:
		user, password, ok := r.BasicAuth()
		if _, err := oneHeader(r, "Authorization"); err != nil || !ok {
			return nil, errNoProof
		}
		p, err := equal(v.Basic.Password, password, nil)
		p.then = func() error {
			if subtle.ConstantTimeCompare([]byte(user), []byte(v.Basic.Username)) != 1 {
				return errBadProof
			}
			return nil
		}
		return p, err
	case v.Bearer != nil:
		token, err := bearer(r, "Authorization")
		return equal(v.Bearer.Secret, token, err)
	case v.JWT != nil:
		return proveJWT(v.JWT, r, now)
	}
	return nil, errNoRecipe
}

// oneHeader is the value of a header that stands exactly once.
func oneHeader(r *http.Request, name string) (string, error) {
	values := r.Header.Values(name)
	if len(values) != 1 || values[0] == "" || len(values[0]) > maxProof {
		return "", errNoProof
	}
	return values[0], nil
}

// bearer is the token of a header (RFC 6750, 2.1).
func bearer(r *http.Request, name string) (string, error) {
	text, err := oneHeader(r, name)
	if err != nil {
		return "", err
	}
	scheme, token, ok := strings.Cut(text, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", errNoProof
	}
	return strings.TrimSpace(token), nil
}

// equal is a check that a text is a secret.
func equal(secret flow.SecretRef, text string, err error) (*proof, error) {
	if err != nil {
		return nil, err
	}
	return &proof{check: lease.MacCheck{Kind: lease.MacEqual, Secrets: []string{secret.Name()}, Candidates: [][]byte{[]byte(text)}}}, nil
}

// proveHMAC reads a signature. A header that holds a list, such as t=1,v1=ab,v1=cd, is taken
// apart at its commas: every element with the prefix is a signature, t is the timestamp.
func proveHMAC(v *flow.VerifyHMAC, r *http.Request, now time.Time) (*proof, error) {
	text, err := oneHeader(r, v.Header)
	if err != nil {
		return nil, err
	}
	p := &proof{body: true}
	p.check = lease.MacCheck{Kind: lease.MacHMAC, Algorithm: v.Algorithm}
	for _, s := range v.Secrets {
		p.check.Secrets = append(p.check.Secrets, s.Name())
	}
	for element := range strings.SplitSeq(text, ",") {
		signature, ok := strings.CutPrefix(strings.TrimSpace(element), v.Prefix)
		if !ok {
			continue
		}
		b, err := decodeSignature(v.Encoding, signature)
		if err == nil && len(b) > 0 && len(p.check.Candidates) < lease.MaxMacCandidates {
			p.check.Candidates = append(p.check.Candidates, b)
		}
	}
	if len(p.check.Candidates) == 0 {
		return nil, errNoProof
	}
	var stamp string
	if t := v.Timestamp; t != nil {
		if stamp, err = oneHeader(r, t.Header); err != nil {
			return nil, err
		}
		for element := range strings.SplitSeq(stamp, ",") {
			if inner, ok := strings.CutPrefix(strings.TrimSpace(element), "t="); ok {
				stamp = inner
				break
			}
		}
		if err := fresh(stamp, t.Tolerance, now); err != nil {
			return nil, err
		}
	}
	return p, p.template(v.Signed, stamp, r)
}

func decodeSignature(encoding, s string) ([]byte, error) {
	switch encoding {
	case "", "hex":
		return hex.DecodeString(s)
	case "base64":
		return base64.StdEncoding.DecodeString(s)
	default:
		return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	}
}

// template fills in what is signed around the body, which stands once.
func (p *proof) template(signed, stamp string, r *http.Request) error {
	if signed == "" {
		return nil
	}
	before, after, ok := strings.Cut(signed, "{body}")
	if !ok || strings.Contains(after, "{body}") {
		return errNoRecipe
	}
	fill := strings.NewReplacer("{timestamp}", stamp, "{method}", r.Method, "{path}", r.URL.EscapedPath())
	p.before, p.after = fill.Replace(before), fill.Replace(after)
	return nil
}

// fresh checks that a timestamp is near enough to now: seconds or milliseconds since 1970,
// or a time as in RFC 3339.
func fresh(stamp string, tolerance flow.Duration, now time.Time) error {
	var at time.Time
	n, err := strconv.ParseInt(stamp, 10, 64)
	switch {
	case err == nil && len(stamp) >= 13:
		at = time.UnixMilli(n)
	case err == nil:
		at = time.Unix(n, 0)
	default:
		if at, err = time.Parse(time.RFC3339, stamp); err != nil {
			return errNoProof
		}
	}
	if age, limit := now.Sub(at), tolerance.Or(flow.DefaultTolerance); age > limit || age < -limit {
		return errExpired
	}
	return nil
}

// proveStandard reads the headers of Standard Webhooks: a signature over id, timestamp and
// body for each secret that the sender has.
func proveStandard(v *flow.VerifyStandard, r *http.Request, now time.Time) (*proof, error) {
	messageID, err1 := oneHeader(r, standardID)
	stamp, err2 := oneHeader(r, standardTimestamp)
	text, err3 := oneHeader(r, standardSignature)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, errNoProof
	}
	if _, err := strconv.ParseInt(stamp, 10, 64); err != nil || strings.Contains(messageID, ".") {
		return nil, errNoProof
	}
	if err := fresh(stamp, v.Tolerance, now); err != nil {
		return nil, err
	}
	p := &proof{body: true, before: messageID + "." + stamp + "."}
	p.check = lease.MacCheck{Kind: lease.MacHMAC, Algorithm: "sha256", Decoding: lease.MacStandard, Secrets: []string{v.Secret.Name()}}
	for element := range strings.SplitSeq(text, " ") {
		signature, ok := strings.CutPrefix(element, "v1,")
		if !ok {
			continue
		}
		if b, err := base64.StdEncoding.DecodeString(signature); err == nil && len(p.check.Candidates) < lease.MaxMacCandidates {
			p.check.Candidates = append(p.check.Candidates, b)
		}
	}
	if len(p.check.Candidates) == 0 {
		return nil, errNoProof
	}
	return p, nil
}

// claims are what a token says (RFC 7519, 4.1).
type claims struct {
	Expires   *json.Number    `json:"exp"`
	NotBefore *json.Number    `json:"nbf"`
	Issuer    string          `json:"iss"`
	Audience  json.RawMessage `json:"aud"`
}

// proveJWT reads a token (RFC 7515, 7.1). The signature is checked by the algorithm that the
// flow names, which the token must name too; then its claims are. A token without an end is
// refused: nothing would ever take it back.
func proveJWT(v *flow.VerifyJWT, r *http.Request, now time.Time) (*proof, error) {
	token, err := "", error(nil)
	if v.Header == "" || strings.EqualFold(v.Header, "Authorization") {
		token, err = bearer(r, "Authorization")
	} else {
		token, err = oneHeader(r, v.Header)
	}
	if err != nil {
		return nil, err
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errNoProof
	}
	var header struct {
		Algorithm string          `json:"alg"`
		Critical  json.RawMessage `json:"crit"`
	}
	var c claims
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || decodePart(parts[0], &header) != nil || decodePart(parts[1], &c) != nil {
		return nil, errNoProof
	}
	if header.Algorithm != v.Algorithm || header.Critical != nil {
		return nil, errBadProof
	}
	p := &proof{check: lease.MacCheck{
		Kind: lease.MacJWS, Algorithm: v.Algorithm, Secrets: []string{v.Secret.Name()},
		Data: []byte(parts[0] + "." + parts[1]), Candidates: [][]byte{signature},
	}}
	p.then = func() error { return c.check(v, now) }
	return p, nil
}

func decodePart(s string, to any) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

func (c *claims) check(v *flow.VerifyJWT, now time.Time) error {
	slack := v.Tolerance.Or(flow.DefaultTolerance)
	end, ok := numericDate(c.Expires)
	if !ok || !now.Before(end.Add(slack)) {
		return errExpired
	}
	if c.NotBefore != nil {
		if begin, ok := numericDate(c.NotBefore); !ok || now.Before(begin.Add(-slack)) {
			return errExpired
		}
	}
	if v.Issuer != "" && c.Issuer != v.Issuer {
		return errBadProof
	}
	if v.Audience == "" {
		return nil
	}
	var one string
	var many []string
	if json.Unmarshal(c.Audience, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(c.Audience, &many) != nil {
		return errBadProof
	}
	if !slices.Contains(many, v.Audience) {
		return errBadProof
	}
	return nil
}

// numericDate reads seconds since 1970 (RFC 7519, 2), as far as times go.
func numericDate(n *json.Number) (time.Time, bool) {
	if n == nil {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// verify checks that a request comes from who the flow says. The error is one of the reasons.
func (d *Door) verify(ctx context.Context, r *http.Request, t *engine.Target, q *Request) error {
	v, raw := &t.Flow.Trigger.Webhook.Verify, q.Raw
	switch {
	case v.None:
		return nil
	case v.Connector != "":
		return d.proveWebhook(ctx, r, t, q)
	}
	p, err := prove(v, r, d.now())
	if err != nil {
		return err
	}
	i := t.Instance
	p.check.Customer, p.check.Instance, p.check.ConfigVersion = i.Customer, i.ID, i.ConfigVersion
	result, err := d.ask(ctx, p, raw, i.Config)
	if err != nil {
		return errors.Join(errUnchecked, err)
	}
	switch result.Verdict {
	case lease.MacMatch:
	case lease.MacMismatch:
		return errBadProof
	case lease.MacMissing:
		return errNoSecret
	default:
		return errUnchecked
	}
	if p.then != nil {
		return p.then()
	}
	return nil
}

// ask puts a check to the vault, with the config when it is needed, and in parts when it is long.
func (d *Door) ask(ctx context.Context, p *proof, raw, config []byte) (lease.MacResult, error) {
	size := len(p.before) + len(raw) + len(p.after)
	if p.body && size > lease.MaxMacData {
		return d.askParts(ctx, p, raw, config)
	}
	m := &p.check
	if p.body {
		m.Data = append(append(append(make([]byte, 0, size), p.before...), raw...), p.after...)
	}
	result, err := d.checks.do(ctx, m)
	if err == nil && result.Verdict == lease.MacUnopened {
		unsealed(m, config)
		result, err = d.checks.do(ctx, m)
	}
	return result, err
}

// unsealed gives a check what its secrets are read from: the config, or the state value.
func unsealed(m *lease.MacCheck, sealed []byte) {
	if m.StateHash != [32]byte{} {
		m.State = sealed
		return
	}
	m.Config = sealed
}

// askParts puts a check in parts. It goes on to the last one when its sender is gone: a
// session of the vault that is left open keeps the large requests of others out.
func (d *Door) askParts(ctx context.Context, p *proof, raw, config []byte) (lease.MacResult, error) {
	select {
	case d.parts <- struct{}{}:
		defer func() { <-d.parts }()
	case <-ctx.Done():
		return lease.MacResult{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partsTime)
	defer cancel()
	first := p.check
	first.Candidates, first.More, first.Data = nil, true, []byte(p.before)
	_, _ = rand.Read(first.Session[:]) // never fails since Go 1.24
	result, err := d.checks.do(ctx, &first)
	if err == nil && result.Verdict == lease.MacUnopened {
		unsealed(&first, config)
		result, err = d.checks.do(ctx, &first)
	}
	for part := uint32(1); err == nil && result.Verdict == lease.MacPart; part++ {
		n := min(len(raw), lease.MaxMacData)
		next := first
		next.Config, next.State, next.Part, next.Data = nil, nil, part, raw[:n]
		if raw = raw[n:]; n == 0 {
			next.Data, next.More, next.Candidates = []byte(p.after), false, p.check.Candidates
		}
		result, err = d.checks.do(ctx, &next)
	}
	return result, err
}
