package flowfile

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

func (d *decoder) integration(n *node, i *flow.Integration) {
	i.ProfileVersion = expr.ProfileVersion
	d.object(
		n, "", "integration",
		required("bulkhead", d.format(&i.Format)),
		optional("expressions", d.profile(&i.ProfileVersion)),
		required("integration", d.matching(&i.Name, "a name", namePattern(), nameRule)),
		optional("title", d.text(&i.Title)),
		optional("description", d.text(&i.Description)),
		optional("config", func(n *node, path string) {
			d.entries(n, path, "config variables", flow.MaxConfig, idPattern(), configRule, func(key string, n *node, path string) {
				c := flow.ConfigVar{Name: key}
				d.config(n, path, &c)
				i.Config = append(i.Config, c)
			})
		}),
		optional("connections", func(n *node, path string) {
			d.entries(n, path, "connections", flow.MaxConnections, slotPattern(), nameRule, func(key string, n *node, path string) {
				s := flow.Slot{Name: key}
				d.slot(n, path, &s)
				i.Connections = append(i.Connections, s)
			})
		}),
		optional("wizard", d.list("pages", flow.MaxWizardPages, func(n *node, path string) {
			var p flow.Page
			d.page(n, path, &p)
			i.Wizard = append(i.Wizard, p)
		})),
		required("flows", func(n *node, path string) {
			if n.kind == mapNode && len(n.keys) == 0 {
				d.problem(n, path, "", "expected at least one flow")
			}
			d.entries(n, path, "flows", flow.MaxFlows, namePattern(), nameRule, func(key string, n *node, path string) {
				f := flow.Flow{Name: key}
				d.flow(n, path, &f)
				i.Flows = append(i.Flows, f)
			})
		}),
	)
}

func (d *decoder) format(dst *int) reader {
	return func(n *node, path string) {
		if n.kind == scalarNode && resolve(n) == numberScalar && n.value != "1" {
			d.problem(n, path, "write 1", "this release reads version %d of the format, the file says %s", flow.FormatVersion, cut(n.value, 20))
			return
		}
		d.integer(dst, flow.FormatVersion, flow.FormatVersion)(n, path)
	}
}

// profile reads the version of the expression profile, which published versions carry.
func (d *decoder) profile(dst *int) reader { return d.integer(dst, 1, expr.ProfileVersion) }

func (d *decoder) config(n *node, path string, c *flow.ConfigVar) {
	visible := ""
	d.object(
		n, path, "config",
		required("type", enum(d, &c.Type, flow.ConfigTypes()...)),
		optional("title", d.text(&c.Title)),
		optional("description", d.text(&c.Description)),
		optional("required", d.boolean(&c.Required)),
		optional("enum", d.options(&c.Enum)),
		optional("choices", d.choices(&c.Choices)),
		optional("from", d.choices(&c.From)),
		optional("to", d.choices(&c.To)),
		optional("schema", d.schema(&c.Schema)),
		optional("default", d.literal(&c.Default, "a default")),
		optional("if", d.expression(&c.If, "a condition such as ${{ config.region == 'eu' }}", flow.Bool)),
		optional("visible", enum(d, &visible, flow.VisibleCustomer, flow.VisibleOrganization)),
	)
	c.Visible = visible
}

// options reads an enum: labels by value, or a list of values or {value, label}.
func (d *decoder) options(dst *[]flow.Option) reader {
	return func(n *node, path string) {
		d.at[path] = n
		if n.kind == mapNode {
			d.entries(n, path, "values", flow.MaxEnum, regexp.MustCompile(`(?s)^.{1,200}$`), "at most 200 characters", func(key string, n *node, path string) {
				o := flow.Option{Value: key}
				d.text(&o.Label)(n, path)
				*dst = append(*dst, o)
			})
		} else {
			d.list("values", flow.MaxEnum, func(n *node, path string) {
				var o flow.Option
				if n.kind == mapNode {
					d.object(n, path, "option", required("value", d.str(&o.Value, "a value")), optional("label", d.text(&o.Label)))
				} else {
					d.str(&o.Value, "a value")(n, path)
				}
				if slices.ContainsFunc(*dst, func(p flow.Option) bool { return p.Value == o.Value }) {
					d.problem(n, path, "", "the value %q is there twice", o.Value)
				}
				*dst = append(*dst, o)
			})(n, path)
		}
		if len(n.items) == 0 && n.kind != scalarNode {
			d.problem(n, path, "", "expected at least one value")
		}
	}
}

