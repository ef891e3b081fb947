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
	Of     string `arg:"" optional:"" name:"id" help:"An execution, or an instance by id or as CUSTOMER/INTEGRATION. Default: the newest execution."`
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
	done  bool // it has ended
	ended bool // and no more lines come

	retries uint32 // when it was listed last
}

// Run implements the command.
func (m *logsCommand) Run(c *console) error {
	if m.Limit < 1 || m.Limit > maxFollowed {
		return usage("--limit %d: want 1 to %d", m.Limit, maxFollowed)
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if strings.HasPrefix(m.Of, "ins_") || strings.Contains(m.Of, "/") {
			i, err := findInstance(ctx, x, m.Of)
			if err != nil {
				return err
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
	all := following{}
	for begun := false; ; begun = true {
		limit := m.Limit
		if begun {
			limit = maxFollowed
		}
		found, err := underWay(ctx, x, i, limit, begun)
		if err != nil {
			return err
		}
		for _, f := range all.take(found) {
			if _, err := m.drain(ctx, c, x, f, f.id.String()+" "); err != nil {
				return err
			}
			f.ended = f.done
		}
		if !m.Follow {
			return nil
		}
		if err := pause(ctx); err != nil {
			return nil // ^C is how following ends
		}
	}
}

// underWay lists the newest executions of an instance, the oldest first; later also those
// that run again or still, however old they are.
func underWay(ctx context.Context, x *client.Client, i id.Instance, limit int, begun bool) ([]api.Execution, error) {
	states := []string{""}
	if begun {
		states = append(states, "pending", "running")
	}
	var list []api.Execution
	for _, status := range states {
		page, err := x.Executions(ctx, api.ExecutionQuery{Instance: i, Status: status}, client.List{Limit: limit})
		if err != nil {
			return nil, err
		}
		list = append(list, page.Items...)
	}
	slices.SortFunc(list, func(a, b api.Execution) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return list, nil
}

// following are the executions of an instance whose logs are read.
type following map[id.Execution]*followed

// take notes how executions are now, and returns those of which lines may come: new ones,
// those that have not ended, and those that were retried since.
func (all following) take(found []api.Execution) (open []*followed) {
	named := map[id.Execution]bool{}
	for n := range found {
		k := &found[n]
		f := all[k.ID]
		if f == nil {
			f = &followed{id: k.ID, retries: k.Retries}
			all[k.ID] = f
		}
		f.done = !k.Finished.IsZero()
		if !f.done || k.Retries != f.retries {
			f.ended = false
		}
		f.retries = k.Retries
		if !f.ended && !named[k.ID] {
			open = append(open, f)
		}
		named[k.ID] = true
	}
	for e, f := range all {
		switch {
		case named[e]:
		case f.ended: // and too old to be listed: it is listed again when it is retried
			if len(all) > 10*maxFollowed {
				delete(all, e)
			}
		default: // it ended meanwhile
			f.done = true
			open = append(open, f)
		}
	}
	return open
}
