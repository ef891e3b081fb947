package role

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/registry"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/trigger"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// runServer faces the outside: it accepts, schedules and journals. It keeps its own
// directory, its listeners and the bus.
func runServer(ctx context.Context, p *process) error {
	// One processor more than there are: with a steady monitor, the goroutine that waits for
	// the disk keeps the one it has.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	state := &serverState{tls: newCertificate()}
	p.told = state.hear
	if err := p.begin(); err != nil {
		return err
	}
	dir := p.set["dir"]
	db, err := openDatabase(ctx, p)
	if err != nil {
		return err
	}
	defer db.Close()
	blobDir := filepath.Join(dir, "blobs")
	if err := os.MkdirAll(blobDir, 0o700); err != nil {
		return fmt.Errorf("make directory of blobs: %w", err)
	}
	blobs, err := blob.Open(blobDir)
	if err != nil {
		return err
	}
	defer blobs.Close()
	vaults := p.nodes(wire.RoleVault)
	if len(vaults) == 0 {
		return errors.New("no vault among the peers")
	}
	secured, err := p.certified(&state.tls)
	if err != nil {
		return err
	}
	public, private, err := listeners(p.set)
	if err != nil {
		return err
	}
	metadata, err := time.ParseDuration(p.set["metadata"])
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	link := &link{sign: p.sign, authority: p.start.Authority}
	asks := newProviders(p, link, db)
	e, err := engine.New(ctx, engine.Options{
		Node: p.start.Node, Sign: p.sign, Key: p.seal, Store: db, Blobs: blobs, Link: link, Vault: link,
		Refresher: asks, Replacer: asks, Live: p.peer,
		VaultKey: vaults[0].Seal, CallbackBase: p.set["url"] + "/callbacks/",
		HookBase: p.set["url"] + trigger.Path, Log: p.log, Metadata: metadata,
	})
	if err != nil {
		return err
	}
	asks.e = e
	if link.Conn, err = p.connect(ctx, wire.RoleServer, p.serverHandler(ctx, e), e.Lost); err != nil {
		return err
	}
	defer link.Close()
	p.onPeers(p.serverPeers(e))
	org, err := first(ctx, p, e, db)
	if err != nil {
		return err
	}
	dialled, err := serverPorts(p)
	if err != nil {
		return err
	}
	profile := jail.Role(jail.RoleConfig{
		Name: "server", Connect: dialled, Unix: true, ReadWrite: []string{dir},
		ReadOnly: []string{"?/etc/hosts", "?/etc/resolv.conf", "?/etc/nsswitch.conf"},
	})
	if err := p.ready(profile, &wire.Ready{Address: public.Addr().String()}); err != nil {
		return err
	}
	var clock *trigger.Clock
	if p.set["temporary"] != "yes" { // a flow that is run or tested by hand starts nothing beside it
		clock = trigger.NewClock(e, db, p.log)
	}
	joined := connect.New(connect.Options{
		Engine: e, Store: db, Manifests: registry.New(db), Providers: asks, BaseURL: p.set["url"], Pool: api.DefaultPool, Log: p.log,
	})
	return p.until(ctx, func(ctx context.Context) error {
		defer watch(ctx, joined, clock != nil)()
		return serve(ctx, api.New(api.Options{
			Engine: e, Store: db, Org: org, Connect: joined, Hooks: trigger.NewDoor(trigger.Options{
				Engine: e, Vault: link, Store: db, Log: p.log, Base: p.set["url"], Org: org, Manifests: registry.New(db), Accounts: asks,
			}), Log: p.log,
			Health: p.facts(state), Trust: p.trust,
		}), e, clock, state, secured, p.log, public, private)
	})
}

// serverPorts are the ports that a server connects to: those of the bus and the database.
func serverPorts(p *process) ([]uint16, error) {
	busPort, err := port(p.start.Bus)
	if err != nil {
		return nil, fmt.Errorf("read address of bus: %w", err)
	}
	if p.set["database"] == "" {
		return []uint16{busPort}, nil
	}
	ports, err := store.Ports(p.set["database"])
	return append(ports, busPort), err
}

// openDatabase opens the database of the settings: PostgreSQL by its URL, or SQLite in
// the server's own directory.
func openDatabase(ctx context.Context, p *process) (*store.Store, error) {
	o := store.Options{Dir: p.set["dir"], URL: p.set["database"], Log: p.log}
	if o.URL != "" {
		o.Dir = ""
	}
	if p.set["temporary"] == "yes" {
		o.Durability = store.Temporary
	}
	return store.Open(ctx, o)
}

