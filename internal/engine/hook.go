package engine

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Addresses of webhooks.
const (
	// HookTokenSize is the length of a hook's token: 32 bytes in base32.
	HookTokenSize = 52
	// MaxHookOverlap is the longest time that a rotated address goes on working.
	MaxHookOverlap = 30 * 24 * time.Hour
)

// hookToken is the address of a flow's webhook: an HMAC under the blind-index key, so that
// nobody guesses it, and that can be shown again although only its SHA-256 is stored.
func (k *keys) hookToken(ctx context.Context, c id.Customer, i id.Instance, flow string, generation uint32) (string, error) {
	b, err := k.index(ctx, []byte("hook/1"), c[:], i[:], []byte(flow), seal.Uint(uint64(generation)))
	if err != nil {
		return "", err
	}
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(b[:]), nil
}

// Target is a flow of an instance that an event may start.
type Target struct {
	Instance *store.Instance // shared: do not change it
	Flow     *flow.Flow      // of the version that the instance runs
	Customer *store.CustomerRow
	Slot     string             // of the connector whose trigger the flow has, or whose recipe its webhook; empty: none
	Trigger  *connector.Trigger // this trigger, or the one with the recipe
}

// Target finds a flow of an instance with what its events say about the customer.
//
// Errors: ErrNotFound, or one of the store.
func (e *Engine) Target(ctx context.Context, c id.Customer, i id.Instance, name string) (*Target, error) {
	x, err := e.catalog.instance(ctx, c, i)
	if err != nil {
		return nil, err
	}
	f, digest, err := e.flowOf(ctx, x, name)
	if err != nil {
		return nil, err
	}
	p, err := e.catalog.profile(ctx, c)
	if err != nil {
		return nil, err
	}
	t := &Target{Instance: x, Flow: f, Customer: p}
	hook, event := f.Trigger.Webhook, f.Trigger.Event
	if event == nil && (hook == nil || hook.Verify.Connector == "") {
		return t, nil
	}
	v, err := e.catalog.version(ctx, digest)
	if err != nil {
		return nil, err
	}
	if event != nil {
		_, t.Trigger = v.integration.EventTrigger(event.Uses)
		t.Slot, _, _ = strings.Cut(event.Uses, ".")
	} else {
		t.Slot, t.Trigger = hook.Verify.Connector, v.integration.Recipe(hook.Verify.Connector)
	}
	return t, nil
}

// Hook finds the address with that token. One that has ended is not found.
func (e *Engine) Hook(ctx context.Context, token string) (*store.Hook, error) {
	h, err := e.db.System(ctx).HookByHash(sha256.Sum256([]byte(token)))
	if err != nil {
		return nil, notFound(fmt.Errorf("find hook: %w", err))
	}
	if !h.Closes.IsZero() && !time.Now().Before(h.Closes) {
		return nil, fmt.Errorf("find hook: %w", ErrNotFound)
	}
	return h, nil
}

// HookURL is the address of a flow's webhook.
//
// Errors: ErrNotFound when the flow has none, or one of the vault or the store.
func (e *Engine) HookURL(ctx context.Context, c id.Customer, i id.Instance, name string) (string, error) {
	list, err := e.db.Customer(ctx, c).Hooks(i)
	if err != nil {
		return "", fmt.Errorf("find hook: %w", err)
	}
	h := newest(list, name)
	if h == nil || !h.Closes.IsZero() {
		return "", fmt.Errorf("find hook: %w", ErrNotFound)
	}
	token, err := e.keys.hookToken(ctx, c, i, name, h.Generation)
	if err != nil {
		return "", fmt.Errorf("make address of hook: %w", err)
	}
	return e.o.HookBase + token, nil
}

// RotateHook gives a flow's webhook a new address. The old ones go on working for overlap.
func (e *Engine) RotateHook(ctx context.Context, c id.Customer, i id.Instance, name string, overlap time.Duration) (string, error) {
	if overlap < 0 || overlap > MaxHookOverlap {
		return "", fmt.Errorf("rotate hook: %w: the overlap must be between 0 and %v", ErrInvalid, MaxHookOverlap)
	}
	if _, err := e.keys.blindKey(ctx); err != nil {
		return "", fmt.Errorf("rotate hook: %w", err)
	}
	now := time.Now()
	var token string
	err := e.db.Write(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(c)
		list, err := rows.Hooks(i)
		if err != nil {
			return err
		}
		h := newest(list, name)
		if h == nil || !h.Closes.IsZero() {
			return ErrNotFound
		}
		if token, err = e.putHook(ctx, rows, i, name, h.Generation+1, now); err != nil {
			return err
		}
		if err := resubscribe(rows, i, name, now); err != nil {
			return err
		}
		return rows.CloseHooks(i, name, h.Generation, now.Add(overlap))
	})
	if err != nil {
		return "", fmt.Errorf("rotate hook: %w", err)
	}
	return e.o.HookBase + token, nil
}

