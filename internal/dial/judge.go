package dial

import (
	"fmt"
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// Denied says that the policy forbids a destination. No byte was sent to it.
type Denied struct {
	// Host is the name or literal that was asked for.
	Host string
	// Addr is the address that was refused; invalid when the name itself was refused.
	Addr netip.AddrPort
	// Reason is a constant phrase or names a registry range; it never contains payload.
	Reason string
}

// Error names host, address and reason.
func (d *Denied) Error() string {
	if !d.Addr.IsValid() {
		return fmt.Sprintf("dial %q: denied: %s", d.Host, d.Reason)
	}
	return fmt.Sprintf("dial %q at %s: denied: %s", d.Host, d.Addr, d.Reason)
}

// Ranges with an IPv4 address inside, and one public address that leads inwards.
//
// A public IPv4 address in the well-known NAT64 range (RFC 6052) is as good as
// that address. 6to4 (RFC 3056) and Teredo (RFC 4380) are refused by the registry
// table, and where an operator allows their ranges the IPv4 addresses inside are
// judged too. 168.63.129.16 is the host agent of Azure, which hands out
// credentials of the machine.
const (
	cidrNAT64    = "64:ff9b::/96"
	cidr6to4     = "2002::/16"
	cidrTeredo   = "2001::/32"
	cidrHostWire = "168.63.129.16/32"
)

// judge is the compiled policy on addresses and ports.
type judge struct {
	allow    []netip.Prefix
	ports    []uint16
	denied4  []netip.Prefix
	denied6  []netip.Prefix
	nat64    netip.Prefix
	sixToIV  netip.Prefix
	teredo   netip.Prefix
	hostWire netip.Prefix
}

func newJudge(p Policy) judge {
	j := judge{
		ports:    slices.Clone(p.Ports),
		denied4:  slices.Clone(ssrf.IPv4DeniedPrefixes),
		denied6:  slices.Clone(ssrf.IPv6DeniedPrefixes),
		nat64:    netip.MustParsePrefix(cidrNAT64),
		sixToIV:  netip.MustParsePrefix(cidr6to4),
		teredo:   netip.MustParsePrefix(cidrTeredo),
		hostWire: netip.MustParsePrefix(cidrHostWire),
	}
	for _, a := range p.Allow {
		if a.IsValid() {
			j.allow = append(j.allow, plainPrefix(a))
		}
	}
	return j
}

// plainPrefix turns ::ffff:a.b.c.d/96+n into a.b.c.d/n, so that both notations allow the same.
func plainPrefix(p netip.Prefix) netip.Prefix {
	const mappedBits = 96
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits).Masked()
	}
	return p.Masked()
}

// destination returns why ap may not be reached, or "".
func (j *judge) destination(ap netip.AddrPort) string {
	if reason := j.port(ap.Port()); reason != "" {
		return reason
	}
	return j.address(ap.Addr())
}

func (j *judge) port(port uint16) string {
	switch {
	case port == 0:
		return "port 0"
	case len(j.ports) > 0:
		if !slices.Contains(j.ports, port) {
			return "port not allowed by the operator"
		}
	case otherProtocol(port):
		return "port of another protocol"
	}
	return ""
}

// address returns why ip may not be reached, or "". An IPv4 address inside an
// IPv6 address is judged as the IPv4 address it leads to.
func (j *judge) address(ip netip.Addr) string {
	if !ip.IsValid() || ip.Zone() != "" {
		return "not a plain address"
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return j.plain(ip)
	}
	b := ip.As16()
	switch {
	case j.nat64.Contains(ip):
		if j.allowed(ip) {
			return ""
		}
		return j.plain(netip.AddrFrom4([4]byte(b[12:16])))
	case j.sixToIV.Contains(ip):
		return first(j.plain(ip), j.plain(netip.AddrFrom4([4]byte(b[2:6]))))
	case j.teredo.Contains(ip):
		client := [4]byte{b[12] ^ 0xff, b[13] ^ 0xff, b[14] ^ 0xff, b[15] ^ 0xff}
		return first(j.plain(ip), j.plain(netip.AddrFrom4([4]byte(b[4:8]))), j.plain(netip.AddrFrom4(client)))
	}
	return j.plain(ip)
}

// plain judges an address that is either IPv4 or an IPv6 address without IPv4 inside.
func (j *judge) plain(ip netip.Addr) string {
	if j.allowed(ip) {
		return ""
	}
	denied := j.denied4
	if ip.Is6() {
		if !ssrf.IPv6GlobalUnicast.Contains(ip) {
			return "outside of global unicast"
		}
		denied = j.denied6
	} else if j.hostWire.Contains(ip) {
		return "host agent of a cloud"
	}
	for _, p := range denied {
		if p.Contains(ip) {
			return "special-purpose range " + p.String()
		}
	}
	return ""
}

func (j *judge) allowed(ip netip.Addr) bool {
	for _, p := range j.allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func first(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}

// otherProtocol reports whether port belongs to a protocol that an HTTP request
// could be made to speak: the list of blocked ports in the WHATWG Fetch
// standard ("port blocking"), which every browser applies.
func otherProtocol(port uint16) bool {
	switch port {
	case 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
		101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179,
		389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601,
		636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
		6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080:
		return true
	}
	return false
}
