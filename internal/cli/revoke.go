package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

type revokeCommand struct {
	remote
	Connector string        `placeholder:"NAME" help:"Every connection of a connector."`
	Customer  string        `placeholder:"CUSTOMER" help:"Every connection of a customer; with --connector, of that connector."`
	All       bool          `help:"Every connection of the organization."`
	Since     time.Duration `placeholder:"DURATION" help:"Tell what was done with them in this time, such as 72h; default all that is known."`
	Yes       bool          `short:"y" help:"Do it. Without it, only say what would be done, and what was done with the connections."`
}

// glassReport is what the command prints as JSON.
type glassReport struct {
	Plan    *api.RevocationPlan     `json:"plan"`
	Done    bool                    `json:"done"`
	Revoked []api.RevokedConnection `json:"revoked,omitempty"`
	Paused  []id.Instance           `json:"paused,omitempty"`
	Links   int                     `json:"links"`
}

// Run implements the command.
func (m *revokeCommand) Run(c *console) error {
	if (m.Connector != "" || m.Customer != "") == m.All {
		return usage("say what to revoke: --connector, --customer or --all")
	}
	r := api.RevocationRequest{Connector: m.Connector, Customer: m.Customer, All: m.All}
	if m.Since > 0 {
		r.Since = now().Add(-m.Since)
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		plan, err := x.PlanRevocation(ctx, r)
		if err != nil {
			return err
		}
		if len(plan.Connections) == 0 && m.Connector != "" {
			if err := known(ctx, x, m.Connector); err != nil {
				return err
			}
		}
		report := &glassReport{Plan: plan}
		if !m.JSON {
			m.showPlan(c, plan, customerNames(ctx, x))
		}
		if m.Yes && len(plan.Connections) > 0 {
			if err := m.revoke(ctx, c, x, r, report); err != nil {
				return err
			}
		}
		if m.JSON {
			return printJSON(c, report)
		}
		return m.showDone(c, report)
	})
}

// known refuses a connector that is not here, whose connections nobody could have: what is mistyped must not look as if there were
// nothing to revoke.
func known(ctx context.Context, x *client.Client, name string) error {
	if flow.BuiltInConnector(name) {
		return nil
	}
	list, err := x.Connectors(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list.Items, func(k api.Connector) bool { return k.Name == name }) {
		return nil
	}
	_, err = x.Connector(ctx, name, "") // which says what is called alike
	return err
}

// none says that there is nothing to revoke.
func (m *revokeCommand) none() string {
	of, to := "There are no connections", ""
	if m.Customer != "" {
		of = oneLine(m.Customer) + " has no connections"
	}
	if m.Connector != "" {
		to = " to " + oneLine(m.Connector)
	}
	return of + to + "."
}

// revoke sends the request until nothing remains. One that changes nothing any more ends it:
// what is left then cannot be revoked now.
func (m *revokeCommand) revoke(ctx context.Context, c *console, x *client.Client, r api.RevocationRequest, report *glassReport) error {
	total := len(report.Plan.Connections)
	for {
		got, err := x.RevokeConnections(ctx, r)
		if err != nil {
			return err
		}
		failed := 0
		for _, k := range got.Connections {
			if !k.Done {
				failed++
				continue
			}
			report.Revoked = append(report.Revoked, k)
		}
		report.Paused, report.Links = append(report.Paused, got.Paused...), report.Links+got.Links
		if !m.JSON {
			fmt.Fprintf(c.Err, "revoked %d of %d\n", len(report.Revoked), max(total, len(report.Revoked)))
		}
		switch {
		case failed > 0 && failed == len(got.Connections):
			return &fail{exitFailed, fmt.Errorf("%s could not be revoked: see the server's log, and run this again", count(failed+got.Remaining, "connection"))}
		case got.Remaining == 0 && failed == 0:
			report.Done = true
			return nil
		}
	}
}

// reach is what was done with one connection.
type reach struct {
	executions  map[id.Execution]bool
	hosts       []string
	requests    int64
	received    int64
	first, last time.Time
}

