package bench

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// growth is what may be added to a figure before it is told of.
const growth = 1.2

// little is processor time, in microseconds per execution, of which growth says nothing.
const little = 5

// workSize and workTimes are the fixed piece of work.
const (
	workSize  = 64 << 10
	workTimes = 400
)

// work does a fixed piece of work and returns the processor time that it took, in
// microseconds: a machine that is slower, or busy with other things, takes longer for
// everything.
func work() float64 {
	var before, after syscall.Rusage
	b := make([]byte, workSize)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for range workTimes {
		sum := sha256.Sum256(b)
		copy(b, sum[:])
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	return float64(used.Nanoseconds()) / 1000
}

// compare warns of processor time that has grown against committed figures. It never fails
// because of time.
func (b *bench) compare() error {
	if b.set.compare == "" {
		return nil
	}
	j, err := os.ReadFile(b.set.compare)
	if err != nil {
		return fmt.Errorf("compare figures: %w", err)
	}
	var old []Figure
	if err := json.Unmarshal(j, &old); err != nil {
		return fmt.Errorf("compare figures: %w", err)
	}
	for _, line := range grown(old, b.figures) {
		fmt.Fprintln(b.out, "WARNING:", line)
	}
	return nil
}

// grown names every process whose processor time per execution grew by more than a fifth,
// measured in the fixed piece of work, so that figures of different machines can be compared
// a little.
func grown(old, now []Figure) (out []string) {
	for _, f := range now {
		i := slices.IndexFunc(old, func(o Figure) bool { return o.Name == f.Name })
		if i < 0 || f.Sum == 0 || f.Unit == 0 || old[i].Unit == 0 {
			continue
		}
		scale := f.Unit / old[i].Unit
		tell := func(who string, was, is float64) {
			if want := was * scale; is > want*growth && is-want > little {
				out = append(out, fmt.Sprintf("%s: %s needs %.0f µs of processor time per execution; by the committed figures it would be %.0f", f.Name, who, is, want))
			}
		}
		for _, p := range slices.Sorted(maps.Keys(f.Processor)) {
			if p != "load" {
				tell(p, old[i].Processor[p], f.Processor[p])
			}
		}
		tell("everything", old[i].Sum, f.Sum)
	}
	return out
}

// roles is the order in which processes are shown.
func roles() []string { return []string{"server", "egress", "runner", "children", "bus", "vault"} }

// print shows the figures as tables.
func (b *bench) print() {
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "\nname\tper second\t202 p50/p99 ms\tfinish p50/p99 ms\teffect p50/p99 ms\tµs of CPU\t%s\tload\n", strings.Join(roles(), "\t"))
	for _, f := range b.figures {
		if f.Rate == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f / %.1f\t%.2f / %.1f\t%.2f / %.1f\t%.0f", f.Name, f.Rate, f.Answer50, f.Answer99, f.Finish50, f.Finish99, f.Effect50, f.Effect99, f.Sum)
		for _, p := range append(roles(), "load") {
			fmt.Fprintf(w, "\t%.0f", f.Processor[p])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "\nname\tseconds\tMiB (PSS)\tof which")
	for _, f := range b.figures {
		if f.Rate != 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.0f\t", f.Name, f.Seconds, f.MemorySum)
		for _, p := range slices.Sorted(maps.Keys(f.Memory)) {
			fmt.Fprintf(w, "%s %.0f ", p, f.Memory[p])
		}
		fmt.Fprintln(w)
	}
}
