package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/sample"
	"github.com/bulkheadhq/bulkhead/internal/sample/harbour"
)

// providerName is the file of what the sample provider has granted, within the state directory
// of a sample.
const providerName = "provider.json"

// startSample starts the sample servers, makes the platform connect two customers to
// them, and says what can be tried. The caller ends the servers with what it returns.
func startSample(c *console, s *role.Supervisor, state string) (end func(), err error) {
	servers, err := sample.Start()
	if err != nil {
		return nil, err
	}
	stop := []func(){servers.Close}
	end = func() {
		for _, f := range stop {
			f()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	provider, err := startProvider(c, servers, s.URL, state)
	if err != nil {
		return nil, err
	}
	stop = append(stop, provider.Close)
	servers.Booked = func(a *sample.Account, l sample.Invoice) {
		fmt.Fprintf(c.Out, "The ERP booked %s for %s: order %s, %s, %.2f\n", l.ID, oneLine(a.Name), oneLine(l.Order), oneLine(l.SKU), l.Amount)
	}
	x := client.New(s.API, s.VaultKey())
	defer x.Close()
	if err := deploySample(c.ctx, c, x, servers); err != nil {
		return nil, fmt.Errorf("deploy sample: %w", err)
	}
	hook, err := sampleHook(c.ctx, x, servers.Accounts[0].ID)
	if err != nil {
		return nil, fmt.Errorf("find sample webhook: %w", err)
	}
	tellSample(c, servers, provider, hook, state)
	return end, nil
}

// startProvider starts the provider that people connect the two customers to by hand.
func startProvider(c *console, servers *sample.Servers, url, state string) (*harbour.Provider, error) {
	o := harbour.Options{
		File: filepath.Join(state, providerName), Redirect: []string{url + connect.CallbackPath},
		Tell: func(line string) { fmt.Fprintln(c.Out, oneLine(line)) },
	}
	for _, a := range servers.Accounts {
		o.Accounts = append(o.Accounts, harbour.Account{ID: a.ID, Name: a.Name, User: "office@" + a.ID + ".example"})
	}
	return harbour.Start(o)
}

// deploySample brings the platform to where the sample needs it, as apply does with files.
// The servers have new addresses and tokens at every start: connections that are there get
// them, and nothing is made twice.
func deploySample(ctx context.Context, c *console, x *client.Client, servers *sample.Servers) error {
	doc, problems := flowfile.Decode(sample.FileName, sample.File)
	if problems.Invalid() {
		return problems
	}
	tokens := map[string]string{}
	p := newPlan(c, x)
	p.credentials = true
	p.read = func(s flowfile.SecretSource, _ func(string) string) (string, error) { return tokens[s.Env], nil }
	if err := p.definitionOf(ctx, doc.Integration, sample.File); err != nil {
		return err
	}
	if err := p.apply(ctx); err != nil { // what is deployed has to be there
		return err
	}
	p.publish, p.fresh = nil, nil
	for _, a := range servers.Accounts {
		shop, erp := a.ID+" shop", a.ID+" erp"
		tokens[shop], tokens[erp] = a.ShopToken, a.ERPToken
		k := &flowfile.PlatformCustomer{
			ExternalID: a.ID, Name: a.Name,
			Connections: []flowfile.PlatformConnection{
				{Name: "shop", URL: servers.ShopURL, Credential: flowfile.PlatformCredential{Bearer: &flowfile.SecretSource{Env: shop}}},
				{Name: "erp", URL: servers.ERPURL, Credential: flowfile.PlatformCredential{Bearer: &flowfile.SecretSource{Env: erp}}},
			},
			Instances: []flowfile.PlatformInstance{
				{Integration: doc.Integration.Name, Connections: map[string]string{"shop": "shop", "erp": "erp"}},
			},
		}
		if err := p.customer(ctx, k, nil); err != nil {
			return err
		}
	}
	return p.apply(ctx)
}

// sampleHook is the address of the sample webhook of a customer.
func sampleHook(ctx context.Context, x *client.Client, customer string) (string, error) {
	page, err := x.Instances(ctx, client.InstanceQuery{Customer: customer}, client.List{})
	if err != nil {
		return "", err
	}
	for n := range page.Items {
		if page.Items[n].State == "removing" {
			continue
		}
		i, err := x.Instance(ctx, page.Items[n].ID)
		if err != nil {
			return "", err
		}
		for _, h := range i.Hooks {
			return h.URL, nil
		}
	}
	return "", &client.Error{Problem: api.Problem{Title: "the instance has no webhook", Code: api.CodeNotFound}}
}

func tellSample(c *console, servers *sample.Servers, provider *harbour.Provider, hook, state string) {
	p := paint(terminal(c.Out))
	first, second := servers.Accounts[0], servers.Accounts[1]
	fmt.Fprintf(c.Out, `
A sample shop (%s) and ERP (%s) run too.
Two customers, %s and %s, have their own accounts and tokens there.

Say that order 4711 of %s was paid:

%s

and see, in a second terminal, what came of it:

%s

Harbour, a sample carrier, is at %s: customers connect their
accounts there in the browser. doc/tour.md leads through it.

^C stops everything; the next start goes on with the same state.

`,
		servers.ShopURL, servers.ERPURL, first.ID, second.ID, first.ID,
		p.in(bold, fmt.Sprintf("curl -d '%s' -H 'Content-Type: application/json' \\\n%s", sample.Event, hook)),
		p.in(bold, ownCommand(state, "executions")+"\n"+ownCommand(state, "executions show --payload")+"\n"+ownCommand(state, "status")),
		provider.URL)
}

// ownCommand is a command of this program for the platform of a state directory, as it can
// be typed: where that is named only if it would not be found.
func ownCommand(state, command string) string {
	name := "bulkhead"
	if strings.ContainsRune(os.Args[0], os.PathSeparator) {
		name = os.Args[0]
	}
	command = name + " " + command
	for _, usual := range []string{usualState, sampleState} {
		dir, err := stateDirectory("", usual)
		if err != nil {
			break
		}
		if dir == state {
			return command
		}
		if x, err := client.Local(filepath.Join(dir, socketName)); err == nil { // that one would be found first
			x.Close()
			break
		}
	}
	return command + " --state " + state
}

// logName is the file of what roles log, within the state directory of a sample: there it
// does not bury what is said to people.
const logName = "log"

// sampleLog opens the log of a sample.
func sampleLog(state string) (*os.File, error) {
	if err := os.MkdirAll(state, 0o711); err != nil { // #nosec G301 -- roles pass through it
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(state, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