func (d *decoder) choices(dst **flow.Choices) reader {
	return func(n *node, path string) {
		c := &flow.Choices{}
		*dst = c
		fields := []field{
			required("uses", d.uses(&c.Uses)),
			optional("with", d.objectValue(&c.With, "inputs")),
			required("value", d.str(&c.Value, "the field that is the value")),
			optional("label", d.str(&c.Label, "the field that is the label")),
		}
		name := "choices"
		if strings.HasSuffix(path, ".to") {
			name = "targets"
			fields = append(fields, optional("required", d.list("fields", flow.MaxEnum, func(n *node, path string) {
				var s string
				d.str(&s, "a field")(n, path)
				c.Required = append(c.Required, s)
			})))
		}
		d.object(n, path, name, fields...)
	}
}

// uses reads slot.action.
func (d *decoder) uses(dst *string) reader {
	return func(n *node, path string) {
		s, ok := d.plainText(n, path, "slot.action, such as shop.request", flow.MaxTextBytes)
		if !ok {
			return
		}
		if !regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}\.[A-Za-z][A-Za-z0-9_-]{0,99}$`).MatchString(s) {
			d.problem(n, path, "", "expected slot.action, such as shop.request, found %s", describe(n))
			return
		}
		*dst = s
	}
}

// schema reads a JSON Schema as compact JSON.
func (d *decoder) schema(dst *json.RawMessage) reader {
	return func(n *node, path string) {
		before := len(d.problems)
		var v flow.Value
		d.literal(&v, "a JSON Schema")(n, path)
		if len(d.problems) > before {
			return
		}
		if v.Kind != flow.Object {
			d.problem(n, path, "", "expected a JSON Schema, found %s", describe(n))
			return
		}
		d.checkSchema(&v, path)
		b, err := v.MarshalJSON()
		if err != nil {
			d.problem(n, path, "", "expected a JSON Schema: %s", err)
			return
		}
		var compact bytes.Buffer
		if json.Compact(&compact, b) == nil {
			*dst = compact.Bytes()
		}
	}
}

func (d *decoder) slot(n *node, path string, s *flow.Slot) {
	connector := regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}(@[\^~]?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z.-]+)?)?$`)
	d.object(
		n, path, "connection",
		required("connector", d.matching(&s.Connector, "a connector", connector, "http, or a name with a version range such as acme-erp@^1")),
		optional("title", d.text(&s.Title)),
		optional("description", d.text(&s.Description)),
	)
}

func (d *decoder) page(n *node, path string, p *flow.Page) {
	names := func(dst *[]string, what string) reader {
		return d.list(what, flow.MaxConfig, func(n *node, path string) {
			var s string
			d.str(&s, "a name")(n, path)
			*dst = append(*dst, s)
		})
	}
	d.object(
		n, path, "page",
		optional("title", d.text(&p.Title)),
		optional("description", d.text(&p.Description)),
		optional("connections", names(&p.Connections, "connections")),
		optional("config", names(&p.Config, "config variables")),
	)
}

func (d *decoder) flow(n *node, path string, f *flow.Flow) {
	d.object(
		n, path, "flow",
		optional("title", d.text(&f.Title)),
		optional("description", d.text(&f.Description)),
		required("trigger", d.trigger(&f.Trigger)),
		optional("labels", func(n *node, path string) {
			d.entries(n, path, "labels", flow.MaxLabels, slotPattern(), nameRule, func(key string, n *node, path string) {
				l := flow.Label{Name: key}
				d.textValue(&l.Value, "a text, a reference or a template of trigger")(n, path)
				f.Labels = append(f.Labels, l)
			})
		}),
		optional("concurrency", func(n *node, path string) {
			c := &flow.Concurrency{}
			f.Concurrency = c
			d.object(
				n, path, "concurrency",
				required("limit", d.integer(&c.Limit, 1, flow.MaxConcurrency)),
				optional("key", d.textValue(&c.Key, "a reference or a template of trigger")),
				optional("order", enum(d, &c.Order, flow.OrderFIFO)),
			)
		}),
		optional("timeout", d.duration(&f.Timeout, flow.MaxFlowTimeout)),
		optional("expires", d.duration(&f.Expires, flow.MaxExpires)),
		optional("retention", d.duration(&f.Retention, flow.MaxRetention)),
		optional("on_fault", d.str(&f.OnFault, "the name of a flow")),
		required("steps", d.nonEmpty("steps", d.steps(&f.Steps))),
	)
}
