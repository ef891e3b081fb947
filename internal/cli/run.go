package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// now is the time at which things are made here.
func now() time.Time { return time.Now() }

type runCommand struct {
	File             string            `arg:"" help:"Integration file."`
	Flow             string            `help:"Flow to run; not needed when there is one."`
	Input            string            `short:"i" help:"File with the trigger's body as JSON; - is standard input. Without it, a webhook flow waits for one request."`
	Config           map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A config value."`
	Connection       map[string]string `mapsep:"none" placeholder:"SLOT=URL" help:"Base URL of a connection."`
	ConnectionSecret map[string]string `mapsep:"none" placeholder:"SLOT=TYPE:env:NAME" help:"Its credential, from the environment: bearer, basic, header:X-Api-Key or query:key."`
	AllowNet         []string          `sep:"," placeholder:"RANGE" help:"Special address ranges that may be called, such as 127.0.0.0/8."`
	Explain          bool              `help:"Show what every step got."`
	JSON             bool              `name:"json" help:"Print events as JSON lines on standard error."`
	RequireFull      bool              `help:"Refuse to start when this host lacks an added wall."`
	Verbose          bool              `short:"v" help:"Show what the roles log."`
}

// Run implements the command.
func (r *runCommand) Run(c *console) error {
	doc, err := load(c, r.File)
	if err != nil {
		return err
	}
	i := doc.Integration
	f, err := pickFlow(i, r.Flow)
	if err != nil {
		return err
	}
	if err := runnable(i, f.Name); err != nil {
		return err
	}
	config, err := configJSON(i, r.Config)
	if err != nil {
		return err
	}
	connections, err := readConnections(i, r.Connection, r.ConnectionSecret)
	if err != nil {
		return err
	}
	nets, err := readNets(r.AllowNet)
	if err != nil {
		return err
	}
	var body []byte
	if r.Input != "" {
		if body, err = readInput(c, r.Input); err != nil {
			return err
		}
	}
	s, err := startSession(c.ctx, sessionConfig{AllowNet: nets, Verbose: r.Verbose, Full: r.RequireFull})
	if err != nil {
		return err
	}
	defer s.close()
	s.warn(c)
	instance, err := s.deploy(c.ctx, i, config, connections)
	if err != nil {
		return err
	}
	p := &progress{c: c, paint: paint(terminal(c.Err)), json: r.JSON, explain: r.Explain}
	if f.Trigger.Kind() == flow.TriggerWebhook && r.Input == "" {
		return s.serveOne(c, instance, f, p)
	}
	return s.runOnce(c.ctx, instance, f, newEvent(f, body), p)
}

// pickFlow finds the flow that was named, or the only one that is not a sub-flow.
func pickFlow(i *flow.Integration, name string) (*flow.Flow, error) {
	var names []string
	var only *flow.Flow
	for n := range i.Flows {
		f := &i.Flows[n]
		if f.Name == name {
			return f, nil
		}
		if f.Trigger.Kind() != flow.TriggerCall {
			names = append(names, f.Name)
			only = f
		}
	}
	switch {
	case name != "":
		return nil, usage("there is no flow %s; the file has %s", name, strings.Join(names, ", "))
	case len(names) != 1:
		return nil, usage("name the flow with --flow: the file has %s", strings.Join(names, ", "))
	default:
		return only, nil
	}
}

// runnable refuses what validates but does not run yet, as far as the flow needs it. What
// only the wizard would show does not matter here: values are given by hand.
func runnable(i *flow.Integration, name string) error {
	for _, n := range i.NotYet() {
		if strings.HasPrefix(n.Path, "connections.") || strings.HasPrefix(n.Path, "flows."+name+".") {
			return usage("%s: %s", n.Path, n.What)
		}
	}
	return nil
}

