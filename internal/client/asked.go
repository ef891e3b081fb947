package client

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// asked names what a request is about, each with its kind and as it was given: "customer acme", "version 3 of integration
// hello". A problem never repeats what was sent: what was not found is known here.
func (q *request) asked(body []byte) string {
	names := []string{inPath(q.path)}
	add := func(kind, name string) {
		if name != "" {
			names = append(names, kind+" "+name)
		}
	}
	type refs struct{ Flow, Instance, Integration, Connection, Template, Customer string }
	of := func(r *refs) {
		add("flow", r.Flow)
		add("instance", r.Instance)
		add("integration", r.Integration)
		add("connection", r.Connection)
		add("connection template", r.Template)
		add("customer", r.Customer)
	}
	v := func(name string) string { return q.query.Get(name) }
	of(&refs{v("flow"), v("instance"), v("integration"), v("connection"), v("template"), v("customer")})
	var sent struct {
		refs
		Query refs
	}
	if json.Unmarshal(body, &sent) == nil { // else it names nothing
		of(&sent.refs)
		of(&sent.Query)
	}
	return strings.Join(slices.DeleteFunc(names, func(name string) bool { return name == "" }), " or ")
}

// inPath names what a path of the API names; empty for a collection.
func inPath(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for n := range parts {
		if text, err := url.PathUnescape(parts[n]); err == nil {
			parts[n] = text
		}
	}
	if len(parts) < 2 || slices.Contains([]string{"retry", "replay", "plan", "validate"}, parts[1]) {
		return ""
	}
	it := strings.TrimSuffix(parts[0], "s")
	switch parts[0] {
	case "connection-templates":
		it = "connection template"
	case "connect-links":
		it = "connect link"
	}
	it += " " + parts[1]
	switch {
	case len(parts) > 3 && parts[2] == "versions":
		return "version " + parts[3] + " of " + it
	case len(parts) > 3 && parts[2] == "hooks":
		return "webhook of flow " + parts[3] + " of " + it
	case len(parts) > 2 && parts[2] == "draft":
		return "draft of " + it
	}
	return it
}
