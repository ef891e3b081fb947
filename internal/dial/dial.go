package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Limits of one call to [Dialer.DialContext].
const (
	// ResolveTimeout bounds the look-up of a name.
	ResolveTimeout = 5 * time.Second
	// ConnectTimeout bounds the connection to one address.
	ConnectTimeout = 10 * time.Second
	// DialTimeout bounds the whole call.
	DialTimeout = 20 * time.Second
	// MaxAddresses is how many addresses of a name are tried.
	MaxAddresses = 8
	keepAlive    = 30 * time.Second
)

// Policy says which destinations may be reached. The zero Policy allows public
// addresses on any port that is not another protocol's. It is read once, by [New].
type Policy struct {
	// Allow opens ranges that are refused by default (--allow-net).
	Allow []netip.Prefix
	// Ports, when not empty, are the only ports allowed.
	Ports []uint16
	// Resolver looks names up; nil is the Go resolver with the system's name servers.
	Resolver Resolver
	// Report, when not nil, is told of every address tried or refused. It is
	// called on the dialling goroutine and must be fast and safe for concurrent use.
	Report func(Attempt)
}

// Resolver looks up the addresses of a name that ends in a dot. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// Verdict is what became of one address.
type Verdict string

// The verdicts of an [Attempt].
const (
	Connected Verdict = "connected"
	Refused   Verdict = "denied"
	Failed    Verdict = "failed"
)

// Attempt is the report of one address, or of a name that has none (Addr is then invalid).
type Attempt struct {
	Host    string
	Addr    netip.AddrPort
	Verdict Verdict
	// Reason is why an address was denied, else empty.
	Reason string
}

// Dialer opens TCP connections within a [Policy]. Make one with [New]; safe for concurrent use.
type Dialer struct {
	judge    judge
	resolver Resolver
	report   func(Attempt)
}

// New compiles p.
func New(p Policy) *Dialer {
	d := &Dialer{judge: newJudge(p), resolver: p.Resolver, report: p.Report}
	if d.resolver == nil {
		d.resolver = &net.Resolver{PreferGo: true}
	}
	if d.report == nil {
		d.report = func(Attempt) {}
	}
	return d
}

// Check returns a [*Denied] if the policy forbids ap, without dialling it.
func (d *Dialer) Check(host string, ap netip.AddrPort) error {
	if reason := d.judge.destination(ap); reason != "" {
		return &Denied{Host: host, Addr: ap, Reason: reason}
	}
	return nil
}

// DialContext connects to address ("host:port"; the host canonical as of
// [CanonicalHost]) over network "tcp", "tcp4" or "tcp6". The addresses of a name
// are tried in the resolver's order, at most [MaxAddresses], forbidden ones
// skipped. It returns a [*Denied] (wrapped) when every address is forbidden.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, refusal := split(network, address)
	if refusal != nil {
		d.report(Attempt{Host: host, Verdict: Refused, Reason: refusal.Reason})
		return nil, refusal
	}
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	addrs, err := d.lookup(ctx, network, host)
	if err != nil {
		d.report(Attempt{Host: host, Verdict: Failed})
		return nil, fmt.Errorf("resolve %q: %w", host, err)
	}
	var denied, failed error
	for i, ip := range addrs {
		conn, err := d.one(ctx, host, netip.AddrPortFrom(ip, port), len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		if refusal, ok := errors.AsType[*Denied](err); ok {
			denied = refusal
		} else if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("connect to %q: %w", host, failed)
	}
	return nil, denied
}

// split checks the two strings of the net.Dialer interface.
func split(network, address string) (string, uint16, *Denied) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return address, 0, &Denied{Host: address, Reason: "not host and port"}
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return host, 0, &Denied{Host: host, Reason: "network is not TCP"}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return host, 0, &Denied{Host: host, Reason: "not a port number"}
	}
	spelt := host
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		spelt = "[" + host + "]"
	}
	if canonical, err := CanonicalHost(spelt); err != nil || canonical != host {
		return host, 0, &Denied{Host: host, Reason: "host is not in canonical form"}
	}
	return host, uint16(port), nil
}

// lookup returns at least one address or an error. A name is looked up with a
// trailing dot: the search list of the system would turn it into another name.
func (d *Dialer) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return loopback(network), nil
	}
	ctx, cancel := context.WithTimeout(ctx, ResolveTimeout)
	defer cancel()
	family := "ip" + network[len("tcp"):]
	addrs, err := d.resolver.LookupNetIP(ctx, family, host+".")
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	if len(addrs) > MaxAddresses {
		addrs = addrs[:MaxAddresses]
	}
	return addrs, nil
}

// loopback is what localhost and every name below it means, whatever a name server
// says (RFC 6761 section 6.3).
func loopback(network string) []netip.Addr {
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	switch network {
	case "tcp4":
		return []netip.Addr{v4}
	case "tcp6":
		return []netip.Addr{v6}
	default:
		return []netip.Addr{v4, v6}
	}
}

// one connects to one address with its share of the time that is left for all.
// The check runs in the control hook, on the address the socket is about to use.
func (d *Dialer) one(ctx context.Context, host string, ap netip.AddrPort, left int) (net.Conn, error) {
	timeout := ConnectTimeout
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		timeout = min(timeout, time.Until(deadline)/time.Duration(left))
	}
	nd := net.Dialer{
		Timeout:   timeout,
		KeepAlive: keepAlive,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return d.control(host, network, address)
		},
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	conn, err := nd.DialContext(ctx, "tcp", ap.String())
	attempt := Attempt{Host: host, Addr: ap, Verdict: Connected}
	if err != nil {
		attempt.Verdict = Failed
		if refusal, ok := errors.AsType[*Denied](err); ok {
			attempt.Verdict, attempt.Reason = Refused, refusal.Reason
		}
	}
	d.report(attempt)
	return conn, err
}

// control is called by package net with the address of every socket, before connect.
func (d *Dialer) control(host, network, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return &Denied{Host: host, Reason: "not a TCP address"}
	}
	return d.Check(host, ap)
}