// first finds the organization of this installation. A service that starts for the first
// time makes its first token too; a temporary session needs none.
func first(ctx context.Context, p *process, e *engine.Engine, db *store.Store) (id.Org, error) {
	if p.set["temporary"] == "yes" {
		return api.Organization(ctx, e, db, time.Now())
	}
	return api.FirstStart(ctx, e, db, p.set["dir"], time.Now())
}

// listeners takes the socket for the outside and opens the one for this machine.
func listeners(s settings) (public, private net.Listener, err error) {
	if public, err = inheritPublic(); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(s["api"]); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("remove old socket: %w", err)
	}
	if private, err = net.Listen("unix", s["api"]); err != nil {
		return nil, nil, fmt.Errorf("listen for the API: %w", err)
	}
	if err := os.Chmod(s["api"], 0o600); err != nil {
		return nil, nil, fmt.Errorf("protect the API's socket: %w", err)
	}
	return public, private, nil
}

// serve runs the engine, the clock and both HTTP servers until the context ends, and what was asked before is answered. With a
// TLS configuration the one for the outside speaks nothing else.
func serve(
	ctx context.Context, s *api.Server, e *engine.Engine, c *trigger.Clock, state *serverState, secured *tls.Config, log *slog.Logger, public, private net.Listener,
) error {
	outside := outsideServer(state.gate(s.Public()), secured, log)
	inside := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() { _ = serveOutside(outside, crowd(public, maxConnections)) }() // both end with answerLast
	go func() { _ = inside.Serve(private) }()
	working, end := context.WithCancel(context.WithoutCancel(ctx)) // what is accepted last is committed by the engine
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(working) }()
	times, stop := context.WithCancel(ctx)
	var clock sync.WaitGroup
	if c != nil {
		clock.Go(func() { _ = c.Run(times) }) // ends with its context
	}
	var err error
	select {
	case err = <-ended: // by itself
	case <-ctx.Done():
	}
	stop()
	clock.Wait()
	state.draining.Store(true)
	e.EndWatches()
	closed := answerLast(log, outside, inside)
	end()
	if err == nil && ctx.Err() != nil {
		err = <-ended
	}
	return errors.Join(err, leave(e), closed)
}

// watch watches connections until what it returns is called; not in a temporary session.
func watch(ctx context.Context, s *connect.Service, lasting bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var job sync.WaitGroup
	if lasting {
		job.Go(func() { s.Run(ctx) })
	}
	return func() {
		cancel()
		job.Wait()
	}
}

// leaveTime bounds how long a server that ends tries to give up its shards.
const leaveTime = 2 * time.Second

// leave gives up the shards of a server that ends, so that others need not wait for it.
func leave(e *engine.Engine) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	return e.Leave(ctx)
}

// maxAsks is how many questions of runners are answered at a time; more are refused.
const maxAsks = 256

// serverHandler passes frames on to the engine, with the role that a topic is for.
func (p *process) serverHandler(ctx context.Context, e *engine.Engine) bus.Handler {
	roles := map[wire.Topic]wire.Role{wire.TopicWork: wire.RoleRunner, wire.TopicFlow: wire.RoleEgress, wire.TopicBlob: wire.RoleEgress}
	asks := make(chan struct{}, maxAsks)
	return func(from id.Node, topic wire.Topic, f wire.Frame, answer func(wire.Typed)) {
		if topic == wire.TopicAsk && answer != nil {
			select {
			case asks <- struct{}{}:
				go func() {
					answer(definition(ctx, e, f))
					<-asks
				}()
			default:
				answer(&wire.Error{Code: "busy", Message: "the server is busy"})
			}
			return
		}
		if err := e.Handle(ctx, roles[topic], from, f); err != nil {
			p.log.Error("frame dropped", "from", from.String(), "err", err)
		}
	}
}

func definition(ctx context.Context, e *engine.Engine, f wire.Frame) wire.Typed {
	var m wire.DefinitionGet
	if err := f.Parse(&m); err != nil {
		return &wire.Error{Code: "malformed"}
	}
	b, err := e.Definition(ctx, m.Digest)
	if err != nil {
		return &wire.Error{Code: "not-found"}
	}
	return &wire.Definition{Digest: m.Digest, JSON: b}
}
