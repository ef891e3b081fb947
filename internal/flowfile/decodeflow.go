package flowfile

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

func (d *decoder) integration(n *source.Node, i *flow.Integration) {
	i.ProfileVersion = expr.ProfileVersion
	d.Object(
		n, "", "integration",
		source.Required("bulkhead", d.format(&i.Format)),
		source.Optional("expressions", d.profile(&i.ProfileVersion)),
		source.Required("integration", d.Matching(&i.Name, "a name", namePattern(), nameRule)),
		source.Optional("title", d.text(&i.Title)),
		source.Optional("description", d.text(&i.Description)),
		source.Optional("config", func(n *source.Node, path string) {
			d.Entries(n, path, "config variables", flow.MaxConfig, idPattern(), configRule, func(key string, n *source.Node, path string) {
				c := flow.ConfigVar{Name: key}
				d.config(n, path, &c)
				i.Config = append(i.Config, c)
			})
		}),
		source.Optional("connections", func(n *source.Node, path string) {
			d.Entries(n, path, "connections", flow.MaxConnections, slotPattern(), nameRule, func(key string, n *source.Node, path string) {
				s := flow.Slot{Name: key}
				d.slot(n, path, &s)
				i.Connections = append(i.Connections, s)
			})
		}),
		source.Optional("wizard", d.List("pages", flow.MaxWizardPages, func(n *source.Node, path string) {
			var p flow.Page
			d.page(n, path, &p)
			i.Wizard = append(i.Wizard, p)
		})),
		source.Required("flows", func(n *source.Node, path string) {
			if n.Kind == source.Map && len(n.Keys) == 0 {
				d.Problem(n, path, "", "expected at least one flow")
			}
			d.Entries(n, path, "flows", flow.MaxFlows, namePattern(), nameRule, func(key string, n *source.Node, path string) {
				f := flow.Flow{Name: key}
				d.flow(n, path, &f)
				i.Flows = append(i.Flows, f)
			})
		}),
	)
}

func (d *decoder) format(dst *int) source.Reader {
	return func(n *source.Node, path string) {
		if n.Kind == source.Scalar && source.Resolve(n) == source.NumberScalar && n.Value != "1" {
			d.Problem(n, path, "write 1", "this release reads version %d of the format, the file says %s", flow.FormatVersion, source.Cut(n.Value, 20))
			return
		}
		d.Integer(dst, flow.FormatVersion, flow.FormatVersion)(n, path)
	}
}

// profile reads the version of the expression profile, which published versions carry.
func (d *decoder) profile(dst *int) source.Reader { return d.Integer(dst, 1, expr.ProfileVersion) }

func (d *decoder) config(n *source.Node, path string, c *flow.ConfigVar) {
	visible := ""
	d.Object(
		n, path, "config",
		source.Required("type", source.Enum(d.Decoder, &c.Type, flow.ConfigTypes()...)),
		source.Optional("title", d.text(&c.Title)),
		source.Optional("description", d.text(&c.Description)),
		source.Optional("required", d.Boolean(&c.Required)),
		source.Optional("enum", d.options(&c.Enum)),
		source.Optional("choices", d.choices(&c.Choices)),
		source.Optional("from", d.choices(&c.From)),
		source.Optional("to", d.choices(&c.To)),
		source.Optional("schema", d.schema(&c.Schema)),
		source.Optional("default", d.literal(&c.Default, "a default")),
		source.Optional("if", d.expression(&c.If, "a condition such as ${{ config.region == 'eu' }}", flow.Bool)),
		source.Optional("visible", source.Enum(d.Decoder, &visible, flow.VisibleCustomer, flow.VisibleOrganization)),
	)
	c.Visible = visible
}

// options reads an enum: labels by value, or a list of values or {value, label}.
func (d *decoder) options(dst *[]flow.Option) source.Reader {
	return func(n *source.Node, path string) {
		d.At[path] = n
		if n.Kind == source.Map {
			d.Entries(n, path, "values", flow.MaxEnum, regexp.MustCompile(`(?s)^.{1,200}$`), "at most 200 characters", func(key string, n *source.Node, path string) {
				o := flow.Option{Value: key}
				d.text(&o.Label)(n, path)
				*dst = append(*dst, o)
			})
		} else {
			d.List("values", flow.MaxEnum, func(n *source.Node, path string) {
				var o flow.Option
				if n.Kind == source.Map {
					d.Object(n, path, "option", source.Required("value", d.Str(&o.Value, "a value")), source.Optional("label", d.text(&o.Label)))
				} else {
					d.Str(&o.Value, "a value")(n, path)
				}
				if slices.ContainsFunc(*dst, func(p flow.Option) bool { return p.Value == o.Value }) {
					d.Problem(n, path, "", "the value %q is there twice", o.Value)
				}
				*dst = append(*dst, o)
			})(n, path)
		}
		if len(n.Items) == 0 && n.Kind != source.Scalar {
			d.Problem(n, path, "", "expected at least one value")
		}
	}
}

