package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

type statusCommand struct{ remote }

// statusShown is a status as it is printed for programs.
type statusShown struct {
	*api.Status
	Version     string           `json:"version"`
	Role        api.Role         `json:"role"`
	Permissions []api.Permission `json:"permissions"`
	Authority   string           `json:"authority,omitempty"` // fingerprint
}

// Run implements the command. A platform that is not ready is a failure.
func (m *statusCommand) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		info, err := x.Server(ctx)
		if err != nil {
			return err
		}
		s, err := x.Status(ctx)
		if err != nil {
			return err
		}
		v := &statusShown{Status: s, Version: info.Version, Role: info.Role, Permissions: info.Permissions}
		if len(info.Authority) == len(seal.VerifyKey{}) {
			v.Authority = fingerprint(seal.VerifyKey(info.Authority))
		}
		if err := m.show(c, v, func() { showStatus(c, v) }); err != nil {
			return err
		}
		if !s.Ready {
			return said(exitFailed)
		}
		return nil
	})
}

func showStatus(c *console, v *statusShown) {
	p := paint(terminal(c.Out))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(c.Out, "%s %s\n", p.in(grey, fmt.Sprintf("%-12s", name)), fmt.Sprintf(format, args...))
	}
	if v.Ready {
		line("platform", "%s", p.in(green, "ready"))
	} else {
		line("platform", "%s: %s", p.in(red, "not ready"), strings.Join(v.Missing, ", "))
	}
	line("you", "%s", v.Role)
	if v.Authority != "" {
		line("authority", "%s", v.Authority)
	}
	queue := fmt.Sprintf("%d pending, %d running, %d waiting", v.Pending, v.Running, v.Waiting)
	if v.Pending > 0 {
		queue += fmt.Sprintf("; the oldest for %.1fs, %s in all", v.OldestPending, bytesText(uint64(max(v.PendingBytes, 0))))
	}
	line("executions", "%s", queue)
	line("since start", "%d accepted, %d completed, %d faulted, %d cancelled", v.Accepted, v.Completed, v.Faulted, v.Cancelled)
	if v.Refused > 0 {
		line("refused", "%s: too much was pending", count(v.Refused, "event"))
	}
	line("runners", "%d, with room for %s", v.Runners, count(v.Room, "execution"))
	if len(v.Roles) == 0 {
		return
	}
	t := &table{head: []string{"ROLE", "STATE", "RESTARTS", "MEMORY"}}
	t.tint = tint(t, 1)
	for _, r := range v.Roles {
		state := "ok"
		if !r.Up {
			state = "down"
		}
		t.add(r.Role, state, strconv.FormatUint(r.Restarts, 10), bytesText(r.Memory))
	}
	fmt.Fprintln(c.Out)
	t.print(c)
}

// bytesText is a size as people say it.
func bytesText(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
