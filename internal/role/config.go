package role

import (
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// RootSource gives the root secret each time that a vault starts: from a file, a
// passphrase or a variable (vault.LoadRoot), or from memory. The supervisor destroys
// what it gets once the vault has it. [ErrSealed] means that a person must give it.
type RootSource func() (secret.Value, error)

// DefaultDrain is how long running executions get to finish when the supervisor stops.
const DefaultDrain = 20 * time.Second

// Config is what the supervisor starts.
type Config struct {
	// State is the directory of everything that is kept; each role gets its own part.
	State string
	// Temporary says that the directory is deleted at the end: nothing needs to survive a
	// loss of power, and a role that ends by itself is not restarted.
	Temporary bool
	// Root is where the root secret comes from.
	Root RootSource
	// Unseal makes the root secret of what a person gives, after Root said [ErrSealed]. Nil:
	// nothing can be given.
	Unseal func(secret.Value) (secret.Value, error)
	// Database is the URL of a PostgreSQL database. Empty: SQLite in the state directory.
	// Only the server role gets it.
	Database string
	// Listen is where webhooks and callbacks are served, as host:port; port 0 picks one. The
	// supervisor keeps the socket, so that nobody is refused while a server is restarted.
	Listen string
	// Certificate and CertificateKey are PEM files with which the address speaks TLS 1.2 or
	// later; both or neither. They are read whenever a server starts and by
	// [Supervisor.Renew]: the server itself sees no file.
	Certificate, CertificateKey string
	// Proxied says that what reaches the address comes from a proxy that ends TLS for it. Without
	// it, and without a certificate, only a loopback address is served.
	Proxied bool
	// PublicURL begins the addresses of webhooks and callbacks, for instance
	// https://hooks.example.com. Empty: where the server listens.
	PublicURL string
	// AllowNet are special address ranges that egress may reach.
	AllowNet []netip.Prefix
	// Full refuses to start when a layer that the host could offer is missing.
	Full bool
	// Dev serves this machine only, and marks the state directory as one that production
	// refuses.
	Dev bool
	// Drain is how long running executions get to finish when the supervisor stops. 0: they
	// are given back at once, to be continued at the next start.
	Drain time.Duration
	// Metadata is how long the metadata of executions stays after their end. 0: the engine's
	// default.
	Metadata time.Duration
	// IdentityLife is how long the identities of roles last; they are renewed at half of it.
	// 0: the vault's default.
	IdentityLife time.Duration
	// LeaseRequests and LeaseBytes are how many requests and bytes of bodies, in both directions, one lease of credentials allows.
	// 0, or more than the vault's limits: these.
	LeaseRequests, LeaseBytes uint64
	// Log gets what the supervisor itself has to say. Nil: nothing is logged.
	Log *slog.Logger
	// Stderr is what roles log; nil: nothing.
	Stderr *os.File
}
