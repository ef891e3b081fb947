package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Instance is a version of an integration that is deployed to a customer.
type Instance struct {
	ID              id.Instance              `json:"id"`
	Customer        id.Customer              `json:"customer"`
	Integration     id.Integration           `json:"integration"`
	Name            string                   `json:"name" doc:"Of the integration."`
	Version         uint32                   `json:"version"`
	Digest          string                   `json:"digest"`
	PreviousVersion uint32                   `json:"previous_version,omitempty" doc:"What a roll-back returns to."`
	State           string                   `json:"state" enum:"needs_config,needs_connection,enabled,paused,failing,removing"`
	ConfigVersion   uint64                   `json:"config_version" doc:"Counts changes of the config, which nobody can read here."`
	Slots           map[string]id.Connection `json:"slots"`
	InFlightCap     uint32                   `json:"in_flight_cap" doc:"Most executions at once; 0: the default."`
	Revision        uint64                   `json:"revision" doc:"Counts changes; also the ETag."`
	Created         time.Time                `json:"created"`
	Changed         time.Time                `json:"changed"`
	Hooks           []Hook                   `json:"hooks,omitempty" doc:"Absent in lists."`
	Schedules       []Schedule               `json:"schedules,omitempty" doc:"Absent in lists."`
}

// Hook is the address of a flow's webhook.
type Hook struct {
	Flow string `json:"flow"`
	URL  string `json:"url" doc:"Whoever has it may send; what the flow verifies is checked too."`
}

// Schedule is when a flow runs by itself.
type Schedule struct {
	Flow          string       `json:"flow"`
	Kind          string       `json:"kind" enum:"schedule,poll"`
	Cron          string       `json:"cron,omitempty"`
	Timezone      string       `json:"timezone,omitempty"`
	EverySeconds  float64      `json:"every_seconds,omitempty"`
	Next          time.Time    `json:"next,omitzero"`
	Last          time.Time    `json:"last,omitzero"`
	LastExecution id.Execution `json:"last_execution,omitzero"`
}

// DeployRequest deploys a version to a customer. Config is JSON in clear, sealed to the
// vault as soon as it is read, or sealed by the client at lease.ConfigPlace of version 0 of
// the instance whose id it made.
type DeployRequest struct {
	Customer     string                   `json:"customer" doc:"Id or external id."`
	Integration  string                   `json:"integration,omitempty" doc:"Id or name; not needed with a digest."`
	Version      uint32                   `json:"version,omitempty" doc:"Default: the newest."`
	Digest       string                   `json:"digest,omitempty" doc:"SHA-256 of the definition, hex."`
	Config       json.RawMessage          `json:"config,omitempty" doc:"Config values as a JSON object."`
	SealedConfig []byte                   `json:"sealed_config,omitempty"`
	Slots        map[string]id.Connection `json:"slots,omitempty"`
	InFlightCap  uint32                   `json:"in_flight_cap,omitempty" maximum:"100000"`
	Partial      bool                     `json:"partial,omitempty" doc:"Save an instance that lacks a required config value or a connection: its state says so, and it takes no events before it has them. Sealed config is taken as complete."`
}

// InstanceChange changes what it names.
type InstanceChange struct {
	Config       json.RawMessage          `json:"config,omitempty" doc:"All config values as a JSON object."`
	SealedConfig []byte                   `json:"sealed_config,omitempty"`
	Slots        map[string]id.Connection `json:"slots,omitzero" doc:"All connections; an empty object takes them away."`
	InFlightCap  *uint32                  `json:"in_flight_cap,omitempty" maximum:"100000"`
}

// UpgradeRequest moves an instance to another version of its integration. Executions that
// have begun end on theirs.
type UpgradeRequest struct {
	Version uint32 `json:"version,omitempty" doc:"Default: the newest."`
	InstanceChange
}

// RotateRequest gives a webhook a new address.
type RotateRequest struct {
	OverlapSeconds uint32 `json:"overlap_seconds,omitempty" maximum:"2592000" doc:"How long the old address goes on working; default 0."`
}

