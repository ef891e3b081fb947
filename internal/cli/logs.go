package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// followEvery is how often new log lines are asked for.
	followEvery = time.Second
	// maxFollowed is how many executions of an instance are followed at a time.
	maxFollowed = 20
)

type logsCommand struct {
	remote
	Of     string `arg:"" optional:"" name:"id" help:"An execution or an instance. Default: the newest execution."`
	Follow bool   `short:"f" help:"Go on with what comes: until the execution ends, or of an instance until ^C."`
	Limit  int    `default:"10" help:"Of an instance, begin with so many of its executions."`
}

// logLine is a log line as it is printed for programs.
type logLine struct {
	Execution id.Execution `json:"execution"`
	Step      string       `json:"step,omitempty"`
	wire.LogLine
}

// followed is one execution whose log is read.
type followed struct {
	id    id.Execution
	lines *client.Reading
	ended bool // no more lines come
}

// Run implements the command.
func (m *logsCommand) Run(c *console) error {
	if m.Limit < 1 || m.Limit > maxFollowed {
		return usage("--limit %d: want 1 to %d", m.Limit, maxFollowed)
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if strings.HasPrefix(m.Of, "ins_") {
			var i id.Instance
			if err := i.UnmarshalText([]byte(m.Of)); err != nil {
				return usage("%s: %w", m.Of, err)
			}
			return m.instance(ctx, c, x, i)
		}
		var e id.Execution
		if m.Of != "" {
			if err := e.UnmarshalText([]byte(m.Of)); err != nil {
				return usage("%s: want the id of an execution or an instance: %w", m.Of, err)
			}
		}
		k, err := newest(ctx, x, e)
		if err != nil {
			return err
		}
		f := &followed{id: k.ID, ended: !k.Finished.IsZero()}
		for {
			n, err := m.drain(ctx, c, x, f, "")
			if err != nil {
				return err
			}
			if f.ended || !m.Follow {
				if n == 0 && f.ended && !m.JSON {
					fmt.Fprintf(c.Err, "%s wrote no more log lines.\n", f.id)
				}
				return nil
			}
			if err := pause(ctx); err != nil {
				return err
			}
			if k, err = x.Execution(ctx, k.ID); err != nil {
				return err
			}
			f.ended = !k.Finished.IsZero()
		}
	})
}

// pause waits until new lines are asked for.
func pause(ctx context.Context) error {
	t := time.NewTimer(followEvery)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain prints the lines that are there now and says how many they were.
func (m *logsCommand) drain(ctx context.Context, c *console, x *client.Client, f *followed, prefix string) (n int, err error) {
	if f.lines == nil {
		if f.lines, err = x.Read(f.id, wire.ReadLogs, ""); err != nil {
			return 0, err
		}
	}
	for more := true; more; {
		var items []wire.Item
		if items, more, err = f.lines.Next(ctx); err != nil {
			return n, err
		}
		for i := range items {
			l := logLine{Execution: f.id, Step: items[i].Path}
			if err := json.Unmarshal(items[i].Value, &l.LogLine); err != nil {
				return n, fmt.Errorf("read log line: %w", err)
			}
			n++
			if err := m.show(c, &l, func() { showLine(c, &l, prefix) }); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func showLine(c *console, l *logLine, prefix string) {
	p := paint(terminal(c.Out))
	colour := map[string]string{"error": red, "warn": yellow, "debug": grey}[l.Level]
	step := ""
	if l.Step != "" {
		step = oneLine(l.Step) + ": "
	}
	fmt.Fprintf(c.Out, "%s %s%s %s%s\n", p.in(grey, l.Time.Local().Format("15:04:05.000")), prefix, p.in(colour, fmt.Sprintf("%-5s", l.Level)), step, oneLine(l.Text))
}

// instance prints the log lines of an instance's executions, each with its execution.
func (m *logsCommand) instance(ctx context.Context, c *console, x *client.Client, i id.Instance) error {
	if _, err := x.Instance(ctx, i); err != nil {
		return err
	}
	var open []*followed
	var last id.Execution // the newest that was taken up
	for limit := m.Limit; ; limit = maxFollowed {
		page, err := x.Executions(ctx, api.ExecutionQuery{Instance: i}, client.List{Limit: limit})
		if err != nil {
			return err
		}
		slices.Reverse(page.Items) // the oldest first
		ended := map[id.Execution]bool{}
		for n := range page.Items {
			k := &page.Items[n]
			ended[k.ID] = !k.Finished.IsZero()
			if strings.Compare(k.ID.String(), last.String()) > 0 {
				open, last = append(open, &followed{id: k.ID}), k.ID
			}
		}
		for _, f := range open {
			done, listed := ended[f.id]
			f.ended = done || !listed
			if _, err := m.drain(ctx, c, x, f, f.id.String()+" "); err != nil {
				return err
			}
		}
		open = slices.DeleteFunc(open, func(f *followed) bool { return f.ended })
		if !m.Follow {
			return nil
		}
		if err := pause(ctx); err != nil {
			return nil // ^C is how following ends
		}
	}
}
