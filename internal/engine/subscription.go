package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// hooked reports whether a flow has an address: that of its webhook, or the one that a
// subscription sends events to.
func (v *version) hooked(f *flow.Flow) bool {
	if f.Trigger.Webhook != nil {
		return true
	}
	if f.Trigger.Event == nil {
		return false
	}
	_, t := v.integration.EventTrigger(f.Trigger.Event.Uses)
	return t != nil && t.Type == connector.TriggerWebhook
}

// flowOf finds a flow of an instance, and the version that it is of. The flow that takes a
// subscription back may be of the version before the present one, which has the flow with the
// subscription no more.
func (e *Engine) flowOf(ctx context.Context, x *store.Instance, name string) (*flow.Flow, [32]byte, error) {
	f, err := e.catalog.flow(ctx, x.Digest, name)
	if err != nil && strings.HasSuffix(name, flow.UnsubscribeSuffix) && x.Previous != [32]byte{} {
		f, err = e.catalog.flow(ctx, x.Previous, name)
		return f, x.Previous, err
	}
	return f, x.Digest, err
}

// dropSubscriptions has the subscriptions taken back that the version before the present one had
// and the present one has not.
func (e *Engine) dropSubscriptions(ctx context.Context, rows store.CustomerTx, i *store.Instance, v *version, now time.Time) error {
	list, err := e.dropped(ctx, i, v)
	if err != nil {
		return err
	}
	for _, name := range list {
		if err := rows.PutRun(i.ID, name, now); err != nil {
			return err
		}
	}
	return nil
}

// dropped are the flows that take back what the version before the present one had and the
// present one has not. They find nothing where that is done.
func (e *Engine) dropped(ctx context.Context, i *store.Instance, v *version) ([]string, error) {
	if i.Previous == [32]byte{} {
		return nil, nil
	}
	old, err := e.catalog.version(ctx, i.Previous)
	if err != nil {
		return nil, err
	}
	var list []string
	for name := range old.flows {
		if strings.HasSuffix(name, flow.UnsubscribeSuffix) && v.flows[name] == nil {
			list = append(list, name)
		}
	}
	return list, nil
}

// resubscribe has the subscription of a flow made anew, if it has one.
func resubscribe(rows store.CustomerTx, i id.Instance, name string, now time.Time) error {
	list, err := rows.Schedules(i)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.Flow == name+flow.SubscribeSuffix {
			return rows.PutRun(i, s.Flow, now)
		}
	}
	return nil
}

// SubscriptionEvent is the body of the event that starts the flow which makes the subscription
// of a flow: what address it has, and through which connection it is made. It is nil for flows
// of other kinds.
//
// Errors: those of [Engine.HookURL].
func (e *Engine) SubscriptionEvent(ctx context.Context, t *Target) ([]byte, error) {
	of, ok := strings.CutSuffix(t.Flow.Name, flow.SubscribeSuffix)
	if !ok {
		return nil, nil
	}
	url, err := e.HookURL(ctx, t.Instance.Customer, t.Instance.ID, of)
	if err != nil {
		return nil, err
	}
	f, err := e.catalog.flow(ctx, t.Instance.Digest, of)
	if err != nil {
		return nil, err
	}
	var connection string
	if f.Trigger.Event != nil {
		slot, _, _ := strings.Cut(f.Trigger.Event.Uses, ".")
		for _, s := range t.Instance.Slots {
			if s.Name == slot {
				connection = s.Connection.String()
			}
		}
	}
	b, err := json.Marshal(map[string]string{"url": url, "connection": connection})
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return b, nil
}

// SubscriptionSecret is the sealed state value with the secret of a flow's subscription; nil when
// there is none.
func (e *Engine) SubscriptionSecret(ctx context.Context, c id.Customer, i id.Instance, name [32]byte) ([]byte, error) {
	v, err := e.db.Customer(ctx, c).State(i, name)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return v.Sealed, nil
}

// ClientOf is the client record of the app with which a connection was made, and who owns that
// record; zero when it was made without one.
//
// Errors: ErrNotFound, or one of the store.
func (e *Engine) ClientOf(ctx context.Context, owner id.Customer, n id.Connection) (id.Customer, id.Connection, error) {
	x, err := e.db.Customer(ctx, owner).Connection(n)
	if err != nil {
		return id.Customer{}, id.Connection{}, notFound(fmt.Errorf("find connection: %w", err))
	}
	if x.Template.IsZero() {
		return id.Customer{}, id.Connection{}, nil
	}
	p, err := e.catalog.profile(ctx, owner)
	if err != nil {
		return id.Customer{}, id.Connection{}, err
	}
	t, err := e.db.Org(ctx, p.Organization).Template(x.Template)
	if err != nil {
		return id.Customer{}, id.Connection{}, notFound(fmt.Errorf("find template: %w", err))
	}
	return t.Owner, t.Client, nil
}

// AppTargets are the flows of an instance that a trigger of an app starts through a connection.
func (e *Engine) AppTargets(ctx context.Context, c id.Customer, i id.Instance, n id.Connection, trigger string) ([]*Target, error) {
	x, err := e.catalog.instance(ctx, c, i)
	if err != nil {
		return nil, err
	}
	v, err := e.catalog.version(ctx, x.Digest)
	if err != nil {
		return nil, err
	}
	var list []*Target
	for name, f := range v.flows {
		if f.Trigger.Event == nil {
			continue
		}
		slot, uses, _ := strings.Cut(f.Trigger.Event.Uses, ".")
		if uses != trigger || !slices.ContainsFunc(x.Slots, func(s store.Slot) bool { return s.Name == slot && s.Connection == n }) {
			continue
		}
		t, err := e.Target(ctx, c, i, name)
		if err != nil {
			return nil, err
		}
		if t.Trigger != nil && t.Trigger.Type == connector.TriggerApp {
			list = append(list, t)
		}
	}
	return list, nil
}
