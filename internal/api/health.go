package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// probeTimeout bounds what /readyz waits for.
const probeTimeout = 2 * time.Second

// Health is what the server knows of the other parts. Absent functions are not asked.
type Health struct {
	Vault    func(context.Context) error // whether a vault answers
	Runners  func() int                  // that were seen lately
	Draining func() bool                 // the server is about to end
	Roles    func() []RoleFacts
}

// RoleFacts is what the supervisor knows of one role's process.
type RoleFacts struct {
	Role     string
	Up       bool
	Restarts uint64
	Memory   uint64 // PSS in bytes
}

// Readiness says whether the server can do its work, and what it lacks.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing,omitempty"` // database, vault, runner, draining
}

// healthz says that the process serves.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // who asked may be gone
}

// readyz says whether an event that comes now can be stored and run.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	a := s.readiness(ctx)
	w.Header().Set("Content-Type", "application/json")
	if !a.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(a) // who asked may be gone
}

func (s *Server) readiness(ctx context.Context) Readiness {
	var missing []string
	h := &s.o.Health
	if _, err := s.db.System(ctx).Organization(); err != nil {
		missing = append(missing, "database")
	}
	if h.Vault != nil && h.Vault(ctx) != nil {
		missing = append(missing, "vault")
	}
	if h.Runners != nil && h.Runners() == 0 {
		missing = append(missing, "runner")
	}
	if h.Draining != nil && h.Draining() {
		missing = append(missing, "draining")
	}
	return Readiness{Ready: len(missing) == 0, Missing: missing}
}
