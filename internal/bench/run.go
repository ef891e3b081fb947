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
	"path/filepath"
	"strings"
	"time"
)

// settings are what a caller chooses.
type settings struct {
	short    bool
	only     string // parts of the names of what is measured, with commas between
	json     string // file for the figures
	compare  string // file with figures to compare with
	binary   string // the released program, for what it alone can show
	seconds  time.Duration
	repeat   int
	postgres bool
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
	flags.StringVar(&set.only, "only", "", "measure only what has one of these, with commas between, in its name")
	flags.StringVar(&set.json, "json", "", "file to write the figures to")
	flags.StringVar(&set.compare, "compare", "", "file with figures: warn of processor time that grew by more than a fifth")
	flags.StringVar(&set.binary, "binary", "", "the released program: measure its start, its memory at rest and one run")
	flags.DurationVar(&set.seconds, "for", 4*time.Second, "how long each run sends")
	flags.IntVar(&set.repeat, "repeat", 1, "runs of each; the best is kept")
	flags.BoolVar(&set.postgres, "postgres", false, "measure on PostgreSQL too, when it is installed")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	b := &bench{set: set, out: out}
	err := b.run(ctx)
	b.print()
	if err := errors.Join(err, b.write(), b.compare()); err != nil {
		fmt.Fprintln(errOut, "bulkhead-bench:", err)
		return 1
	}
	return 0
}

// Figure is what one measurement gave. Latencies are in milliseconds.
type Figure struct {
	Name      string             `json:"name"`
	Rate      float64            `json:"per_second,omitempty"` // executions, from the first request to the last effect
	Events    int                `json:"events,omitempty"`
	Refused   int                `json:"refused,omitempty"`
	Answer50  float64            `json:"answer_p50_ms,omitempty"` // from the request to its 202
	Answer99  float64            `json:"answer_p99_ms,omitempty"`
	Effect50  float64            `json:"effect_p50_ms,omitempty"` // from the request to the call of the upstream
	Effect99  float64            `json:"effect_p99_ms,omitempty"`
	Finish50  float64            `json:"finish_p50_ms,omitempty"` // from accepted to finished, as the rows say
	Finish99  float64            `json:"finish_p99_ms,omitempty"`
	Processor map[string]float64 `json:"processor_us,omitempty"`     // per execution, by process
	Sum       float64            `json:"processor_sum_us,omitempty"` // without the load
	Unit      float64            `json:"unit_us,omitempty"`          // what a fixed piece of work took meanwhile
	Memory    map[string]float64 `json:"memory_mib,omitempty"`       // by process
	MemorySum float64            `json:"memory_sum_mib,omitempty"`
	Seconds   float64            `json:"seconds,omitempty"`
}

type bench struct {
	set     settings
	out     io.Writer
	prefix  string // of names
	figures []Figure
}

func (b *bench) wants(name string) bool {
	for part := range strings.SplitSeq(b.set.only, ",") {
		if strings.Contains(b.prefix+name, part) {
			return true
		}
	}
	return false
}

func (b *bench) run(ctx context.Context) error {
	if b.set.binary != "" {
		if err := b.released(ctx); err != nil {
			return err
		}
	}
	if err := b.on(ctx, "", "", b.sqlite); err != nil {
		return err
	}
	if !b.set.postgres || b.set.short {
		return nil
	}
	database, stop, err := startPostgres()
	if err != nil {
		fmt.Fprintln(b.out, "not measured on PostgreSQL:", err)
		return nil
	}
	return errors.Join(b.on(ctx, "postgres ", database, b.core), stop())
}

// on measures a new system.
func (b *bench) on(ctx context.Context, prefix, database string, measure func(context.Context, *system) error) error {
	b.prefix = prefix
	s, err := startSystem(ctx, database)
	if err != nil {
		return err
	}
	defer s.close()
	if err := measure(ctx, s); err != nil {
		return fmt.Errorf("%w\nthe roles said:\n%s", err, s.logged())
	}
	return nil
}

// sqlite is everything.
func (b *bench) sqlite(ctx context.Context, s *system) error {
	if err := b.core(ctx, s); err != nil || b.set.short {
		return err
	}
	if b.wants("loop-10000") {
		loop, err := s.deploy(ctx, loopFile, "one")
		if err != nil {
			return err
		}
		if err := b.rate(ctx, s, "loop-10000", Load{Targets: loop, Connections: 1, Count: 1, Calls: 10_000, Extra: items(10_000)}); err != nil {
			return err
		}
	}
	for _, n := range []int{100, 1000} {
		if err := b.customers(ctx, s, n); err != nil {
			return err
		}
	}
	return nil
}

