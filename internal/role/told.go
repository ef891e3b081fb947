package role

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// serverState is what the supervisor tells the server while it runs. It is safe for
// concurrent use.
type serverState struct {
	health   atomic.Pointer[wire.Health]
	draining atomic.Bool
	tls      certificate
}

// hear takes the frames for the server.
func (s *serverState) hear(f wire.Frame) error {
	switch f.Type {
	case wire.TypeHealth:
		var m wire.Health
		if err := f.Parse(&m); err != nil {
			return err
		}
		s.health.Store(&m)
	case wire.TypeDrain:
		s.draining.Store(true)
	case wire.TypeCertificate:
		var m wire.Certificate
		if err := f.Parse(&m); err != nil {
			return err
		}
		return s.tls.take(&m)
	default:
		return wire.ErrMalformed
	}
	return nil
}

// Health is how every role does, as the supervisor told last; nil before the first time.
func (s *serverState) Health() *wire.Health { return s.health.Load() }

// facts are what the API tells of the other roles.
func (p *process) facts(s *serverState) api.Health {
	return api.Health{
		Vault: func(context.Context) error {
			if len(p.nodes(wire.RoleVault)) == 0 {
				return ErrSealed
			}
			return nil
		},
		Runners:  func() int { return len(p.nodes(wire.RoleRunner)) },
		Draining: s.Draining,
		Roles: func() []api.RoleFacts {
			h := s.Health()
			if h == nil {
				return nil
			}
			out := make([]api.RoleFacts, len(h.Roles))
			for i, r := range h.Roles {
				out[i] = api.RoleFacts{Role: r.Name, Up: r.State == seatUp, Restarts: r.Restarts, Memory: r.Memory}
			}
			return out
		},
	}
}

// Draining reports whether the server is about to be stopped: it takes nothing new.
func (s *serverState) Draining() bool { return s.draining.Load() }

// drainSeconds is after how long a request that is refused while draining may be made again.
const drainSeconds = "5"

// gate refuses what changes something while the server drains. Who asks how it does is
// still answered.
func (s *serverState) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Draining() && r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Retry-After", drainSeconds)
			w.Header().Set("Connection", "close")
			http.Error(w, "this server is being stopped: try again in a moment", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}
