package sandbox

import (
	"fmt"
	"strings"
	"sync"

	"github.com/grafana/sobek"
)

// Level is the weight of a line of the console.
type Level string

// The levels, as the methods of console name them; log is info. A note is a remark of the sandbox itself.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
	LevelNote  Level = "note"
)

// A Log is one call of a console method.
type Log struct {
	Level Level
	// Text has at most MaxLine bytes.
	Text string
}

// A console collects lines up to its limits. It is locked, because the watchdog reads it while an abandoned engine may
// still write.
type console struct {
	limits Limits

	mu      sync.Mutex
	lines   []Log
	bytes   int
	dropped int
	notes   []Log
}

// full says whether further lines are dropped, so that nobody formats them.
func (c *console) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines) >= c.limits.LogLines || c.bytes >= c.limits.LogBytes
}

func (c *console) add(level Level, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text = clip(text, MaxLine)
	if len(c.lines) >= c.limits.LogLines || c.bytes+len(text) > c.limits.LogBytes {
		c.dropped++
		c.bytes = max(c.bytes, c.limits.LogBytes) // nothing that follows a dropped line is kept
		return
	}
	c.bytes += len(text)
	c.lines = append(c.lines, Log{Level: level, Text: strings.ToValidUTF8(text, "\uFFFD")})
}

// drop counts a line that was not formatted.
func (c *console) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
}

// note adds a remark of the sandbox, outside the limits: there are at most a few.
func (c *console) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, Log{Level: LevelNote, Text: fmt.Sprintf(format, args...)})
}

// result gives the notes and lines collected so far with output, and says what was dropped.
func (c *console) result(output []byte) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	logs := append(append([]Log(nil), c.notes...), c.lines...)
	if c.dropped > 0 {
		logs = append(logs, Log{Level: LevelNote, Text: fmt.Sprintf("%d more lines of the console were dropped: at most %d lines and %d bytes are kept", c.dropped, c.limits.LogLines, c.limits.LogBytes)})
	}
	return Result{Output: output, Logs: logs, Truncated: c.dropped > 0}
}

// installConsole defines the global console.
func (r *run) installConsole() {
	rt := r.guard.rt
	object := rt.NewObject()
	for _, m := range [...]struct {
		name  string
		level Level
	}{{"log", LevelInfo}, {"info", LevelInfo}, {"warn", LevelWarn}, {"error", LevelError}, {"debug", LevelDebug}} {
		define(rt, object, m.name, 0, func(call sobek.FunctionCall) sobek.Value {
			r.guard.stopped()
			if r.console.full() {
				r.console.drop()
				return sobek.Undefined()
			}
			r.console.add(m.level, r.format(call.Arguments))
			return sobek.Undefined()
		})
	}
	_ = rt.GlobalObject().DefineDataProperty("console", object, sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
}

// format writes the arguments of a console method in one line: text as it is, errors with their name, the rest as JSON.
func (r *run) format(args []sobek.Value) string {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.guard.show(arg, MaxLine))
		if b.Len() > MaxLine {
			break
		}
	}
	return b.String()
}