func (d *decoder) choices(dst **flow.Choices) source.Reader {
	return func(n *source.Node, path string) {
		c := &flow.Choices{}
		*dst = c
		fields := []source.Field{
			source.Required("uses", d.uses(&c.Uses)),
			source.Optional("with", d.objectValue(&c.With, "inputs")),
			source.Optional("items", d.Str(&c.Items, "the place of the list in the answer's body, such as data.items")),
			source.Required("value", d.Str(&c.Value, "the field that is the value")),
			source.Optional("label", d.Str(&c.Label, "the field that is the label")),
		}
		name := "choices"
		if strings.HasSuffix(path, ".to") {
			name = "targets"
			fields = append(fields, source.Optional("required", d.List("fields", flow.MaxEnum, func(n *source.Node, path string) {
				var s string
				d.Str(&s, "a field")(n, path)
				c.Required = append(c.Required, s)
			})))
		}
		d.Object(n, path, name, fields...)
	}
}

// uses reads slot.action.
func (d *decoder) uses(dst *string) source.Reader {
	return func(n *source.Node, path string) {
		s, ok := d.PlainText(n, path, "slot.action, such as shop.request", flow.MaxTextBytes)
		if !ok {
			return
		}
		if !regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}\.[A-Za-z][A-Za-z0-9_-]{0,99}$`).MatchString(s) {
			d.Problem(n, path, "", "expected slot.action, such as shop.request, found %s", source.Describe(n))
			return
		}
		*dst = s
	}
}

// schema reads a JSON Schema as compact JSON.
func (d *decoder) schema(dst *json.RawMessage) source.Reader {
	return func(n *source.Node, path string) {
		before := len(d.Problems)
		var v flow.Value
		d.literal(&v, "a JSON Schema")(n, path)
		if len(d.Problems) > before {
			return
		}
		if v.Kind != flow.Object {
			d.Problem(n, path, "", "expected a JSON Schema, found %s", source.Describe(n))
			return
		}
		if count := nodes(&v); count > flow.MaxSchemaNodes {
			d.Problem(n, path, "", "the JSON Schema has %d values, more than %d", count, flow.MaxSchemaNodes)
			return
		}
		d.checkSchema(&v, path)
		b, err := v.MarshalJSON()
		if err != nil {
			d.Problem(n, path, "", "expected a JSON Schema: %s", err)
			return
		}
		var compact bytes.Buffer
		if json.Compact(&compact, b) == nil {
			*dst = compact.Bytes()
		}
	}
}

func (d *decoder) slot(n *source.Node, path string, s *flow.Slot) {
	connector := regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}(@[\^~]?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z.-]+)?)?$`)
	d.Object(
		n, path, "connection",
		source.Required("connector", d.Matching(&s.Connector, "a connector", connector, "http, or a name with a version range such as acme-erp@^1")),
		source.Optional("title", d.text(&s.Title)),
		source.Optional("description", d.text(&s.Description)),
	)
}

func (d *decoder) page(n *source.Node, path string, p *flow.Page) {
	names := func(dst *[]string, what string) source.Reader {
		return d.List(what, flow.MaxConfig, func(n *source.Node, path string) {
			var s string
			d.Str(&s, "a name")(n, path)
			*dst = append(*dst, s)
		})
	}
	d.Object(
		n, path, "page",
		source.Optional("title", d.text(&p.Title)),
		source.Optional("description", d.text(&p.Description)),
		source.Optional("connections", names(&p.Connections, "connections")),
		source.Optional("config", names(&p.Config, "config variables")),
	)
}

func (d *decoder) flow(n *source.Node, path string, f *flow.Flow) {
	d.Object(
		n, path, "flow",
		source.Optional("title", d.text(&f.Title)),
		source.Optional("description", d.text(&f.Description)),
		source.Required("trigger", d.trigger(&f.Trigger)),
		source.Optional("labels", func(n *source.Node, path string) {
			d.Entries(n, path, "labels", flow.MaxLabels, slotPattern(), nameRule, func(key string, n *source.Node, path string) {
				l := flow.Label{Name: key}
				d.textValue(&l.Value, "a text, a reference or a template of trigger")(n, path)
				f.Labels = append(f.Labels, l)
			})
		}),
		source.Optional("concurrency", func(n *source.Node, path string) {
			c := &flow.Concurrency{}
			f.Concurrency = c
			d.Object(
				n, path, "concurrency",
				source.Required("limit", d.Integer(&c.Limit, 1, flow.MaxConcurrency)),
				source.Optional("key", d.textValue(&c.Key, "a reference or a template of trigger")),
				source.Optional("order", source.Enum(d.Decoder, &c.Order, flow.OrderFIFO)),
			)
		}),
		source.Optional("timeout", d.duration(&f.Timeout, flow.MaxFlowTimeout)),
		source.Optional("expires", d.duration(&f.Expires, flow.MaxExpires)),
		source.Optional("retention", d.duration(&f.Retention, flow.MaxRetention)),
		source.Optional("on_fault", d.Str(&f.OnFault, "the name of a flow")),
		source.Required("steps", d.NonEmpty("steps", d.steps(&f.Steps))),
	)
}
