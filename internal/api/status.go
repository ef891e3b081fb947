package api

import (
	"context"
	"net/http"
)

// Status says how the platform does. Counters count since the server started.
type Status struct {
	Readiness
	Pending       int          `json:"pending" doc:"Executions that were accepted and have not begun."`
	PendingBytes  int64        `json:"pending_bytes"`
	OldestPending float64      `json:"oldest_pending_seconds"`
	Running       int          `json:"running"`
	Waiting       int          `json:"waiting"`
	Runners       int          `json:"runners" doc:"That are alive."`
	Room          int          `json:"room" doc:"How many more executions they can hold."`
	Accepted      uint64       `json:"accepted"`
	Refused       uint64       `json:"refused" doc:"Because too much was pending."`
	Completed     uint64       `json:"completed"`
	Faulted       uint64       `json:"faulted"`
	Cancelled     uint64       `json:"cancelled"`
	Roles         []RoleStatus `json:"roles"`
}

// RoleStatus is how the process of one role does.
type RoleStatus struct {
	Role     string `json:"role"`
	Up       bool   `json:"up"`
	Restarts uint64 `json:"restarts"`
	Memory   uint64 `json:"memory" doc:"PSS in bytes, with its children."`
}

func (s *Server) statusRoutes() []route {
	return []route{{
		id: "get-status", method: http.MethodGet, path: "/status", permission: PermissionServerRead,
		summary: "Say how the platform does: readiness, queue, roles.", register: handle(s, s.getStatus),
	}}
}

func (s *Server) getStatus(ctx context.Context, _ *struct{}) (*answer[Status], error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if s.engine == nil {
		return nil, problemOf(CodeUnavailable, "")
	}
	x, err := s.engine.Stats(ctx)
	if err != nil {
		return nil, err
	}
	out := Status{
		Readiness: s.readiness(ctx), Pending: x.Pending, PendingBytes: x.PendingBytes, OldestPending: x.OldestPending.Seconds(),
		Running: x.Running, Waiting: x.Waiting, Runners: x.Runners, Room: x.Room, Accepted: x.Accepted, Refused: x.Refused,
		Completed: x.Completed, Faulted: x.Faulted, Cancelled: x.Cancelled, Roles: []RoleStatus{},
	}
	if s.o.Health.Roles != nil {
		for _, r := range s.o.Health.Roles() {
			out.Roles = append(out.Roles, RoleStatus(r))
		}
	}
	return &answer[Status]{out}, nil
}
