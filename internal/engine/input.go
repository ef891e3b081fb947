package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// InputSchema is the JSON Schema of what a flow of an instance takes as trigger.body;
// nil when it takes anything, or starts by something other than a request or a call. The
// result is shared: do not change it. ErrNotFound means that there is no such instance of
// the customer, or no such flow in it.
func (e *Engine) InputSchema(ctx context.Context, c id.Customer, i id.Instance, name string) (json.RawMessage, error) {
	x, err := e.catalog.instance(ctx, c, i)
	if err != nil {
		return nil, fmt.Errorf("read input schema: %w", err)
	}
	f, err := e.catalog.flow(ctx, x.Digest, name)
	if err != nil {
		return nil, fmt.Errorf("read input schema: %w", err)
	}
	switch f.Trigger.Kind() {
	case flow.TriggerManual:
		return f.Trigger.Manual.Schema, nil
	case flow.TriggerCall:
		return f.Trigger.Call.Schema, nil
	}
	return nil, nil
}
