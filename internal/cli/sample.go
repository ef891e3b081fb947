package cli

import (
	"fmt"
	"net/netip"

	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/sample"
)

type sampleCommand struct {
	Print   bool `help:"Print the sample integration file instead of running it."`
	Explain bool `help:"Show what every step got."`
	Verbose bool `short:"v" help:"Show what the roles log."`
}

// Run implements the command.
func (m *sampleCommand) Run(c *console) error {
	if m.Print {
		_, err := c.Out.Write(sample.File)
		return err
	}
	doc, problems := flowfile.Decode(sample.FileName, sample.File)
	if problems.Invalid() {
		return fmt.Errorf("read sample: %w", problems)
	}
	servers, err := sample.Start()
	if err != nil {
		return err
	}
	defer servers.Close()
	connections := map[string]connection{}
	for slot, at := range map[string][2]string{"shop": {servers.ShopURL, servers.Accounts[0].ShopToken}, "erp": {servers.ERPURL, servers.Accounts[0].ERPToken}} {
		b, err := egress.ParseBinding(at[0])
		if err != nil {
			return fmt.Errorf("connect sample server: %w", err)
		}
		connections[slot] = connection{binding: b, kind: lease.KindBearer, fields: []lease.Field{{Name: "token", Secret: []byte(at[1])}}}
	}
	fmt.Fprintf(c.Err, "A shop at %s and an ERP at %s, each with a token of its own.\n", servers.ShopURL, servers.ERPURL)
	fmt.Fprintf(c.Err, "Order 4711 is paid: running flow order-paid of %s.\n\n", sample.FileName)
	config, err := configJSON(doc.Integration, nil)
	if err != nil {
		return err
	}
	s, err := startSession(c.ctx, sessionConfig{AllowNet: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Verbose: m.Verbose})
	if err != nil {
		return err
	}
	defer s.close()
	s.warn(c)
	instance, err := s.deploy(c.ctx, doc.Integration, config, connections)
	if err != nil {
		return err
	}
	f := &doc.Integration.Flows[0]
	p := &progress{c: c, paint: paint(terminal(c.Err)), explain: m.Explain}
	if err := s.runOnce(c.ctx, instance, f, newEvent(f, []byte(sample.Event)), p); err != nil {
		return err
	}
	fmt.Fprintln(c.Err, "\nThe ERP has booked:")
	for _, l := range servers.Accounts[0].Booked() {
		fmt.Fprintf(c.Err, "  %s  %-10s %8.2f  %s\n", l.ID, l.SKU, l.Amount, l.Memo)
	}
	fmt.Fprintln(c.Err, "\nThe flow never saw a token: egress added each one to requests for its own host.")
	fmt.Fprintln(c.Err, "Next: bulkhead sample --print > order-to-erp.yaml, change it, and bulkhead run --help.")
	return nil
}
