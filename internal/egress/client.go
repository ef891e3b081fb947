package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

var (
	errMethod = errors.New("the method is not allowed")
	errBase   = errors.New("the connection is not bound to this base of its connector: it was made with another version of it, so connect it again")
	errHost   = errors.New("the host is not within the connection's binding")
	errRule   = errors.New("method and path are not within the connection's binding")
	errKey    = errors.New("the idempotency key cannot be a header value")
	errCall   = errors.New("the call has no lease")
)

// Dialer opens connections. In the product it is a [dial.Dialer].
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

var _ Dialer = (*dial.Dialer)(nil)

// Options are the parts of a [Client].
type Options struct {
	// Dialer is required.
	Dialer Dialer
	// Recorder takes the flow records; required.
	Recorder Recorder
	// Roots are the certificate authorities trusted; nil loads the system's, once, in New, so that
	// they are in memory before the process locks itself down.
	Roots *x509.CertPool
	// UserAgent is sent unless a call sets its own; empty is "bulkhead".
	UserAgent string
}

// Client makes calls. Safe for concurrent use.
type Client struct {
	pool      *pool
	recorder  Recorder
	userAgent []string      // shared by all requests, read only
	gzip      []string      // the same
	blank     *http.Request // copied for every request
}

// New makes a Client.
func New(o Options) (*Client, error) {
	if o.Dialer == nil || o.Recorder == nil {
		return nil, errors.New("egress needs a dialer and a recorder")
	}
	if o.Roots == nil {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, errors.Join(errors.New("load certificate authorities"), err)
		}
		o.Roots = roots
	}
	if o.UserAgent == "" {
		o.UserAgent = "bulkhead"
	}
	return &Client{
		pool: newPool(o.Dialer, o.Roots), recorder: o.Recorder, userAgent: []string{o.UserAgent}, gzip: []string{"gzip"},
		blank: &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1},
	}, nil
}

// Close gives up idle connections. Calls that run finish.
func (c *Client) Close() { c.pool.close() }

// Do makes one call, follows its redirects and returns the scrubbed answer. The
// error is always a [*Fault]; for an answer that the call did not expect the
// fault carries it.
func (c *Client) Do(ctx context.Context, call *Call) (*Answer, error) {
	x, fault := c.prepare(call)
	if fault != nil {
		if x != nil {
			x.refused(fault)
		}
		return nil, fault
	}
	timeout := call.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, min(timeout, MaxTimeout))
	defer cancel()
	x.start = time.Now()
	for {
		a, next, fault := x.hop(ctx)
		if fault != nil {
			return nil, fault
		}
		if next != nil {
			x.follow(next)
			continue
		}
		a.Duration = time.Since(x.start)
		if !call.expected(a.Status) {
			return nil, statusFault(a, time.Now())
		}
		return a, nil
	}
}

// exchange is one call on its way.
type exchange struct {
	client *Client
	call   *Call
	via    *pooled

	bound *bound // the place of the binding at which the call begins

	// What the next hop sends.
	method     string
	at         target
	header     http.Header
	body       *payload
	credential bool // still at the origin that the credential is for
	origin     target
	hops       int

	start   time.Time
	id      id.Event // of this hop
	wire    wireReader
	addr    netip.AddrPort
	dialled bool
}

// prepare checks everything about a call that can be checked without the network.
func (c *Client) prepare(call *Call) (*exchange, *Fault) {
	if call.Lease == nil {
		return nil, refuse(InvalidInput, errCall)
	}
	l := call.Lease
	x := &exchange{client: c, call: call, id: id.NewEvent(time.Now()), method: call.Method, credential: true}
	if x.method == "" {
		x.method = http.MethodGet
	}
	if !methodAllowed(x.method) {
		return nil, refuse(InvalidInput, errMethod)
	}
	if x.bound = l.bound.at(call.Base); x.bound == nil {
		return x, refuse(EgressDenied, errBase)
	}
	x.at = target{scheme: x.bound.scheme, host: x.bound.host.exact, port: x.bound.port}
	if fault := x.aim(); fault != nil {
		return x, fault
	}
	x.origin = x.at
	var err error
	if x.header, err = l.authorHeaders(call.Headers); err != nil {
		return x, refuse(InvalidInput, err)
	}
	if x.body, err = newPayload(call); err != nil {
		return x, refuse(InvalidInput, err)
	}
	if x.overrides() {
		return x, refuse(EgressDenied, errOverride)
	}
	if err := x.fillBody(); err != nil {
		return x, refuse(InvalidInput, err)
	}
	if err := x.ownHeaders(); err != nil {
		return x, refuse(InvalidInput, err)
	}
	x.via = c.pool.get(poolKey{customer: l.customer, connection: l.connection, version: l.version}, l.inject.cert)
	return x, nil
}