func reaches(plan *api.RevocationPlan) map[id.Connection]*reach {
	out := map[id.Connection]*reach{}
	for n := range plan.Uses {
		u := &plan.Uses[n]
		r := out[u.Connection]
		if r == nil {
			r = &reach{executions: map[id.Execution]bool{}, first: u.First}
			out[u.Connection] = r
		}
		if !u.Execution.IsZero() { // obtaining and renewing tokens is none
			r.executions[u.Execution] = true
		}
		if !slices.Contains(r.hosts, u.Host) {
			r.hosts = append(r.hosts, u.Host)
		}
		r.requests += u.Requests
		r.received += u.Received
		if u.First.Before(r.first) {
			r.first = u.First
		}
		if u.Last.After(r.last) {
			r.last = u.Last
		}
	}
	return out
}

// showPlan prints the blast radius.
func (m *revokeCommand) showPlan(c *console, plan *api.RevocationPlan, names func(id.Customer) string) {
	if len(plan.Connections) == 0 {
		fmt.Fprintln(c.Err, m.none())
		return
	}
	done := reaches(plan)
	t := &table{head: []string{"CUSTOMER", "NAME", "CONNECTOR", "USED BY", "EXECUTIONS", "REQUESTS", "SINCE", "LAST", "HOSTS"}}
	for n := range plan.Connections {
		k := &plan.Connections[n]
		row := []string{names(k.Customer), k.Name, k.Connector, fmt.Sprint(len(k.UsedBy)), "0", "0", "-", "-", "-"}
		if r := done[k.ID]; r != nil {
			slices.Sort(r.hosts)
			copy(row[4:], []string{fmt.Sprint(len(r.executions)), fmt.Sprint(r.requests), ago(r.first), ago(r.last), strings.Join(r.hosts, ", ")})
		}
		t.add(row...)
	}
	t.print(c)
	fmt.Fprintf(c.Out, "%s, used by %s; --json lists every execution.\n", count(len(plan.Connections), "connection"), count(len(usersOf(plan)), "instance"))
	if plan.More > 0 {
		fmt.Fprintf(c.Out, "Not shown: %s. Ask for one connector or customer, or with --since.\n", count(plan.More, "more use"))
	}
}

func usersOf(plan *api.RevocationPlan) map[id.Instance]bool {
	out := map[id.Instance]bool{}
	for n := range plan.Connections {
		for _, i := range plan.Connections[n].UsedBy {
			out[i] = true
		}
	}
	return out
}

// showDone prints what was revoked, and how it is connected again.
func (m *revokeCommand) showDone(c *console, r *glassReport) error {
	if !m.Yes {
		if len(r.Plan.Connections) > 0 {
			fmt.Fprintln(c.Err, "Nothing was changed. Say --yes to revoke them, pause what uses them and get links to connect again.")
		}
		return nil
	}
	if len(r.Revoked) == 0 {
		return nil
	}
	t := &table{head: []string{"NAME", "CONNECTOR", "AT THE PROVIDER", "CONNECT AGAIN"}}
	left := 0
	for _, k := range r.Revoked {
		if k.Revoked == connect.RevokedFailed || k.Revoked == connect.RevokedNotOffered {
			left++
		}
		again := k.Link
		if again == "" {
			again = "enter it again"
		}
		t.add(k.Name, k.Connector, atProvider(k.Revoked), again)
	}
	t.print(c)
	fmt.Fprintf(c.Out, "destroyed %s, paused %s, took back %s\n", count(len(r.Revoked), "credential"), count(len(r.Paused), "instance"), count(r.Links, "link"))
	if left > 0 {
		fmt.Fprintf(c.Out, "To be ended at the provider by hand: %s\n", count(left, "grant"))
	}
	return nil
}

func atProvider(r connect.Revoked) string {
	switch r {
	case connect.RevokedYes:
		return "revoked"
	case connect.RevokedFailed:
		return "NOT revoked"
	case connect.RevokedNotOffered:
		return "cannot be revoked"
	}
	return "a key: replace it there"
}
