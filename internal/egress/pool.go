package egress

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

const (
	// maxTransports is how many connection records keep connections at a time.
	maxTransports = 512
	// maxIdle is how many idle connections one record keeps: as many as its customer's calls
	// may use at a time, so that a burst does not close what the next one needs.
	maxIdle          = MaxInFlightOfCustomer
	idleTimeout      = 60 * time.Second
	handshakeTimeout = 10 * time.Second
	// bufferSize takes a usual message with its headers in one system call.
	bufferSize = 8 << 10
)

// poolKey is what connections may be shared under: one version of one credential record.
type poolKey struct {
	customer   id.Customer
	connection id.Connection
	version    uint64
	// away is for redirects to other origins, which get no client certificate.
	away bool
}

// pool keeps one http.Transport per record, the least recently used given up first.
type pool struct {
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	roots *x509.CertPool

	mu      sync.Mutex
	byKey   map[poolKey]*list.Element
	recency *list.List // of *pooled, most recent first
}

// pooled is a transport. Its verdict is what a server said of the client's certificate.
type pooled struct {
	key      poolKey
	rt       *http.Transport
	unwanted atomic.Bool // a server named the authorities that it accepts, and ours is none
}

func newPool(d Dialer, roots *x509.CertPool) *pool {
	return &pool{dial: d.DialContext, roots: roots, byKey: map[poolKey]*list.Element{}, recency: list.New()}
}

// get returns the transport of a record, with the client's certificate, which may be nil. One that is given up while requests run
// finishes them; its connections close when idle.
func (p *pool) get(key poolKey, cert *mutual) *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.byKey[key]; ok {
		p.recency.MoveToFront(e)
		return e.Value.(*pooled)
	}
	if p.recency.Len() >= maxTransports {
		p.drop(p.recency.Back())
	}
	made := &pooled{key: key, rt: p.transport()}
	if cert != nil {
		cert.configure(made.rt.TLSClientConfig, &made.unwanted)
	}
	p.byKey[key] = p.recency.PushFront(made)
	return made
}

// drop is called with mu held.
func (p *pool) drop(e *list.Element) {
	old := p.recency.Remove(e).(*pooled)
	delete(p.byKey, old.key)
	old.rt.CloseIdleConnections()
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.recency.Len() > 0 {
		p.drop(p.recency.Back())
	}
}

// transport has no proxy, no cookie jar and no transparent decompression, and
// dials through package dial only. Deadlines are those of the request's context.
func (p *pool) transport() *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.roots}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            p.dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  0,
		MaxResponseHeaderBytes: MaxAnswerHeader,
		ReadBufferSize:         bufferSize,
		WriteBufferSize:        bufferSize,
	}
}