// aim fills in host, path and query from the call and checks them against the binding.
func (x *exchange) aim() *Fault {
	call, b := x.call, x.bound
	if call.Host != "" {
		host, err := dial.CanonicalHost(call.Host)
		if err != nil || !b.host.match(host) {
			return refuse(EgressDenied, errHost)
		}
		x.at.host = host
	}
	if x.at.host == "" {
		return refuse(EgressDenied, errHost)
	}
	path := call.Path
	if path != "" {
		if err := checkPath(path); err != nil {
			return refuse(EgressDenied, err)
		}
	}
	path = b.base + path
	if path == "" {
		path = "/"
	}
	if len(path) > MaxPath {
		return refuse(InvalidInput, errPathForm)
	}
	if !b.permits(x.method, path) {
		return refuse(EgressDenied, errRule)
	}
	if call.within != nil && !b.allows(call.within, call.Base, x.method, path) {
		return refuse(EgressDenied, errAction)
	}
	if in := call.Lease.inject; in.more != nil && in.more.puts(credential.InPath) {
		var err error
		if path, err = in.more.fillPath(path); err != nil {
			return refuse(InvalidInput, err)
		}
	}
	x.at.path = path
	query, err := call.Lease.query(call.Query)
	if err != nil {
		return refuse(InvalidInput, err)
	}
	x.at.query = query
	return nil
}

// ownHeaders adds what the platform sends.
func (x *exchange) ownHeaders() error {
	h, call := x.header, x.call
	h["Accept-Encoding"] = x.client.gzip
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = x.client.userAgent
	}
	if _, ok := h["Content-Type"]; !x.body.empty() && (!ok || call.Multipart != nil) {
		if !fieldValue(x.body.contentType) {
			return errHeaderForm
		}
		h["Content-Type"] = []string{x.body.contentType}
	}
	if _, ok := h[keyHeader]; !ok && call.IdempotencyKey != "" && hasEffect(x.method) {
		if len(call.IdempotencyKey) > MaxKey || !fieldValue(call.IdempotencyKey) {
			return errKey
		}
		h[keyHeader] = []string{call.IdempotencyKey}
	}
	if call.Once {
		// net/http resends requests with this header in its canonical spelling on its own.
		if key, ok := h[keyHeader]; ok {
			delete(h, keyHeader)
			h["idempotency-key"] = key
		}
	}
	if in := call.Lease.inject; in.header != "" {
		h[in.header] = in.value
	}
	return nil
}

// hop sends one request and returns its answer, or a redirect to follow.
func (x *exchange) hop(ctx context.Context) (*Answer, *move, *Fault) {
	started := time.Now()
	x.id, x.wire, x.dialled, x.addr = id.NewEvent(started), wireReader{}, false, netip.AddrPort{}
	req, stream, fault := x.request(ctx)
	if fault != nil {
		x.refused(fault)
		return nil, nil, fault
	}
	x.record(Flow{Phase: Begin, Verdict: Allowed})
	resp, err := x.via.rt.RoundTrip(req)
	end := Flow{Phase: End, Verdict: Completed}
	var a *Answer
	var next *move
	if err == nil {
		end.Status = resp.StatusCode
		a, next, err = x.answer(resp)
	}
	if a != nil {
		end.ScrubHits = a.ScrubHits
	}
	if err != nil {
		fault = x.fault(ctx, err, &end)
		a, next = nil, nil
	}
	if stream != nil {
		end.BytesOut = stream.n.Load()
	} else if x.dialled {
		end.BytesOut = req.ContentLength
	}
	end.BytesIn, end.Duration = x.wire.n, time.Since(started)
	x.record(end)
	return a, next, fault
}

