package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

// settings are what a caller chooses.
type settings struct {
	short   bool
	only    string // a part of the names of what is measured
	json    string // file for the figures
	seconds time.Duration
}

// Main runs the bench, or with the argument load the load process, and returns the exit
// status.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	if len(args) == 1 && args[0] == "load" {
		if err := RunLoad(in, out); err != nil {
			fmt.Fprintln(errOut, "load:", err)
			return 1
		}
		return 0
	}
	var set settings
	flags := flag.NewFlagSet("bulkhead-bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.BoolVar(&set.short, "short", false, "measure only what is compared from build to build")
	flags.StringVar(&set.only, "only", "", "measure only what has this in its name")
	flags.StringVar(&set.json, "json", "", "file to write the figures to")
	flags.DurationVar(&set.seconds, "for", 4*time.Second, "how long each run sends")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	b := &bench{set: set, out: out}
	if err := errors.Join(b.run(ctx), b.write()); err != nil {
		fmt.Fprintln(errOut, "bulkhead-bench:", err)
		return 1
	}
	return 0
}

// Figure is one line of the table.
type Figure struct {
	Name      string             `json:"name"`
	Rate      float64            `json:"per_second,omitempty"`
	Events    int                `json:"events,omitempty"`
	Answer50  float64            `json:"answer_p50_ms,omitempty"`
	Answer99  float64            `json:"answer_p99_ms,omitempty"`
	Effect50  float64            `json:"effect_p50_ms,omitempty"`
	Effect99  float64            `json:"effect_p99_ms,omitempty"`
	Finish50  float64            `json:"finish_p50_ms,omitempty"`
	Finish99  float64            `json:"finish_p99_ms,omitempty"`
	Processor map[string]float64 `json:"processor_us,omitempty"` // per execution, by process
	Memory    map[string]float64 `json:"memory_mib,omitempty"`   // by process
	MemorySum float64            `json:"memory_sum_mib,omitempty"`
	Seconds   float64            `json:"seconds,omitempty"`
}

type bench struct {
	set     settings
	out     io.Writer
	figures []Figure
}

func (b *bench) wants(name string) bool { return strings.Contains(name, b.set.only) }

func (b *bench) run(ctx context.Context) error {
	s, err := startSystem(ctx, "")
	if err != nil {
		return err
	}
	defer s.close()
	if err := b.measure(ctx, s); err != nil {
		return fmt.Errorf("%w\nthe roles said:\n%s", err, s.logged())
	}
	return nil
}

func (b *bench) measure(ctx context.Context, s *system) error {
	b.add(Figure{Name: "start", Seconds: s.started.Seconds()})
	b.add(Figure{Name: "idle", Memory: resident(s.roles.Processes())})
	order, err := s.deploy(ctx, orderFile, "one")
	if err != nil {
		return err
	}
	for _, n := range []int{1, 16, 64} {
		if err := b.rate(s, fmt.Sprintf("order-%d", n), Load{Targets: order, Connections: n, Duration: b.set.seconds, Calls: 1}); err != nil {
			return err
		}
	}
	accept, err := s.deploy(ctx, acceptFile, "one")
	if err != nil {
		return err
	}
	if err := b.rate(s, "accept-64", Load{Targets: accept, Connections: 64, Duration: b.set.seconds}); err != nil {
		return err
	}
	code, err := s.deploy(ctx, codeFile, "one")
	if err != nil {
		return err
	}
	for _, n := range []int{1, 16} {
		if err := b.rate(s, fmt.Sprintf("code-%d", n), Load{Targets: code, Connections: n, Duration: b.set.seconds, Calls: 1}); err != nil {
			return err
		}
	}
	loop, err := s.deploy(ctx, loopFile, "one")
	if err != nil {
		return err
	}
	if err := b.rate(s, "loop-10000", Load{Targets: loop, Connections: 1, Count: 1, Calls: 10_000, Extra: items(10_000)}); err != nil {
		return err
	}
	b.add(Figure{Name: "after", Memory: resident(s.roles.Processes())})
	return nil
}

// rate measures one load.
func (b *bench) rate(s *system, name string, l Load) error {
	if !b.wants(name) {
		return nil
	}
	warm := l
	warm.Count, warm.Duration = 2*l.Connections, time.Second
	if l.Count == 0 {
		if _, err := s.drive(warm); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	before := processorTime(s.roles.Processes())
	got, err := s.drive(l)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	used := processorTime(s.roles.Processes()).since(before)
	used["load"] = got.Processor
	n := float64(got.Accepted)
	f := Figure{
		Name: name, Rate: n / got.Wall, Events: got.Accepted, Seconds: got.Wall,
		Answer50: got.Answer50 / 1e3, Answer99: got.Answer99 / 1e3, Effect50: got.Effect50 / 1e3, Effect99: got.Effect99 / 1e3,
		Processor: map[string]float64{},
	}
	for p, seconds := range used {
		f.Processor[p] = seconds * 1e6 / n
	}
	b.add(f)
	return nil
}

func (b *bench) add(f Figure) {
	if f.Memory != nil {
		f.MemorySum = memory(f.Memory).sum()
	}
	b.figures = append(b.figures, f)
	j, _ := json.Marshal(f)
	fmt.Fprintln(b.out, string(j))
}

func (b *bench) write() error {
	if b.set.json == "" {
		return nil
	}
	j, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	if err := os.WriteFile(b.set.json, append(j, '\n'), 0o644); err != nil { // #nosec G306 -- figures are for everybody
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}
