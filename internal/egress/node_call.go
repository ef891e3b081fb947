package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// specOf makes the specification of one slot from its credential record.
func specOf(l *lease.Egress, r *lease.Record) (LeaseSpec, error) {
	b := Binding{Scheme: r.Binding.Scheme, Host: r.Binding.Host, BasePath: r.Binding.BasePath}
	if r.Binding.Port > 1<<16-1 {
		return LeaseSpec{}, fmt.Errorf("%w: port %d", ErrBinding, r.Binding.Port)
	}
	b.Port = uint16(r.Binding.Port)
	for _, base := range r.Binding.Bases {
		if base.Port > 1<<16-1 {
			return LeaseSpec{}, fmt.Errorf("%w: port %d", ErrBinding, base.Port)
		}
		b.Bases = append(b.Bases, Base{Name: base.Name, Host: base.Host, Port: uint16(base.Port), BasePath: base.BasePath})
	}
	for _, f := range r.Binding.Follow {
		b.Follow = append(b.Follow, Follow(f))
	}
	methods, paths := r.Binding.Methods, r.Binding.Paths
	if len(methods)+len(paths) > 0 {
		if len(methods) == 0 {
			methods = []string{"*"}
		}
		if len(paths) == 0 {
			paths = []string{"/**"}
		}
		for _, m := range methods {
			for _, p := range paths {
				b.Rules = append(b.Rules, Rule{Method: m, Path: p})
			}
		}
	}
	c := Credential{Kind: Kind(r.Kind), Fields: map[string]secret.Value{}}
	var rate *credential.Rate
	if len(r.Spec) > 0 {
		spec, err := credential.ParseSpec(r.Spec)
		if err != nil {
			return LeaseSpec{}, fmt.Errorf("%w: %w", ErrCredential, err)
		}
		if rate = spec.Rate; c.Kind.specified() {
			c.Spec = spec
		}
	}
	for _, f := range r.Fields {
		if f.Name == "name" && c.Spec == nil {
			c.Name = string(f.Secret)
			continue
		}
		c.Fields[f.Name] = secret.New(f.Secret)
	}
	return LeaseSpec{
		Rate: rate, Customer: l.Customer, Instance: l.Instance, Connection: r.Connection, Version: r.Version, Binding: b, Credential: c,
		Budget: Budget{Requests: int64(l.Requests), Bytes: int64(l.Bytes)},
	}, nil
}

// paced makes a call within the limits of its connection. What it waits counts as time of the call. The error is errReplaced
// when the credential was replaced meanwhile: nothing was sent then.
func (n *Node) paced(ctx context.Context, t *task, call *Call) (*Answer, error) {
	l, action := call.Lease, t.request.Action
	if l.rate == nil {
		if n.outdated(t) {
			return nil, errReplaced
		}
		return n.cfg.Client.Do(ctx, call)
	}
	if call.Timeout <= 0 {
		call.Timeout = DefaultTimeout
	}
	call.Timeout = min(call.Timeout, MaxTimeout)
	began := time.Now()
	waiting, cancel := context.WithTimeout(ctx, call.Timeout)
	f := n.pace.enter(waiting, l.connection, action, l.rate)
	cancel()
	if f != nil {
		return nil, f
	}
	if call.Timeout -= time.Since(began); call.Timeout <= 0 {
		n.pace.leave(l.connection, action, l.rate, 0, nil, nil)
		return nil, slower(0)
	}
	if n.outdated(t) {
		n.pace.leave(l.connection, action, l.rate, 0, nil, nil)
		return nil, errReplaced
	}
	var last *Answer
	defer func() {
		if last == nil {
			n.pace.leave(l.connection, action, l.rate, 0, nil, nil)
			return
		}
		n.pace.leave(l.connection, action, l.rate, last.Status, last.Headers, last.Body)
	}()
	a, err := n.cfg.Client.Do(ctx, call)
	last = a
	if f, ok := errors.AsType[*Fault](err); ok {
		last = f.Answer
	}
	return a, err
}

// do makes one call and describes what came of it. It is nil when the credential was replaced since the lease was granted:
// then nothing was sent that had an effect.
func (n *Node) do(t *task) *wire.Response {
	r := &t.request
	if n.outdated(t) {
		return nil
	}
	l, ok := t.lease.slots[r.Slot]
	s := t.lease.tokens[r.Slot]
	if !ok && s == nil {
		why := t.lease.refused[r.Slot]
		if why == "" {
			why = fmt.Sprintf("the instance has no connection in slot %q", r.Slot)
		}
		return &wire.Response{ErrorType: string(EgressDenied), Message: why}
	}
	within, shared := t.lease.sharing[r.Slot][r.Action]
	if t.lease.sharing[r.Slot] != nil && !shared {
		return &wire.Response{ErrorType: string(EgressDenied), Message: notShared(t.lease.sharing[r.Slot], r.Action)}
	}
	ctx, cancel := context.WithCancel(t.lease.ctx)
	defer cancel()
	if s == nil {
		return n.once(ctx, t, l, within)
	}
	l, version, fault := n.usable(ctx, s)
	if fault != nil {
		return responseOfFault(fault)
	}
	out := n.once(ctx, t, l, within)
	if out == nil || out.Status != http.StatusUnauthorized || !out.Definite || out.ErrorType != string(Auth) {
		return out
	}
	// A definite 401 had no effect: newer tokens may help, once.
	if err := n.renewSlot(ctx, s, version); err != nil {
		n.cfg.Log.Debug("tokens that were refused could not be renewed", "connection", l.connection, "err", err)
		return out
	}
	newer, r2 := s.now()
	if r2.Version == version {
		return out
	}
	return n.once(ctx, t, newer, within)
}

