package openapi

import (
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// triggers makes triggers of the operations that Power Platform documents mark as such.
func (i *importer) triggers(m *connector.Manifest, s *schemas, names map[string]string) {
	for n := range i.list {
		o := &i.list[n]
		name, made := names[o.key]
		if !made || len(m.Triggers) == connector.MaxTriggers {
			continue
		}
		switch strings.ToLower(o.node.get("x-ms-trigger").str()) {
		case "single":
			i.webhook(m, s, o, name, names)
		case "batch":
			i.poll(m, s, o, name)
		}
	}
	if i.side.Triggers == nil {
		return
	}
	for _, t := range i.side.Triggers {
		if of := t.payloadOf(); of != "" {
			t.Payload = i.webhookPayload(s, of)
		}
	}
}

// webhookPayload is the schema of a webhook's body (OpenAPI 3.1).
func (i *importer) webhookPayload(s *schemas, name string) rawJSON {
	var out rawJSON
	i.d.deref(i.d.root.at("webhooks", name)).each(func(method string, o *node) {
		if !isMethod(method) {
			return
		}
		i.d.deref(o.get("requestBody")).get("content").each(func(t string, media *node) {
			if isJSON(mediaBase(t)) && out == nil {
				out = s.schema(media.get("schema"), 0).json()
			}
		})
	})
	return out
}

// webhook makes a trigger of an operation that subscribes: its field with x-ms-notification-url takes the address, and DELETE
// on the Location of the answer ends the subscription.
func (i *importer) webhook(m *connector.Manifest, s *schemas, o *operation, name string, names map[string]string) {
	a := m.Action(name)
	field := i.notificationField(o, a)
	if field == "" {
		i.d.violate(name, "it is marked as a trigger, and no field takes the notification's address: it stays an action")
		return
	}
	t := connector.Trigger{
		Name: triggerName(name, m), Title: a.Title, Description: a.Description, Type: connector.TriggerWebhook,
		Webhook: &connector.Subscription{
			Subscribe: connector.SubscribeCall{Action: name, With: []connector.FixedValue{{At: field, Value: rawJSON(`"{url}"`)}}},
			ID:        "header:location",
		},
		Verify: &connector.Verify{Type: "none", Secret: "none"}, // such documents have no word for it
	}
	content := o.node.get("x-ms-notification-content")
	if content == nil {
		content = o.item.get("x-ms-notification-content")
	}
	if schema := content.get("schema"); schema != nil {
		t.Payload = s.schema(schema, 0).json()
	}
	for n := range a.Inputs {
		if in := a.Inputs[n]; in.Name != field {
			t.Inputs = append(t.Inputs, in)
			t.Webhook.Subscribe.With = append(t.Webhook.Subscribe.With, connector.FixedValue{At: in.Name, Value: textNode("{input." + in.Name + "}").json()})
		}
	}
	if un := i.unsubscribe(o, names); un != nil {
		if d := m.Action(un[0]); d != nil {
			t.Webhook.Unsubscribe = &connector.SubscribeCall{Action: un[0], With: []connector.FixedValue{{At: un[1], Value: rawJSON(`"{id}"`)}}}
			d.Visibility = connector.VisibilityInternal
		}
	}
	a.Visibility = connector.VisibilityInternal
	m.Triggers = append(m.Triggers, t)
}

// notificationField is the input of a with x-ms-notification-url; empty for none.
func (i *importer) notificationField(o *operation, a *connector.Action) string {
	marked := ""
	find := func(name string, n *node) {
		if n.get("x-ms-notification-url").yes() || i.d.deref(n).get("x-ms-notification-url").yes() {
			marked = name
		}
	}
	i.d.deref(o.node.get("requestBody")).get("content").each(func(_ string, media *node) {
		i.d.deref(media.get("schema")).get("properties").each(find)
	})
	for _, p := range o.node.get("parameters").list() {
		t := i.d.deref(p)
		find(t.get("name").str(), t)
	}
	at := slices.IndexFunc(a.Inputs, func(in connector.Input) bool {
		return marked != "" && (in.Key() == marked || in.Key() == escapePath(marked))
	})
	if at < 0 {
		return ""
	}
	return a.Inputs[at].Name
}

// unsubscribe finds the DELETE operation one segment below a subscription's path: its action, and the input that is the id.
func (i *importer) unsubscribe(o *operation, names map[string]string) []string {
	base := strings.TrimRight(o.path, "/")
	for n := range i.list {
		d := &i.list[n]
		rest, below := strings.CutPrefix(d.path, base+"/{")
		name, tail, closed := strings.Cut(rest, "}")
		if d.method == "delete" && below && closed && strings.Trim(tail, "/") == "" && names[d.key] != "" {
			return []string{names[d.key], inputName(name)}
		}
	}
	return nil
}

// poll makes a trigger of an operation that is asked now and then. Items are told apart by their id, if they have one.
func (i *importer) poll(m *connector.Manifest, s *schemas, o *operation, name string) {
	a := m.Action(name)
	items, key := i.itemKey(o)
	if key == "" {
		i.d.violate(name, "it is marked as a polled trigger, and nothing tells its items apart: give the trigger in the side file")
		return
	}
	t := connector.Trigger{
		Name: triggerName(name, m), Title: a.Title, Description: a.Description, Type: connector.TriggerPoll,
		Poll: &connector.PollRecipe{Action: name, Items: items, Key: key},
	}
	for n := range a.Inputs {
		in := a.Inputs[n]
		t.Inputs = append(t.Inputs, in)
		t.Poll.With = append(t.Poll.With, connector.Passed{Name: in.Name, From: in.Name})
	}
	a.Visibility = connector.VisibilityInternal
	m.Triggers = append(m.Triggers, t)
}

// itemKey finds the list in the answer, and what names an item.
func (i *importer) itemKey(o *operation) (items, key string) {
	var schema *node
	o.node.get("responses").each(func(status string, r *node) {
		if schema != nil || !strings.HasPrefix(status, "2") {
			return
		}
		i.d.deref(r).get("content").each(func(t string, media *node) {
			if isJSON(mediaBase(t)) && schema == nil {
				schema = i.d.deref(media.get("schema"))
			}
		})
	})
	list := schema
	if typeName(schema) != "array" {
		schema.get("properties").each(func(name string, p *node) {
			if t := i.d.deref(p); list == schema && typeName(t) == "array" {
				list, items = t, escapePath(name)
			}
		})
	}
	properties := i.d.deref(list.get("items")).get("properties")
	for _, name := range []string{"id", "Id", "ID", "_id", "key", "uuid", "guid"} {
		if properties.get(name) != nil {
			return items, name
		}
	}
	return items, ""
}

// triggerName is the action's name, which no trigger has yet.
func triggerName(name string, m *connector.Manifest) string {
	if m.Trigger(name) != nil {
		return suffixed(name, "trigger "+name)
	}
	return name
}
