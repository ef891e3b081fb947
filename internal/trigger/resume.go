package trigger

import (
	"context"
	"errors"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// resume answers the waits of an instance for an event of a trigger. It is done before the event
// starts flows: when that fails, the sender repeats the event, which then finds no wait open.
//
// An event too large to be an answer answers nothing, which is logged: its sender could do
// nothing about it.
func (d *Door) resume(ctx context.Context, q *Request, dl *connector.Delivery, t *connector.Trigger, a *engine.Arrived) error {
	if !t.Takes(dl, expr.Null()) {
		return nil
	}
	a.Trigger, a.Text = t.Name, dl.Text
	if a.Delivery = t.ID(dl); len(a.Delivery) > maxKey {
		a.Delivery = ""
	}
	a.Payload = func() ([]byte, error) {
		body, err := expr.AppendJSON([]byte(bodyOpen), orNull(dl.Body))
		if err != nil {
			return nil, ErrMalformed
		}
		own := &Request{Method: q.Method, Header: q.Header, Query: q.Query, buf: body}
		return own.answer(d.now(), provingHeaders(t.Verify)), nil
	}
	_, err := d.engine.Resume(ctx, a)
	switch {
	case errors.Is(err, engine.ErrNotFound): // the instance is gone
		return nil
	case errors.Is(err, engine.ErrTooLarge):
		d.log.WarnContext(ctx, "an event is too large to answer a wait", "instance", a.Instance, "trigger", t.Name)
		return nil
	}
	return err
}

func orNull(v expr.Value) expr.Value {
	if v == nil {
		return expr.Null()
	}
	return v
}
