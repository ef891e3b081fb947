package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// filled is the connection of every slot of an integration, by name: the one that is
// written, else the customer's of the slot's own name.
func filled(i *flow.Integration, k *flowfile.PlatformCustomer, n *flowfile.PlatformInstance) (map[string]string, error) {
	out := maps.Clone(n.Connections)
	if out == nil {
		out = map[string]string{}
	}
	for s := range i.Connections {
		name := i.Connections[s].Name
		if out[name] != "" {
			continue
		}
		if !slices.ContainsFunc(k.Connections, func(c flowfile.PlatformConnection) bool { return c.Name == name }) {
			return nil, usage("it needs a connection for %s: write connections: {%s: NAME}, or one of that name under the customer's connections", name, name)
		}
		out[name] = name
	}
	for _, name := range slices.Sorted(maps.Keys(n.Connections)) {
		if !slices.ContainsFunc(i.Connections, func(s flow.Slot) bool { return s.Name == name }) {
			return nil, usage("connections: the integration has no %s", name)
		}
	}
	return out, nil
}

// drift says how the config of an instance differs from the config that is wanted. Values of
// secrets cannot be read, so of those only the ones that are missing count. A config that
// cannot be opened now is given again.
func (p *plan) drift(ctx context.Context, old *api.Instance, i *flow.Integration, want []byte) (string, error) {
	r, err := p.x.ReadConfig(old.ID)
	if err != nil {
		return "", err
	}
	var has []wire.Item
	for more := true; more; {
		var items []wire.Item
		if items, more, err = r.Next(ctx); err != nil {
			return "config, which cannot be compared", ctx.Err()
		}
		has = append(has, items...)
	}
	return configDiff(has, i, want)
}

// configDiff names the values that differ. A value too large to be shown counts as another.
func configDiff(has []wire.Item, i *flow.Integration, want []byte) (string, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(want, &values); err != nil {
		return "", fmt.Errorf("read config: %w", err)
	}
	known := map[string]json.RawMessage{}
	for n := range has {
		known[has[n].Path] = has[n].Value
	}
	var names []string
	for n := range i.Config {
		v := &i.Config[n]
		value, given := values[v.Name]
		was, there := known[v.Name]
		unset := !there || string(was) == "null"
		same := given && unset && string(value) == "null" || there && sameJSON(was, value)
		if v.Type == flow.ConfigSecret {
			same = !given || !unset
		}
		if !same {
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	return "config " + strings.Join(names, ", "), nil
}
