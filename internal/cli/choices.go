package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
)

type connectionsTest struct{ connectionRef }

// Run implements the command. A connection that does not work is an error.
func (m *connectionsTest) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t, err := x.TestConnection(ctx, m.Connection)
		if err != nil {
			return err
		}
		if err := m.show(c, t, func() {
			fmt.Fprintf(c.Out, "%s\nhealth %s, execution %s\n", oneLine(t.Message), t.Health, t.Execution)
		}); err != nil {
			return err
		}
		switch {
		case !t.Ended:
			return fmt.Errorf("the test has not ended yet: see bulkhead executions show %s", t.Execution)
		case !t.OK:
			return fmt.Errorf("the connection does not work: bulkhead executions show %s says more", t.Execution)
		}
		return nil
	})
}

// listedFlags say which part of a list of choices is shown.
type listedFlags struct {
	Search string `placeholder:"TEXT" help:"Only choices with this text in their label or value."`
	Limit  int    `default:"100" help:"Show at most so many."`
}

func (f *listedFlags) part() api.ListedPart { return api.ListedPart{Search: f.Search, Limit: f.Limit} }

type connectionsChoices struct {
	connectionRef
	Action string            `arg:"" help:"Action or trigger of its connector."`
	Input  string            `arg:"" help:"Input of the action."`
	With   map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"Another input that decides on what can be chosen; numbers, lists and the like as JSON."`
	listedFlags
}

// Run implements the command.
func (m *connectionsChoices) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		with := map[string]json.RawMessage{}
		for name, text := range m.With {
			with[name] = valueOf(text)
		}
		list, err := x.Choices(ctx, m.Connection, api.ChoicesRequest{Action: m.Action, Input: m.Input, With: with, ListedPart: m.part()})
		if err != nil {
			return err
		}
		return m.show(c, list, func() { printChoices(c, list) })
	})
}

// valueOf is JSON as it is, and any other text as one.
func valueOf(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	b, _ := json.Marshal(text) // a text always prints
	return b
}

func printChoices(c *console, list *api.ChoiceList) {
	t := &table{head: []string{"VALUE", "LABEL"}}
	for _, one := range list.Choices {
		value := string(one.Value)
		var text string
		if json.Unmarshal(one.Value, &text) == nil {
			value = text
		}
		t.add(value, one.Label)
	}
	t.print(c)
	switch {
	case len(list.Choices) < list.Total:
		fmt.Fprintf(c.Out, "%d of %d: --search TEXT finds others\n", len(list.Choices), list.Total)
	case list.More:
		fmt.Fprintln(c.Out, "the service has more than are listed")
	}
}

type instancesChoices struct {
	instanceRef
	Variable string            `arg:"" help:"Config variable."`
	Side     string            `enum:"choices,from,to" default:"choices" help:"Of a mapping: from or to."`
	Config   map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A config value that decides on what can be chosen: what is stored cannot be read."`
	listedFlags
}

// Run implements the command.
func (m *instancesChoices) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		config := []byte("{}")
		if len(m.Config) > 0 {
			i, err := x.Instance(ctx, m.Instance)
			if err != nil {
				return err
			}
			definition, _, err := published(ctx, x, i.Integration.String(), i.Version)
			if err != nil {
				return err
			}
			values := map[string]json.RawMessage{}
			for name, text := range m.Config {
				v := definition.ConfigVar(name)
				if v == nil {
					return usage("--config %s: the integration has no such variable", name)
				}
				if values[name], err = v.ParseConfigText(text); err != nil {
					return usage("--config: %w", err)
				}
			}
			if config, err = json.Marshal(values); err != nil {
				return err
			}
		}
		list, err := x.Options(ctx, m.Instance, api.OptionsRequest{Variable: m.Variable, Side: m.Side, Config: config, ListedPart: m.part()})
		if err != nil {
			return err
		}
		return m.show(c, list, func() { printChoices(c, list) })
	})
}