func configJSON(i *flow.Integration, texts map[string]string) ([]byte, error) {
	values := map[string]json.RawMessage{}
	for name, text := range texts {
		v := i.ConfigVar(name)
		if v == nil {
			values[name] = nil // reported with all the others
			continue
		}
		if variable, ok := strings.CutPrefix(text, "env:"); ok && v.Type == flow.ConfigSecret {
			if text, ok = os.LookupEnv(variable); !ok {
				return nil, usage("--config %s: the environment variable %s is not set", name, variable)
			}
		}
		value, err := v.ParseConfigText(text)
		if err != nil {
			return nil, usage("%w", err)
		}
		values[name] = value
	}
	b, err := i.SecretConfigJSON(values)
	if err != nil {
		return nil, usage("%s (give values with --config NAME=VALUE)", strings.ReplaceAll(err.Error(), "\n", "\n          "))
	}
	return b, nil
}

func readNets(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, usage("--allow-net %s: want a range such as 127.0.0.0/8", t)
		}
		out = append(out, p)
	}
	return out, nil
}

// readInput reads a trigger's body, which must be JSON.
func readInput(c *console, name string) ([]byte, error) {
	var b []byte
	var err error
	if name == "-" {
		b, err = readAll(c.In, "standard input", maxInput)
	} else {
		b, err = readFile(name, maxInput)
	}
	if err != nil {
		return nil, err
	}
	if _, err := expr.ParseJSON(b); err != nil {
		return nil, usage("%s: %w", name, err)
	}
	return b, nil
}

// newEvent is what the flow sees as trigger.
func newEvent(f *flow.Flow, body []byte) map[string]any {
	e := map[string]any{
		"time": now().UTC().Format(time.RFC3339Nano), "source": "bulkhead run", "type": string(f.Trigger.Kind()),
		"customer": map[string]any{"external_id": "local", "name": "This machine", "timezone": "UTC", "locale": "en", "attributes": map[string]any{}},
	}
	if len(bytes.TrimSpace(body)) > 0 {
		e["body"] = json.RawMessage(body)
	}
	if f.Trigger.Kind() == flow.TriggerWebhook {
		e["method"], e["headers"], e["headers_all"], e["query"] = "POST", map[string]any{}, map[string]any{}, map[string]any{}
	}
	return e
}

// runOnce runs one execution to its end, shows how it goes, and prints its output.
func (s *session) runOnce(ctx context.Context, instance id.Instance, f *flow.Flow, event map[string]any, p *progress) error {
	x, err := s.begin(ctx, instance, f, event)
	if err != nil {
		return err
	}
	defer x.Close()
	return p.follow(ctx, s, x, nil)
}

// begin starts an execution with a viewer.
func (s *session) begin(ctx context.Context, instance id.Instance, f *flow.Flow, event map[string]any) (*stream, error) {
	customer := event["customer"].(map[string]any)
	customer["id"] = s.customer
	b, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("make event: %w", err)
	}
	x, err := s.Start(ctx, instance, api.ExecutionRequest{Flow: f.Name, Event: b, Test: true})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", f.Name, err)
	}
	return x, nil
}

// nextPage waits as next does, and opens the page of the event, if it has one.
func (s *session) nextPage(ctx context.Context, x *stream) (*api.Event, []byte, error) {
	e, err := s.next(ctx, x)
	if err != nil || len(e.Sealed) == 0 {
		return e, nil, err
	}
	page, err := x.Open(e)
	return e, page, err
}

func (s *session) callbacks() *regexp.Regexp { return callbackPattern(s) }

// next waits for the next event of an execution, a role that ends, or an interrupt.
func (s *session) next(ctx context.Context, x *stream) (*api.Event, error) {
	type result struct {
		e   *api.Event
		err error
	}
	got := make(chan result, 1)
	go func() {
		e, err := x.Next()
		got <- result{e, err}
	}()
	select {
	case r := <-got:
		if errors.Is(r.err, io.EOF) {
			return nil, errors.New("the server ended before the execution did")
		}
		return r.e, r.err
	case name := <-s.supervisor.Ended():
		return nil, fmt.Errorf("the role %s has ended: run again with --verbose to see why", name)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
