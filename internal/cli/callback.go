package cli

import (
	"regexp"
	"slices"
)

// callbacks finds the addresses of callbacks in what steps are given.
type callbacks struct {
	pattern *regexp.Regexp
	known   []string
	fresh   []string // not taken yet
}

func newCallbacks(pattern *regexp.Regexp) *callbacks { return &callbacks{pattern: pattern} }

// callbackPattern matches the address of a callback of this session.
func callbackPattern(s *session) *regexp.Regexp {
	return regexp.MustCompile(regexp.QuoteMeta("http://"+s.supervisor.Public+"/callbacks/") + `[A-Za-z0-9_-]{16,64}`)
}

// anyCallback matches the address of a callback of any platform.
func anyCallback() *regexp.Regexp {
	return regexp.MustCompile(`https?://[A-Za-z0-9.:\[\]-]+/callbacks/[A-Za-z0-9_-]{16,64}`)
}

// hear notes the addresses in a page.
func (c *callbacks) hear(page []byte) {
	for _, url := range c.pattern.FindAll(page, -1) {
		if !slices.Contains(c.known, string(url)) {
			c.known = append(c.known, string(url))
			c.fresh = append(c.fresh, string(url))
		}
	}
}

// take gives the addresses that are new since the last time.
func (c *callbacks) take() []string {
	list := c.fresh
	c.fresh = nil
	return list
}
