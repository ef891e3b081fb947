package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

// ownID stands in the body of an event for the id of the execution, which is new in every run.
const ownID = "execution.id"

// deliver gives a step that waits for an event the one that the case says, or lets its time come. more is false when the
// case cannot go on.
func (c *caseRun) deliver(ctx context.Context, path string, step *flow.Step) (more bool, err error) {
	i := slices.IndexFunc(c.test.Events, func(t flowfile.TestCallback) bool { return t.Step == step.ID })
	if i < 0 {
		c.add(problem{
			What: fmt.Sprintf("step %s waits for an event that the case does not have", step.ID),
			Hint: fmt.Sprintf("write events: {%s: {body: …}}, or {%s: {timeout: true}}", step.ID, step.ID),
		})
		return false, nil
	}
	t := &c.test.Events[i]
	if t.Timeout {
		return true, c.skip(ctx, path)
	}
	e := &api.RehearsedEvent{Headers: plainTexts(&t.Headers), Query: plainTexts(&t.Query)}
	if !t.Body.IsZero() {
		if e.Body, err = json.Marshal(literal(&t.Body)); err != nil {
			return false, fmt.Errorf("make event: %w", err)
		}
		e.Body = bytes.ReplaceAll(e.Body, []byte(strconv.Quote(ownID)), []byte(strconv.Quote(c.execution.String())))
	}
	err = untilStored(ctx, func() error { return c.Deliver(ctx, c.execution, path, e) })
	if client.IsCode(err, api.CodeNotFound) {
		c.add(problem{
			What: fmt.Sprintf("the event of the case is not the one that step %s waits for", step.ID),
			Hint: fmt.Sprintf("compare it with what the step has in with and match, and with the trigger %s", step.Wait.Event.Uses),
		})
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("deliver the event of step %s: %w", path, err)
	}
	return true, nil
}

func plainTexts(v *flow.Value) map[string]string {
	out := map[string]string{}
	for k, text := range texts(v) {
		out[k] = text.(string)
	}
	return out
}