// responseOfFault describes a call that was not made.
func responseOfFault(f *Fault) *wire.Response {
	return &wire.Response{ErrorType: string(f.Type), Message: f.Message, RetryAfter: f.RetryAfter}
}

// once makes a call with a credential, within what its action is, when the connection is shared for some only. It is nil when
// the credential was replaced before.
func (n *Node) once(ctx context.Context, t *task, l *Lease, within []permitted) *wire.Response {
	r := &t.request
	call := n.callOf(ctx, l, r)
	call.within = within
	var blob *blobWriter
	call.Sink = func(a *Answer) (io.WriteCloser, error) {
		w, err := n.blobs.create(ctx, r.Execution, r.Day)
		if err != nil {
			return nil, err
		}
		w.ref.ContentType = a.Headers.Get("Content-Type")
		blob = w
		return w, nil
	}
	a, err := n.paced(ctx, t, call)
	if errors.Is(err, errReplaced) {
		return nil
	}
	out := &wire.Response{Definite: err == nil}
	var f *Fault
	if errors.As(err, &f) {
		out.ErrorType, out.Message, out.Definite, out.RetryAfter = string(f.Type), f.Message, f.Definite(), f.RetryAfter
		a = f.Answer
		out.Status = uint32(f.Status)
	} else if err != nil {
		out.ErrorType, out.Message = string(Upstream), "the call failed"
	}
	describe(out, a, blob)
	return out
}

// callOf translates a worker's request. Blobs are opened when they are read.
func (n *Node) callOf(ctx context.Context, l *Lease, r *wire.Request) *Call {
	call := &Call{
		Lease: l, Execution: r.Execution, Action: r.Action, Method: r.Method, Base: r.Base, Path: r.Path, Query: pairs(r.Query), Headers: pairs(r.Headers),
		ContentType: r.ContentType, Expect: r.Expect, IdempotencyKey: r.IdempotencyKey, Timeout: r.Timeout, Response: mode(r.Accept),
	}
	if r.HasBody && r.BodyBlob == nil {
		call.Body = r.Body
		if call.Body == nil {
			call.Body = []byte{}
		}
	}
	if r.BodyBlob != nil {
		call.Stream, call.StreamSize = n.blobs.open(ctx, r.Execution, r.BodyBlob), int64(r.BodyBlob.Size)
		if call.ContentType == "" {
			call.ContentType = r.BodyBlob.ContentType
		}
	}
	for _, p := range r.Parts {
		part := Part{Name: p.Name, FileName: p.FileName, ContentType: p.ContentType, Data: p.Data}
		if p.Blob != nil {
			part.Stream, part.Size = n.blobs.open(ctx, r.Execution, p.Blob), int64(p.Blob.Size)
		}
		call.Multipart = append(call.Multipart, part)
	}
	return call
}

// describe copies an answer, if one came, to the response for the worker.
func describe(out *wire.Response, a *Answer, blob *blobWriter) {
	if a == nil {
		return
	}
	out.Status, out.Scrubbed, out.Duration = uint32(a.Status), uint32(a.ScrubHits), a.Duration
	out.Body, out.Text = a.Body, a.Format == ModeText
	if a.Streamed && blob != nil && blob.done {
		ref := blob.ref
		out.Blob = &ref
	}
	for name, values := range a.Headers {
		for _, v := range values {
			out.Headers = append(out.Headers, wire.Pair{Name: strings.ToLower(name), Value: v})
		}
	}
	slices.SortStableFunc(out.Headers, func(x, y wire.Pair) int { return strings.Compare(x.Name, y.Name) })
}

func pairs(in []wire.Pair) []Pair {
	out := make([]Pair, len(in))
	for i, p := range in {
		out[i] = Pair(p)
	}
	return out
}

func mode(m wire.ResponseMode) Mode {
	switch m {
	case wire.ResponseJSON:
		return ModeJSON
	case wire.ResponseText:
		return ModeText
	case wire.ResponseFile:
		return ModeFile
	default:
		return ModeAuto
	}
}

// RecordTo makes a Recorder that sends each flow record to a server.
func RecordTo(b Bus, node id.Node) Recorder {
	return RecorderFunc(func(f Flow) { b.Send(wire.RoleServer, id.Node{}, wire.TopicFlow, flowRecord(f, node)) })
}
