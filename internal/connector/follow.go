package connector

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// followed bounds how many actions follow redirects: each of them stands in the binding of every connection.
func (c *checker) followed() {
	n := 0
	for i := range c.m.Actions {
		if len(c.m.Actions[i].Follow) > 0 {
			n++
		}
	}
	if n > MaxFollowed {
		c.add("actions", "at most %d actions follow redirects", MaxFollowed)
	}
}

// follow checks an action whose answer is a redirect to a file on another host.
func (c *checker) follow(at string, a *Action) {
	if len(a.Follow) == 0 {
		return
	}
	if len(a.Follow) > MaxFollow {
		c.add(at, "at most %d hosts", MaxFollow)
		return
	}
	if a.Method != "GET" || a.Response != ResponseFile {
		c.add(at, "redirects to other hosts are for downloads: method GET with response: file")
	}
	if slices.ContainsFunc(a.Expect, func(s string) bool { return strings.HasPrefix(s, "3") }) {
		c.add(at, "a status under expect is not followed")
	}
	for i, h := range a.Follow {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !plainHost(strings.TrimPrefix(h, "*.")):
			c.add(at, "a name such as files.example.com, or *.example.com for every host below it; no scheme, port, path, address or variable")
		case slices.Contains(a.Follow[:i], h):
			c.add(at, "it stands here twice")
		}
	}
}

// plainHost reports whether a text is the name of a host in small letters, of two labels at least, and no address.
func plainHost(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return strings.ContainsFunc(last, func(r rune) bool { return r >= 'a' && r <= 'z' })
}

// Downloads are the hosts from which files are fetched without the credential, where actions are redirected to them: in order, each
// once.
func (m *Manifest) Downloads() (hosts []string) {
	for i := range m.Actions {
		hosts = append(hosts, m.Actions[i].Follow...)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// Follows reports whether a redirect of the action to a URL of another origin is followed: over https, at its usual port, to one of
// the hosts that the action names.
func (a *Action) Follows(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	if u.Scheme != "https" || u.User != nil || u.Port() != "" && u.Port() != "443" {
		return false
	}
	return slices.ContainsFunc(a.Follow, func(h string) bool {
		below, every := strings.CutPrefix(h, "*")
		return h == host || every && len(host) > len(below) && strings.HasSuffix(host, below)
	})
}
