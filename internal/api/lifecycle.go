package api

import (
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// maxRejections is how many rejections of an instance are listed.
const maxRejections = 200

func (s *Server) lifecycleRoutes() []route {
	return []route{
		{
			id: "change-instance", method: http.MethodPatch, path: "/instances/{instance}", permission: PermissionInstancesWrite,
			summary: "Change what is named of an instance.", body: maxConfig, register: handle(s, s.changeInstance),
		},
		{
			id: "upgrade-instance", method: http.MethodPost, path: "/instances/{instance}/upgrade", permission: PermissionInstancesWrite,
			summary: "Move an instance to another version. What has begun ends on its own.", body: maxConfig, register: handle(s, s.upgrade),
		},
		{
			id: "rollback-instance", method: http.MethodPost, path: "/instances/{instance}/rollback", permission: PermissionInstancesWrite,
			summary: "Move an instance back to the version that it had before.", register: handle(s, s.rollBack),
		},
		{
			id: "remove-instance", method: http.MethodDelete, path: "/instances/{instance}", permission: PermissionInstancesWrite,
			summary: "Remove an instance, with its config and its state.", register: handle(s, s.removeInstance),
		},
		{
			id: "list-rejections", method: http.MethodGet, path: "/instances/{instance}/rejections", permission: PermissionExecutionsRead,
			summary: "List what the webhooks of an instance refused lately, the newest first.", register: handle(s, s.rejections),
		},
	}
}

// matched reads an instance that a request is about, and the revision that it must keep
// until it is changed: 0 when the request names none.
func (s *Server) matched(ctx context.Context, in *MatchedInstance) (*store.InstanceInfo, uint64, error) {
	x, err := s.org(ctx).Instance(in.Instance)
	if err != nil {
		return nil, 0, err
	}
	if in.Match == "" || in.Match == "*" {
		return x, 0, nil
	}
	return x, x.Revision, matches(in.Match, x.Revision, false)
}

func (s *Server) changeInstance(ctx context.Context, in *struct {
	MatchedInstance
	Body InstanceChange
},
) (*tagged[Instance], error) {
	x, revision, err := s.matched(ctx, &in.MatchedInstance)
	if err != nil {
		return nil, err
	}
	v, err := s.org(ctx).VersionOf(x.Integration, x.Version)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, x, v, revision, &in.Body)
}

func (s *Server) upgrade(ctx context.Context, in *struct {
	MatchedInstance
	Body UpgradeRequest
},
) (*tagged[Instance], error) {
	x, revision, err := s.matched(ctx, &in.MatchedInstance)
	if err != nil {
		return nil, err
	}
	v, err := s.findVersion(ctx, x.Integration.String(), in.Body.Version, "")
	if err != nil {
		return nil, err
	}
	return s.change(ctx, x, v, revision, &in.Body.InstanceChange)
}

// change gives an instance a version and what a request names beside it.
func (s *Server) change(ctx context.Context, x *store.InstanceInfo, v *store.VersionInfo, revision uint64, r *InstanceChange) (*tagged[Instance], error) {
	c := &engine.Change{
		Customer: x.Customer, Instance: x.ID, Revision: revision, Digest: v.Version.Digest, Sealed: r.SealedConfig,
		InFlightCap: r.InFlightCap, Reconnect: r.Slots != nil,
	}
	var err error
	switch {
	case r.Config != nil && r.SealedConfig != nil:
		return nil, problemOf(CodeInvalid, "", Place{"body.sealed_config", "config is given twice"})
	case r.Config != nil:
		if c.Config, err = checkConfig(v.Definition, r.Config, false); err != nil {
			return nil, err
		}
	}
	if c.Slots, err = s.slotsOf(ctx, x.Customer, r.Slots); err != nil {
		return nil, err
	}
	if _, err := s.engine.Change(ctx, c); err != nil {
		return nil, err
	}
	return s.readInstance(ctx, x.ID)
}

func (s *Server) rollBack(ctx context.Context, in *MatchedInstance) (*tagged[Instance], error) {
	x, revision, err := s.matched(ctx, in)
	if err != nil {
		return nil, err
	}
	if _, err := s.engine.RollBack(ctx, x.Customer, x.ID, revision); err != nil {
		return nil, err
	}
	return s.readInstance(ctx, x.ID)
}

// removeInstance begins the removal of an instance. One that is being removed already is.
func (s *Server) removeInstance(ctx context.Context, in *MatchedInstance) (*none, error) {
	x, revision, err := s.matched(ctx, in)
	if err != nil || x.State == store.InstanceRemoving {
		return &none{}, err
	}
	return &none{}, s.engine.Remove(ctx, x.Customer, x.ID, revision)
}

func (s *Server) rejections(ctx context.Context, in *InstancePath) (*answer[Page[Rejection]], error) {
	c, err := s.org(ctx).CustomerOfInstance(in.Instance)
	if err != nil {
		return nil, err
	}
	list, err := s.db.Customer(ctx, c).InstanceRejections(in.Instance, maxRejections)
	if err != nil {
		return nil, err
	}
	p := Page[Rejection]{Items: []Rejection{}}
	for n := range list {
		x := &list[n]
		p.Items = append(p.Items, Rejection{Flow: x.Flow, At: x.At, Reason: x.Reason, Size: uint64(max(0, x.Size)), Repeats: x.Repeats})
	}
	return &answer[Page[Rejection]]{p}, nil
}

// addSchedules adds when the flows of an instance start by themselves.
func (s *Server) addSchedules(ctx context.Context, x *Instance) error {
	list, err := s.db.Customer(ctx, x.Customer).Schedules(x.ID)
	if err != nil {
		return err
	}
	for _, row := range list {
		if row.Kind == store.KindDeploy {
			continue
		}
		v := Schedule{
			Flow: row.Flow, Kind: row.Kind, Cron: row.Cron, Timezone: row.Timezone, EverySeconds: row.Every.Seconds(),
			Last: row.LastRun, LastExecution: row.LastExecution,
		}
		if row.Plan == store.Planned {
			v.Next = row.NextRun
		}
		x.Schedules = append(x.Schedules, v)
	}
	return nil
}
