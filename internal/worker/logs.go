package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// maxLogText is the longest line of a log in bytes; a longer one is cut.
	maxLogText = 4 << 10
	// logOverhead is what a line counts beside its text.
	logOverhead = 16
)

// logs are the log lines of one execution: what code prints, and what the journal does not say. They are sealed at once and
// go out with the next append. It is safe for concurrent use.
type logs struct {
	mu      sync.Mutex
	lines   uint32 // kept, those of earlier stays included
	bytes   uint32
	dropped int
	lost    int // bytes of those
	queue   []wire.LogLines
}

// log keeps lines of a step, as far as the execution has room for them.
func (x *execution) log(path string, lines ...wire.CodeLog) {
	if len(lines) == 0 {
		return
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	l := &x.logs
	l.mu.Lock()
	defer l.mu.Unlock()
	var page wire.LogPage
	for i := range lines {
		text := clipTo(lines[i].Text, maxLogText)
		size := uint32(len(text) + logOverhead)
		if l.lines+uint32(len(page.Lines)) >= wire.MaxLogLines || l.bytes+size > wire.MaxLogBytes {
			l.dropped++
			l.lost += len(lines[i].Text)
			continue
		}
		l.bytes += size
		page.Lines = append(page.Lines, wire.LogLine{Time: now, Level: lines[i].Level, Text: text})
	}
	x.queueLogs(path, &page)
}

// queueLogs seals lines. The caller holds the lock of the logs.
func (x *execution) queueLogs(path string, page *wire.LogPage) {
	if len(page.Lines) == 0 {
		return
	}
	l := &x.logs
	m := wire.LogLines{Number: l.lines + 1, Path: path, Lines: uint32(len(page.Lines))}
	var err error
	if m.Body, err = x.seal(lease.EntryPlace(x.in.customer, x.unit.Execution, m.Entry()), wire.AppendBody(nil, page)); err != nil {
		return // a log is a help; the execution goes on
	}
	l.lines += m.Lines
	l.queue = append(l.queue, m)
}

// take gives the lines that are to be stored with the next append.
func (l *logs) take() []wire.LogLines {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.queue
	l.queue = nil
	return queue
}

// endLog says how much was left out of the log in this stay.
func (x *execution) endLog() {
	l := &x.logs
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped == 0 {
		return
	}
	text := fmt.Sprintf("%d lines with %d bytes were left out: the log of an execution has at most %d lines and %d KiB",
		l.dropped, l.lost, wire.MaxLogLines, wire.MaxLogBytes>>10)
	l.dropped, l.lost = 0, 0
	x.queueLogs("", &wire.LogPage{Lines: []wire.LogLine{{Time: time.Now().UTC().Truncate(time.Microsecond), Level: "warn", Text: text}}})
}

// logFault says that a step faulted whose fault is in no journal entry: it was computed, and somebody may have caught it.
func (x *execution) logFault(path string, f *fault) {
	x.log(path, wire.CodeLog{Level: "error", Text: "the step faulted: " + f.Type + ": " + f.Message})
}