// Rejection is a delivery that a webhook refused. Nothing of the request is kept.
type Rejection struct {
	Flow    string    `json:"flow"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Size    uint64    `json:"size"`
	Repeats uint64    `json:"repeats" doc:"More like it that followed at once."`
}

// InstancePath names an instance in a path.
type InstancePath struct {
	Instance id.Instance `path:"instance"`
}

// MatchedInstance names an instance, and the revision that it must have.
type MatchedInstance struct {
	InstancePath
	Match string `header:"If-Match" doc:"The ETag of the instance."`
}

func (s *Server) instanceRoutes() []route {
	return []route{
		{
			id: "list-instances", method: http.MethodGet, path: "/instances", permission: PermissionInstancesRead,
			summary: "List instances.", register: handle(s, s.listInstances),
		},
		{
			id: "deploy-instance", method: http.MethodPost, path: "/instances", permission: PermissionInstancesWrite,
			summary: "Deploy a version to a customer as a new instance.", body: maxConfig, register: handle(s, s.deploy),
		},
		{
			id: "get-instance", method: http.MethodGet, path: "/instances/{instance}", permission: PermissionInstancesRead,
			summary: "Get an instance. The addresses of its webhooks need the permission `hooks.read`.", register: handle(s, s.getInstance),
		},
		{
			id: "put-instance", method: http.MethodPut, path: "/instances/{instance}", permission: PermissionInstancesWrite,
			summary: "Deploy a version as the instance of an id that the client made, or change that instance.", body: maxConfig,
			register: handle(s, s.putInstance),
		},
		{
			id: "pause-instance", method: http.MethodPost, path: "/instances/{instance}/pause", permission: PermissionInstancesWrite,
			summary: "Take events and begin nothing.", register: handle(s, s.pause),
		},
		{
			id: "resume-instance", method: http.MethodPost, path: "/instances/{instance}/resume", permission: PermissionInstancesWrite,
			summary: "End a pause.", register: handle(s, s.resume),
		},
		{
			id: "get-hook", method: http.MethodGet, path: "/instances/{instance}/hooks/{flow}", permission: PermissionHooksRead,
			summary: "Show the address of a flow's webhook.", register: handle(s, s.getHook),
		},
		{
			id: "rotate-hook", method: http.MethodPost, path: "/instances/{instance}/hooks/{flow}/rotate", permission: PermissionInstancesWrite,
			summary: "Give the webhook of a flow a new address.", keep: keepSecret, register: handle(s, s.rotateHook),
		},
		{
			id: "start-execution", method: http.MethodPost, path: "/instances/{instance}/executions", permission: PermissionExecutionsRun,
			summary: "Start a flow. With a viewer the answer is a stream until the execution ends.", body: maxRequest, streams: true,
			register: handle(s, s.start),
		},
	}
}

// maxConfig bounds a deployment, in bytes.
const maxConfig = 1 << 20

func instanceOf(x *store.InstanceInfo) Instance {
	i := Instance{
		ID: x.ID, Customer: x.Customer, Integration: x.Integration, Name: x.Name, Version: x.Version, Digest: hex.EncodeToString(x.Digest[:]),
		PreviousVersion: x.Previous, State: string(x.State), ConfigVersion: x.ConfigVersion, Slots: map[string]id.Connection{},
		InFlightCap: x.InFlightCap, Revision: x.Revision, Created: x.Created, Changed: x.Changed,
	}
	for _, slot := range x.Slots {
		i.Slots[slot.Name] = slot.Connection
	}
	return i
}

func (s *Server) listInstances(ctx context.Context, in *struct {
	ListInput
	Customer    string `query:"customer" maxLength:"200" doc:"Id or external id."`
	Integration string `query:"integration" maxLength:"64" doc:"Id or name."`
	State       string `query:"state" enum:"needs_config,needs_connection,enabled,paused,failing,removing"`
},
) (*answer[Page[Instance]], error) {
	q := store.InstanceQuery{State: store.InstanceState(in.State)}
	var err error
	if q.Customer, err = s.maybeCustomer(ctx, in.Customer); err != nil {
		return nil, err
	}
	if in.Integration != "" {
		x, err := s.findIntegration(ctx, in.Integration)
		if err != nil {
			return nil, err
		}
		q.Integration = x.ID
	}
	filter := q
	return filteredPage(ctx, s, "instances", filter, &in.ListInput, func(after id.Instance, limit int) ([]store.InstanceInfo, error) {
		q.After = after
		return s.org(ctx).Instances(&q, limit)
	}, instanceOf, func(x *store.InstanceInfo) id.Instance { return x.ID })
}

// readInstance shows an instance, without what is secret of it.
func (s *Server) readInstance(ctx context.Context, i id.Instance) (*tagged[Instance], error) {
	x, err := s.org(ctx).Instance(i)
	if err != nil {
		return nil, err
	}
	return &tagged[Instance]{revision(x.Revision), instanceOf(x)}, nil
}

func (s *Server) getInstance(ctx context.Context, in *InstancePath) (*tagged[Instance], error) {
	out, err := s.readInstance(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	if err := s.addSchedules(ctx, &out.Body); err != nil {
		return nil, err
	}
	if principalOf(ctx).may(PermissionHooksRead) {
		if err := s.addHooks(ctx, &out.Body); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addHooks adds the addresses of an instance's webhooks.
func (s *Server) addHooks(ctx context.Context, x *Instance) error {
	v, err := s.org(ctx).VersionOf(x.Integration, x.Version)
	if err != nil {
		return err
	}
	i, err := flow.Decode(v.Definition)
	if err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	for n := range i.Flows {
		if i.Flows[n].Trigger.Webhook == nil {
			continue
		}
		url, err := s.engine.HookURL(ctx, x.Customer, x.ID, i.Flows[n].Name)
		switch {
		case errors.Is(err, engine.ErrNotFound): // it is not open in this state
		case err != nil:
			return err
		default:
			x.Hooks = append(x.Hooks, Hook{i.Flows[n].Name, url})
		}
	}
	return nil
}

func (s *Server) deploy(ctx context.Context, in *struct{ Body DeployRequest }) (*tagged[Instance], error) {
	if len(in.Body.SealedConfig) > 0 {
		return nil, problemOf(CodeInvalid, "", Place{"body.sealed_config", "sealed config belongs to an id: use PUT"})
	}
	c, err := s.findCustomer(ctx, in.Body.Customer)
	if err != nil {
		return nil, err
	}
	return s.deployAs(ctx, c, id.NewInstance(time.Now()), 0, &in.Body)
}

func (s *Server) putInstance(ctx context.Context, in *struct {
	MatchedInstance
	Body DeployRequest
},
) (*tagged[Instance], error) {
	c, err := s.findCustomer(ctx, in.Body.Customer)
	if err != nil {
		return nil, err
	}
	x, err := s.org(ctx).Instance(in.Instance)
	var revision uint64
	switch {
	case errors.Is(err, store.ErrNotFound):
		if err := s.free(ctx, in.Instance); err != nil {
			return nil, err
		}
		if in.Match != "" {
			return nil, problemOf(CodeChanged, "")
		}
	case err != nil:
		return nil, err
	case x.Customer != c:
		return nil, store.ErrNotFound
	default:
		if err := matches(in.Match, x.Revision, false); err != nil {
			return nil, err
		}
		revision = bound(in.Match, x.Revision)
	}
	return s.deployAs(ctx, c, in.Instance, revision, &in.Body)
}

// findVersion finds the version that a deployment names.
func (s *Server) findVersion(ctx context.Context, ref string, number uint32, digest string) (*store.VersionInfo, error) {
	rows := s.org(ctx)
	if digest != "" {
		b, err := hex.DecodeString(digest)
		if err != nil || len(b) != 32 {
			return nil, problemOf(CodeInvalid, "", Place{"body.digest", "want 64 hexadecimal characters"})
		}
		v, err := rows.VersionByDigest([32]byte(b))
		return v, sayMissing(err, noVersion)
	}
	x, err := s.findIntegration(ctx, ref)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		number = x.Newest
	}
	v, err := rows.VersionOf(x.ID, number)
	return v, sayMissing(err, noVersion)
}

// noVersion is what is told of a version that is not found.
const noVersion = "There is no such published version of the integration."

// deployAs deploys an instance that has a revision; 0: any, or none.
func (s *Server) deployAs(ctx context.Context, c id.Customer, i id.Instance, revision uint64, r *DeployRequest) (*tagged[Instance], error) {
	v, err := s.findVersion(ctx, r.Integration, r.Version, r.Digest)
	if err != nil {
		return nil, err
	}
	d := &engine.Deployment{
		Customer: c, Instance: i, Digest: v.Version.Digest, Sealed: r.SealedConfig, InFlightCap: r.InFlightCap,
		EgressPool: DefaultPool, RunnerPool: DefaultPool, Partial: r.Partial, Revision: revision,
	}
	if d.Slots, err = s.slotsOf(ctx, c, r.Slots); err != nil {
		return nil, err
	}
	if r.SealedConfig == nil {
		if d.Config, err = checkConfig(v.Definition, r.Config, r.Partial); err != nil {
			return nil, err
		}
	}
	if _, err := s.engine.Deploy(ctx, d); err != nil {
		return nil, overtaken(err)
	}
	return s.readInstance(ctx, i)
}

// slotsOf finds whose the connections of slots are: the customer's, or those of the
// organization that are shared with the customer.
func (s *Server) slotsOf(ctx context.Context, c id.Customer, slots map[string]id.Connection) ([]store.Slot, error) {
	var list []store.Slot
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		x, err := s.org(ctx).Connection(slots[name])
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, problemOf(CodeInvalid, "", Place{"body.slots." + name, "the customer has no such connection"})
		case err != nil:
			return nil, err
		case x.Customer != c && !x.Shared.With(c):
			return nil, problemOf(CodeInvalid, "", Place{"body.slots." + name, "the connection is another customer's, and not shared with this one"})
		}
		list = append(list, store.Slot{Name: name, Owner: x.Customer, Connection: x.ID})
	}
	return list, nil
}

// checkConfig checks config values in clear and adds defaults. What it says holds names and
// what was expected, never a value. Partial says that required values may be missing.
func checkConfig(definition []byte, config json.RawMessage, partial bool) ([]byte, error) {
	i, err := flow.Decode(definition)
	if err != nil {
		return nil, fmt.Errorf("read version: %w", err)
	}
	values := map[string]json.RawMessage{}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &values); err != nil || values == nil {
			return nil, problemOf(CodeInvalid, "", Place{"body.config", "want an object"})
		}
	}
	check := i.SecretConfigJSON
	if partial {
		check = i.PartialConfigJSON
	}
	b, err := check(values)
	if err != nil {
		return nil, problemOf(CodeInvalid, "", Place{"body.config", err.Error()})
	}
	return b, nil
}

func (s *Server) setState(ctx context.Context, i id.Instance, from, to store.InstanceState, match string) (*tagged[Instance], error) {
	x, err := s.org(ctx).Instance(i)
	if err != nil {
		return nil, err
	}
	if err := matches(match, x.Revision, false); err != nil {
		return nil, err
	}
	switch x.State {
	case to:
		return s.readInstance(ctx, i)
	case from, store.InstanceFailing:
	default:
		return nil, problemOf(CodeConflict, "The instance is "+string(x.State)+".")
	}
	if err := s.engine.ChangeInstanceState(ctx, x.Customer, i, to, bound(match, x.Revision)); err != nil {
		return nil, overtaken(err)
	}
	return s.readInstance(ctx, i)
}

func (s *Server) pause(ctx context.Context, in *MatchedInstance) (*tagged[Instance], error) {
	return s.setState(ctx, in.Instance, store.InstanceEnabled, store.InstancePaused, in.Match)
}

func (s *Server) resume(ctx context.Context, in *MatchedInstance) (*tagged[Instance], error) {
	return s.setState(ctx, in.Instance, store.InstancePaused, store.InstanceEnabled, in.Match)
}

// HookPath names the webhook of a flow in a path.
type HookPath struct {
	InstancePath
	Flow string `path:"flow" maxLength:"200"`
}

func (s *Server) getHook(ctx context.Context, in *HookPath) (*answer[Hook], error) {
	c, err := s.org(ctx).CustomerOfInstance(in.Instance)
	if err != nil {
		return nil, err
	}
	url, err := s.engine.HookURL(ctx, c, in.Instance, in.Flow)
	return got(Hook{in.Flow, url}, err)
}

func (s *Server) rotateHook(ctx context.Context, in *struct {
	HookPath
	Body RotateRequest
},
) (*answer[Hook], error) {
	c, err := s.org(ctx).CustomerOfInstance(in.Instance)
	if err != nil {
		return nil, err
	}
	url, err := s.engine.RotateHook(ctx, c, in.Instance, in.Flow, time.Duration(in.Body.OverlapSeconds)*time.Second)
	return got(Hook{in.Flow, url}, err)
}
