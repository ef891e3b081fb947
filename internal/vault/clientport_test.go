package vault

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// A breached server cannot have a client's tokens sent to another service on a host of the client: the port counts, as the
// client's record says it, and where it says none it is the scheme's own.
func TestClientsAreOfTheirPorts(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	c := a.clientRecord()
	c.Hosts = []string{"login.crm.example", "*.crm.example:8443", "odd.crm.example:x", "[2001:db8::1]:444"}
	a.saveConnection(c)
	at := func(host string, port uint32) func(*lease.Binding) {
		return func(b *lease.Binding) { b.Host, b.Port = host, port }
	}
	base := func(host string, port uint32) func(*lease.Binding) {
		return func(b *lease.Binding) { b.Bases = []lease.Base{{Name: "content", Host: host, Port: port}} }
	}
	try := func(change func(*lease.Binding)) error {
		r := a.draft(id.NewConnection(a.clock.now()))
		at("login.crm.example", 0)(&r.Binding)
		change(&r.Binding)
		return a.try(lease.OpOAuthStart, a.startCall(r), &lease.StartAnswer{})
	}
	for name, change := range map[string]func(*lease.Binding){
		"no port":              at("login.crm.example", 0),
		"the scheme's own":     at("login.crm.example", 443),
		"the port of a name":   at("eu.crm.example", 8443),
		"one of an address":    at("[2001:db8::1]", 444),
		"a base with its port": base("files.crm.example", 8443),
	} {
		if err := try(change); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*lease.Binding){
		"another port":             at("login.crm.example", 9000),
		"that of plain HTTP":       at("login.crm.example", 80),
		"no port where one is due": at("eu.crm.example", 0),
		"another port of a name":   at("eu.crm.example", 8444),
		"another of an address":    at("[2001:db8::1]", 0),
		"a base at another port":   base("login.crm.example", 9000),
	} {
		refusedBy(t, name, try(change))
	}
	refusedBy(t, "a host whose port cannot be read", try(at("odd.crm.example", 0)))
}
