package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// maxShownSteps is how many runs of steps are opened when all are asked for.
	maxShownSteps = 50
	// readRange is how much of a large value is asked for at a time, in bytes.
	readRange = 128 << 10
	// maxShownValue is the largest value that is put together, in bytes.
	maxShownValue = 16 << 20
)

// payloads opens what is stored of an execution: a worker does, and seals it to a key that
// is made here. With a step only what that gave is opened.
func payloads(ctx context.Context, x *client.Client, v *shown, step string) ([]wire.Item, error) {
	if step != "" {
		return pages(ctx, x, v.ID, wire.ReadStep, step)
	}
	var all []wire.Item
	for _, kind := range []wire.ReadKind{wire.ReadEvent, wire.ReadLabels} {
		items, err := pages(ctx, x, v.ID, kind, "")
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	opened := 0
	for i := range v.Steps {
		for _, run := range v.Steps[i].Runs {
			if opened++; opened > maxShownSteps {
				v.Omitted = true
				break
			}
			items, err := pages(ctx, x, v.ID, wire.ReadStep, run.Path)
			if err != nil {
				return nil, err
			}
			all = append(all, items...)
		}
	}
	items, err := pages(ctx, x, v.ID, wire.ReadOutput, "")
	return append(all, items...), err
}

// pages reads all pages of one kind, with values that are larger than a page put together.
func pages(ctx context.Context, x *client.Client, e id.Execution, kind wire.ReadKind, at string) ([]wire.Item, error) {
	r, err := x.Read(e, kind, at)
	if err != nil {
		return nil, err
	}
	var all []wire.Item
	for more := true; more; {
		var items []wire.Item
		if items, more, err = r.Next(ctx); err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	for i := range all {
		if all[i].Value != nil || all[i].Size == 0 || all[i].Size > maxShownValue {
			continue
		}
		if err := whole(ctx, x, e, kind, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// whole puts a large value together.
func whole(ctx context.Context, x *client.Client, e id.Execution, kind wire.ReadKind, item *wire.Item) error {
	at := ""
	if kind == wire.ReadStep {
		at = item.Path
	}
	r, err := x.Read(e, kind, at)
	if err != nil {
		return err
	}
	b := make([]byte, 0, item.Size)
	for uint64(len(b)) < item.Size {
		r.Range(item.Seq, uint64(len(b)), readRange)
		items, _, err := r.Next(ctx)
		if err != nil {
			return err
		}
		if len(items) != 1 || len(items[0].Data) == 0 {
			return fmt.Errorf("read %s %s: it ends early", item.Kind, item.Path)
		}
		b = append(b, items[0].Data...)
	}
	item.Value, item.Size = json.RawMessage(b), 0
	return nil
}

// maxShownText is the largest value that is shown to people, in bytes.
const maxShownText = 32 << 10

// readable is the value of an item for people. Of an event it leaves out what it says
// twice.
func readable(item *wire.Item) string {
	value := item.Value
	if item.Kind == "event" {
		var event map[string]json.RawMessage
		if json.Unmarshal(value, &event) == nil {
			delete(event, "headers_all")
			if b, err := json.Marshal(event); err == nil {
				value = b
			}
		}
	}
	var b bytes.Buffer
	if json.Compact(&b, value) == nil && b.Len() <= maxPageLine {
		return oneLine(b.String())
	}
	b.Reset()
	if json.Indent(&b, value, "  ", "  ") != nil {
		return oneLine(string(value))
	}
	return b.String()
}

func showPayloads(c *console, v *shown) {
	p := paint(terminal(c.Out))
	for i := range v.Payloads {
		item := &v.Payloads[i]
		if item.Kind == "intent" || item.Kind == "clock" {
			continue // marks of the platform
		}
		name := item.Kind
		if item.Path != "" {
			name = item.Path + " " + name
		}
		if item.Attempt > 0 {
			name = fmt.Sprintf("%s %d", name, item.Attempt)
		}
		text := readable(item)
		switch {
		case len(item.Value) > maxShownText, item.Value == nil:
			text = fmt.Sprintf("(%s: --json prints it)", bytesText(max(item.Size, uint64(len(item.Value)))))
		}
		fmt.Fprintf(c.Out, "\n%s\n  %s\n", p.in(bold, oneLine(name)), visible(text))
	}
	if !v.Omitted && slices.ContainsFunc(v.Steps, func(s api.Step) bool { return s.Rounds > len(s.Runs) }) {
		fmt.Fprintln(c.Err, "Of a loop these are the first, the last and failed rounds: --step PATH opens another.")
	}
	if v.Omitted {
		fmt.Fprintf(c.Err, "Only the first %d runs of steps were opened: --step PATH opens another.\n", maxShownSteps)
	}
}
