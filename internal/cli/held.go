package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// later gives an event to a paused instance. It is stored and runs after the pause: there is nothing to follow, and
// nobody knows for how long.
func (m *triggerCommand) later(ctx context.Context, c *console, x *client.Client, r api.ExecutionRequest) error {
	s, err := x.Trigger(ctx, m.Instance, r)
	if err != nil {
		return m.refused(store.InstancePaused, err)
	}
	if m.JSON {
		b, err := json.Marshal(map[string]any{"kind": "held", "execution": s.Execution, "state": store.InstancePaused})
		if err != nil {
			return fmt.Errorf("print event: %w", err)
		}
		fmt.Fprintf(c.Err, "%s\n", b)
	} else {
		fmt.Fprintf(c.Err, "%s is paused: the event was accepted as %s, and runs when the pause ends:\n  bulkhead instances resume %s\n",
			m.Ref, s.Execution, m.Ref)
	}
	if m.Detach {
		return m.show(c, s, func() { fmt.Fprintln(c.Out, s.Execution) })
	}
	return said(exitFailed) // it did not run to its end
}

// stateAdvice says what to do about an instance that takes no events.
var stateAdvice = map[store.InstanceState]string{
	store.InstanceNeedsConnection: "A connection is missing, or must be connected again. bulkhead instances show names its connections, bulkhead\n" +
		"          connections their health; bulkhead instances connect gives a slot another one.",
	store.InstanceNeedsConfig: "It lacks a config value: bulkhead deploy … --upgrade --config NAME=VALUE gives it, with all others.",
	store.InstanceRemoving:    "It goes away with its state and keys: bulkhead deploy makes a new one.",
}

// refused says in which state an instance is that took no event, and what to do about that.
func (m *triggerCommand) refused(state store.InstanceState, err error) error {
	e, ok := errors.AsType[*client.Error](err)
	advice := stateAdvice[state]
	if !ok || e.Code != api.CodeNotEnabled || advice == "" {
		return err
	}
	return &fail{exitFailed, fmt.Errorf("%s is %s and takes no events: this one was not accepted.\n          %s", m.Ref, state, advice)}
}
