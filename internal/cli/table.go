package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
)

// table aligns columns. The last column may be as long as it is. Cells may hold anything:
// customers' names and the like are shown on one line and as text only.
type table struct {
	head []string
	rows [][]string
	tint func(row, column int) string // colour of a cell, or ""
}

func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = oneLine(cell)
	}
	t.rows = append(t.rows, row)
}

// print writes the table to standard output.
func (t *table) print(c *console) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	p := paint(terminal(c.Out))
	line := func(row []string, colour func(int) string) {
		var b strings.Builder
		for i, cell := range row {
			pad := ""
			if i < len(row)-1 {
				pad = strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2)
			}
			if k := colour(i); k != "" {
				cell = p.in(k, cell)
			}
			b.WriteString(cell + pad)
		}
		fmt.Fprintln(c.Out, strings.TrimRight(b.String(), " "))
	}
	line(t.head, func(int) string { return grey })
	for n, row := range t.rows {
		line(row, func(i int) string {
			if t.tint == nil {
				return ""
			}
			return t.tint(n, i)
		})
	}
}

// statusColour is the colour of a status or state.
func statusColour(s string) string {
	switch s {
	case "completed", "enabled", "ok":
		return green
	case "faulted", "failing", "removing", "needs_reconnect", "revoked":
		return red
	case "waiting", "pending", "paused", "needs_config", "needs_connection":
		return yellow
	}
	return ""
}

// listing prints a list page by page, up to a limit, as JSON lines or as a table.
func listing[T any](r *remote, c *console, limit int, what string, list func(cursor string) (*api.Page[T], error), t *table, row func(*T) []string) error {
	n := 0
	for x, err := range client.All(list) {
		if err != nil {
			return advise(err)
		}
		if limit > 0 && n == limit {
			if !r.JSON {
				defer fmt.Fprintf(c.Err, "There are more: --limit shows them.\n")
			}
			break
		}
		n++
		if r.JSON {
			if err := printJSON(c, x); err != nil {
				return err
			}
			continue
		}
		t.add(row(&x)...)
	}
	switch {
	case r.JSON:
	case n == 0:
		fmt.Fprintf(c.Err, "There are no %s.\n", what)
	default:
		t.print(c)
	}
	return nil
}

// ago is a time as people say it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now().Sub(t)
	ahead := d < 0
	if ahead {
		d = -d
	}
	var s string
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		s = fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		s = fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		s = fmt.Sprintf("%dh", int(d.Hours()))
	default:
		s = fmt.Sprintf("%dd", int(d.Hours()/24))
	}
	if ahead {
		return "in " + s
	}
	return s + " ago"
}

// took is a duration between two times, if both are known.
func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return "-"
	}
	switch d := to.Sub(from); {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}
