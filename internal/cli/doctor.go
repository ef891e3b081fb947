package cli

import (
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/jail"
)

type doctorCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// layer is one wall as doctor prints it.
type layer struct {
	Name     string `json:"name"`
	Required bool   `json:"required"`
	State    string `json:"state"`
	Detail   string `json:"detail,omitempty"`
	Fix      string `json:"fix,omitempty"`
}

// Run implements the command. A missing required layer is exit status 1.
func (d *doctorCommand) Run(c *console) error {
	var layers []layer
	missing := 0
	for _, l := range jail.Probe() {
		layers = append(layers, layer{l.Name, l.Required, l.State.String(), l.Detail, l.Fix})
		if l.Required && l.State == jail.StateMissing {
			missing++
		}
	}
	if d.JSON {
		if err := writeJSON(c.Out, map[string]any{"layers": layers, "ok": missing == 0}); err != nil {
			return err
		}
	} else {
		printLayers(c, layers)
	}
	if missing > 0 {
		fmt.Fprintf(c.Err, "bulkhead: %s missing: bulkhead does not start on this host\n", count(missing, "required layer"))
		return said(exitFailed)
	}
	return nil
}

func printLayers(c *console, layers []layer) {
	p := paint(terminal(c.Out))
	for _, group := range []struct {
		title    string
		required bool
	}{{"Required: without these bulkhead does not start", true}, {"Added where the host offers them", false}} {
		fmt.Fprintln(c.Out, p.in(bold, group.title))
		for _, l := range layers {
			if l.Required != group.required {
				continue
			}
			mark, colour := "✓", green
			switch {
			case l.State == "missing" && l.Required:
				mark, colour = "✗", red
			case l.State != "on":
				mark, colour = "·", yellow
			}
			fmt.Fprintf(c.Out, "  %s %-24s %-8s %s\n", p.in(colour, mark), l.Name, l.State, l.Detail)
			if l.Fix != "" {
				fmt.Fprintf(c.Out, "    %s\n", p.in(grey, l.Fix))
			}
		}
	}
}