// fault classifies err and notes it in the record.
func (x *exchange) fault(ctx context.Context, err error, end *Flow) *Fault {
	f := transportFault(ctx, err, x.dialled)
	if f.Type == Upstream && end.Status == 0 && x.credential {
		f.Message += x.call.Lease.inject.cert.doubt(&x.via.unwanted)
	}
	f.Status = end.Status
	end.Verdict, end.Fault = Failed, f.Type
	if f.Type == EgressDenied {
		end.Verdict = Denied
		if denied, ok := errors.AsType[*dial.Denied](err); ok {
			x.addr = denied.Addr
		}
	}
	return f
}

// request assembles the request from the checked parts and charges the lease for it.
func (x *exchange) request(ctx context.Context) (*http.Request, *bodyReader, *Fault) {
	if err := x.present(); err != nil {
		return nil, nil, refuse(InvalidInput, err)
	}
	u, ok := x.at.url()
	if !ok {
		return nil, nil, refuse(EgressDenied, errPathForm)
	}
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		x.dialled = true
		if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
			x.addr = tcp.AddrPort()
		}
	}}
	req := x.client.blank.WithContext(httptrace.WithClientTrace(ctx, trace))
	req.Method, req.URL, req.Host, req.Header = x.method, u, u.Host, x.header
	stream := x.body.attach(req, x.call.Lease, !x.call.Once)
	if fault := x.call.Lease.takeRequest(max(req.ContentLength, 0)); fault != nil {
		return nil, nil, fault
	}
	return req, stream, nil
}

// answer reads one response: a redirect to follow, or the answer.
func (x *exchange) answer(resp *http.Response) (a *Answer, next *move, err error) {
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil, &Fault{Type: Upstream, Message: "the service switched protocols unasked"}
	}
	x.wire.r = resp.Body
	if next, err := x.redirect(resp); next != nil || err != nil {
		return nil, next, err
	}
	if x.away() {
		if err := x.download(resp); err != nil {
			return nil, nil, err
		}
	}
	a = &Answer{Status: resp.StatusCode, Headers: resp.Header}
	a.ScrubHits += x.scrubHeaders(resp.Header)
	if err := x.receive(resp, a); err != nil {
		return a, nil, err
	}
	a.Headers.Del("Content-Encoding")
	a.Headers.Del("Content-Length")
	return a, nil, nil
}

// scrubHeaders scrubs in place. A name that holds a secret loses its header.
func (x *exchange) scrubHeaders(h http.Header) (hits int) {
	s := x.call.Lease.scrub
	if s == nil {
		return 0
	}
	buf := make([]byte, 0, headerScratch)
	for name, values := range h {
		buf = append(buf[:0], name...)
		if _, n := s.Bytes(buf); n > 0 {
			delete(h, name)
			hits += n
			continue
		}
		for i, v := range values {
			buf = append(buf[:0], v...)
			if clean, n := s.Bytes(buf); n > 0 {
				values[i] = string(clean)
				hits += n
			}
		}
	}
	return hits
}

// record completes a flow record from the exchange and gives it out.
func (x *exchange) record(f Flow) {
	l := x.call.Lease
	f.Request, f.Customer, f.Instance, f.Execution, f.Connection = x.id, l.customer, l.instance, x.call.Execution, l.connection
	f.Hop, f.Method, f.Scheme, f.Host, f.Port = x.hops, x.method, x.at.scheme, x.at.host, x.at.port
	f.Addr = x.addr
	x.client.recorder.Record(f)
}

// refused records a request that was never made.
func (x *exchange) refused(fault *Fault) {
	x.addr = netip.AddrPort{}
	x.record(Flow{Phase: Begin, Verdict: Denied, Fault: fault.Type})
}
