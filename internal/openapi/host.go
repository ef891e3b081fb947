package openapi

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// provenanceKind is the kind of manifests that are made here.
const provenanceKind = "openapi"

// named lists the hosts of a manifest, and whether they are the vendor's.
func named(m *connector.Manifest, o Options) []Host {
	vendors := slices.Clone(o.Vendor)
	source := o.Source
	if source == "" {
		source = m.Provenance.Source // of the side file
	}
	if u, err := url.Parse(source); err == nil && u.Hostname() != "" && len(vendors) == 0 {
		vendors = append(vendors, domain(u.Hostname()))
	}
	var out []Host
	add := func(host, purpose string) {
		plain := host
		if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "}") {
			plain = host[:i]
		}
		h := Host{Host: host, For: purpose, Vendor: VendorUnknown}
		if len(vendors) > 0 {
			h.Vendor = VendorNo
			if slices.ContainsFunc(vendors, func(v string) bool { return plain == v || strings.HasSuffix(plain, "."+v) }) {
				h.Vendor = VendorYes
			}
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	for _, h := range m.Hosts {
		expanded := false
		for _, id := range slices.Sorted(maps.Keys(m.Vars)) {
			if v := m.Vars[id]; h == "{"+id+"}" {
				expanded = true
				for _, suffix := range v.Suffixes {
					add(strings.TrimPrefix(suffix, "."), "requests")
				}
			}
		}
		if !expanded {
			add(h, "requests")
		}
	}
	for n := range m.Auth {
		if r := m.Auth[n].Recipe; r != nil {
			if r.Authorize != nil {
				add(urlHost(r.Authorize.URL), "authorization")
			}
			if r.Token != nil {
				add(urlHost(r.Token.URL), "tokens")
			}
			if r.Refresh != nil {
				add(urlHost(r.Refresh.URL), "tokens")
			}
			if r.Discovery != nil {
				add(urlHost(r.Discovery.Issuer), "authorization")
			}
		}
	}
	return out
}

func urlHost(u string) string {
	parsed, err := url.Parse(u)
	if err != nil {
		return line(u, maxTitle)
	}
	return strings.ToLower(parsed.Hostname())
}

// domain is the part of a host that its owner registered, as far as can be told without a list: the last two labels, or three
// where the last two are short, as in co.uk. Where it is wrong, a host is flagged too often or --vendor says it.
func domain(host string) string {
	labels := strings.Split(strings.ToLower(host), ".")
	n := 2
	if len(labels) > 2 && len(labels[len(labels)-1]) == 2 && len(labels[len(labels)-2]) <= 3 {
		n = 3
	}
	return strings.Join(labels[max(0, len(labels)-n):], ".")
}