// core is what is measured on every database.
func (b *bench) core(ctx context.Context, s *system) error {
	order, err := s.deploy(ctx, orderFile, "one")
	if err != nil {
		return err
	}
	connections := []int{1, 16, 64}
	if b.set.short {
		connections = []int{16}
	}
	for _, n := range connections {
		if err := b.rate(ctx, s, fmt.Sprintf("order-%d", n), Load{Targets: order, Connections: n, Duration: b.set.seconds, Calls: 1}); err != nil {
			return err
		}
	}
	if b.wants("memory") && !b.set.short {
		if err := b.underLoad(s, Load{Targets: order, Connections: 64, Duration: b.set.seconds, Calls: 1}); err != nil {
			return err
		}
	}
	if b.wants("accept-64") && !b.set.short {
		accept, err := s.deploy(ctx, acceptFile, "one")
		if err != nil {
			return err
		}
		if err := b.rate(ctx, s, "accept-64", Load{Targets: accept, Connections: 64, Duration: b.set.seconds}); err != nil {
			return err
		}
	}
	if !b.wants("code-") {
		return nil
	}
	code, err := s.deploy(ctx, codeFile, "one")
	if err != nil {
		return err
	}
	count := 500 // there is no bound but time to what is accepted ahead
	if b.set.short {
		count = 200
	}
	for _, n := range []int{1, 16} {
		if b.set.short && n == 1 {
			continue
		}
		if err := b.rate(ctx, s, fmt.Sprintf("code-%d", n), Load{Targets: code, Connections: n, Count: count, Calls: 1}); err != nil {
			return err
		}
	}
	return nil
}

// customers measures many customers: the first execution of each, for which a worker must
// be bound, and then more.
func (b *bench) customers(ctx context.Context, s *system, n int) error {
	name := fmt.Sprintf("customers-%d", n)
	if !b.wants(name) {
		return nil
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", name, i)
	}
	targets, err := s.deploy(ctx, orderFile, names...)
	if err != nil {
		return err
	}
	if err := b.once(ctx, s, name+" cold", Load{Targets: targets, Connections: 64, Count: n, Calls: 1}); err != nil {
		return err
	}
	return b.rate(ctx, s, name+" warm", Load{Targets: targets, Connections: 64, Count: max(4*n, 2000), Calls: 1})
}

// underLoad is the most memory while a load runs.
func (b *bench) underLoad(s *system, l Load) error {
	ended := make(chan error, 1)
	go func() {
		_, err := s.drive(l)
		ended <- err
	}()
	most := memory{}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			b.add(Figure{Name: "memory under load", Memory: most})
			return err
		case <-tick.C:
			if now := resident(s.roles.Processes()); now.sum() > most.sum() {
				most = now
			}
		}
	}
}

// rate measures one load as often as is wanted, after a few events to warm up, and keeps the
// best run.
func (b *bench) rate(ctx context.Context, s *system, name string, l Load) error {
	if !b.wants(name) {
		return nil
	}
	warm := l
	warm.Count = min(2*l.Connections, 16)
	if l.Calls <= 1 {
		if _, err := s.drive(warm); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.once(ctx, s, name, l)
}

// once measures one load without warming up.
func (b *bench) once(ctx context.Context, s *system, name string, l Load) error {
	var best Figure
	for i := range max(b.set.repeat, 1) {
		f, err := b.one(ctx, s, name, l)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if i == 0 || f.Rate > best.Rate {
			best = f
		}
		if strings.HasSuffix(name, "cold") {
			break
		}
	}
	b.add(best)
	return nil
}

func (b *bench) one(ctx context.Context, s *system, name string, l Load) (Figure, error) {
	began, unit := time.Now(), work()
	before := processorTime(s.roles.Processes())
	got, err := s.drive(l)
	if err != nil {
		return Figure{}, err
	}
	took, err := s.rows.finished(ctx, began)
	if err != nil {
		return Figure{}, err
	}
	used := processorTime(s.roles.Processes()).since(before)
	if len(took) != got.Accepted {
		return Figure{}, fmt.Errorf("%d events were accepted and %d executions finished", got.Accepted, len(took))
	}
	n := float64(got.Accepted)
	f := Figure{
		Name: name, Rate: n / got.Wall, Events: got.Accepted, Refused: got.Refused, Seconds: got.Wall,
		Answer50: got.Answer50 / 1e3, Answer99: got.Answer99 / 1e3, Effect50: got.Effect50 / 1e3, Effect99: got.Effect99 / 1e3,
		Finish50: quantile(took, 0.5) / 1e3, Finish99: quantile(took, 0.99) / 1e3,
		Processor: map[string]float64{"load": got.Processor * 1e6 / n}, Unit: (unit + work()) / 2,
	}
	for p, seconds := range used {
		f.Processor[p] = seconds * 1e6 / n
		f.Sum += f.Processor[p]
	}
	return f, nil
}

func (b *bench) add(f Figure) {
	f.Name = b.prefix + f.Name
	if f.Memory != nil {
		f.MemorySum = memory(f.Memory).sum()
	}
	b.figures = append(b.figures, f)
	fmt.Fprintf(b.out, "measured: %s\n", f.Name)
}

func (b *bench) write() error {
	if b.set.json == "" {
		return nil
	}
	j, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(b.set.json), 0o750); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	if err := os.WriteFile(b.set.json, append(j, '\n'), 0o644); err != nil { // #nosec G306 -- figures are for everybody
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}