// newest is the address of the highest generation of a flow, open or not.
func newest(list []store.Hook, flow string) *store.Hook {
	for n := range list {
		if list[n].Flow == flow {
			return &list[n]
		}
	}
	return nil
}

func (e *Engine) putHook(ctx context.Context, rows store.CustomerTx, i id.Instance, flow string, generation uint32, now time.Time) (string, error) {
	token, err := e.keys.hookToken(ctx, rows.ID(), i, flow, generation)
	if err != nil {
		return "", err
	}
	return token, rows.PutHook(sha256.Sum256([]byte(token)), &store.Hook{Instance: i, Flow: flow, Generation: generation}, now)
}

// prepareTriggers gets what putTriggers needs, before its transaction.
func (e *Engine) prepareTriggers(ctx context.Context, v *version) error {
	for _, f := range v.flows {
		if v.hooked(f) {
			_, err := e.keys.blindKey(ctx)
			return err
		}
	}
	return nil
}

// putTriggers makes what starts the flows of a version that an instance runs from now on,
// and ends what started those of the one before. An address that a flow had stays its
// address, also when the flow was gone in between.
func (e *Engine) putTriggers(ctx context.Context, rows store.CustomerTx, i *store.Instance, v *version, now time.Time) error {
	list, err := rows.Hooks(i.ID)
	if err != nil {
		return err
	}
	for name, f := range v.flows {
		if !v.hooked(f) {
			continue
		}
		generation := uint32(1)
		if h := newest(list, name); h != nil {
			if h.Closes.IsZero() {
				continue
			}
			generation = h.Generation
		}
		if _, err := e.putHook(ctx, rows, i.ID, name, generation, now); err != nil {
			return err
		}
	}
	for n := range list {
		if f := v.flows[list[n].Flow]; f == nil || !v.hooked(f) {
			if err := rows.CloseHooks(i.ID, list[n].Flow, list[n].Generation, now); err != nil {
				return err
			}
		}
	}
	if err := e.dropSubscriptions(ctx, rows, i, v, now); err != nil {
		return err
	}
	return putSchedules(rows, i, v, now)
}

// putSchedules makes the schedules of a version, without their times, which may depend on
// config that only a worker can read. A flow with a deploy trigger runs once, when its
// instance is enabled first; that it has is known as long as the instance is there.
func putSchedules(rows store.CustomerTx, i *store.Instance, v *version, now time.Time) error {
	list, err := rows.Schedules(i.ID)
	if err != nil {
		return err
	}
	for _, s := range list {
		f := v.flows[s.Flow]
		if f != nil && (scheduled(f) || f.Trigger.Deploy != nil) || s.Kind == store.KindDeploy && !s.LastRun.IsZero() || f == nil && strings.HasSuffix(s.Flow, flow.UnsubscribeSuffix) {
			continue // of a subscription that this version has again, none is taken back any more
		}
		if err := rows.DeleteSchedule(i.ID, s.Flow); err != nil {
			return err
		}
	}
	if i.State != store.InstanceEnabled {
		now = time.Time{} // it runs when it is
	}
	for name, f := range v.flows {
		switch {
		case scheduled(f):
			err = rows.PutSchedule(i.ID, name, string(f.Trigger.Kind()))
		case strings.HasSuffix(name, flow.SubscribeSuffix):
			err = rows.PutRun(i.ID, name, now)
		case f.Trigger.Deploy != nil:
			err = rows.PutDeployRun(i.ID, name, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scheduled reports whether a flow starts at times.
func scheduled(f *flow.Flow) bool { return f.Trigger.Schedule != nil || f.Trigger.Poll != nil }

// closeTriggers ends everything that starts the flows of an instance.
func closeTriggers(rows store.CustomerTx, i id.Instance, now time.Time) error {
	list, err := rows.Hooks(i)
	if err != nil {
		return err
	}
	for n := range list {
		if err := rows.CloseHooks(i, list[n].Flow, list[n].Generation, now); err != nil {
			return err
		}
	}
	times, err := rows.Schedules(i)
	if err != nil {
		return err
	}
	for _, s := range times {
		if err := rows.DeleteSchedule(i, s.Flow); err != nil {
			return err
		}
	}
	return nil
}
