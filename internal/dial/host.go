package dial

import (
	"errors"
	"net/netip"
	"strings"
)

// MaxHost is the longest host name accepted, in bytes (RFC 1035 section 2.3.4).
const MaxHost = 253

// maxLabel is the longest label of a host name, in bytes (RFC 1035 section 2.3.4).
const maxLabel = 63

// ErrHost is wrapped by every refusal of [CanonicalHost].
var ErrHost = errors.New("not a host")

type hostError string

func (e hostError) Error() string { return "host " + string(e) }
func (e hostError) Unwrap() error { return ErrHost }

// CanonicalHost returns the one spelling of host under which it is compared,
// resolved and dialled: an IPv4 or IPv6 address as [netip.Addr] prints it
// (mapped IPv4 as IPv4), or a name in lower case without trailing dot.
//
// Refused, so that no two parsers can disagree on what is meant: names outside
// of letters, digits, hyphen, underscore and dot (an international name is
// written in its "xn--" form), percent signs, at signs, zones, empty labels,
// labels and names that are too long, and names whose last label is a number
// (0x7f.1, 127.1, 2130706433, 0177.0.0.1), which some resolvers read as IPv4
// (WHATWG URL, "ends in a number").
func CanonicalHost(host string) (string, error) {
	h := host
	if len(h) > MaxHost+len("[].") {
		return "", hostError("is too long")
	}
	if strings.HasPrefix(h, "[") {
		return canonicalIPv6(h)
	}
	h = strings.TrimSuffix(h, ".")
	if ip, err := netip.ParseAddr(h); err == nil {
		if ip.Is4() {
			return ip.String(), nil
		}
		return "", hostError("is an IPv6 address without brackets")
	}
	return canonicalName(h)
}

func canonicalIPv6(h string) (string, error) {
	inner, closed := strings.CutSuffix(h[1:], "]")
	ip, err := netip.ParseAddr(inner)
	if !closed || err != nil || !ip.Is6() || ip.Zone() != "" {
		return "", hostError("is not an IPv6 address")
	}
	return ip.Unmap().String(), nil
}

func canonicalName(h string) (string, error) {
	if h == "" || len(h) > MaxHost {
		return "", hostError("is empty or too long")
	}
	start := 0
	for i := 0; i <= len(h); i++ {
		if i < len(h) && h[i] != '.' {
			if !hostByte(h[i]) {
				return "", hostError("has a character that host names do not have; write international names as xn--")
			}
			continue
		}
		label := h[start:i]
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return "", hostError("has an empty, too long or hyphen-edged label")
		}
		start = i + 1
	}
	h = strings.ToLower(h)
	if numeric(h[strings.LastIndexByte(h, '.')+1:]) {
		return "", hostError("ends in a number and is not an IPv4 address")
	}
	return h, nil
}

func hostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// numeric reports whether a label is decimal, octal or hexadecimal digits in the sense of inet_aton.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
