package suite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// identity is a process that the test itself certifies.
type identity struct {
	*wire.Enrolled
	role wire.Role
	sign *seal.SignKey
	seal *seal.PrivateKey
}

func enroll(t *testing.T, v *vault.Vault, r wire.Role) *identity {
	t.Helper()
	sign, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	e, err := v.Enroll(t.Context(), &wire.Enroll{Role: string(r), Pool: "default", Sign: sign.Public(), Seal: k.Public()})
	if err != nil {
		t.Fatal(err)
	}
	return &identity{e, r, sign, k}
}

// copyKeystore copies what the vault keeps, as a backup of its disk would.
func (s *system) copyKeystore() (dir string) {
	s.t.Helper()
	dir = filepath.Join(s.t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"keystore.db", "keystore.db-wal"} {
		b, err := os.ReadFile(filepath.Join(s.state(), "vault", name))
		if s.stopped && errors.Is(err, os.ErrNotExist) {
			continue // it is all in the one file then
		}
		if err != nil {
			s.t.Fatalf("copy keystore: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return dir
}

// keys are the keys that the system's vault leases for an instance. The test knows the
// root key, so it opens a copy of the keystore as a vault of its own and leases from it.
func (s *system) keys(instance id.Instance) []*mark {
	s.t.Helper()
	v, err := vault.Open(s.t.Context(), vault.Config{Dir: s.copyKeystore(), Temporary: true, Root: secret.New(s.root), NewRun: true})
	if err != nil {
		s.t.Fatalf("open copy of keystore: %v", err)
	}
	defer v.Close()
	server, runner, out := enroll(s.t, v, wire.RoleServer), enroll(s.t, v, wire.RoleRunner), enroll(s.t, v, wire.RoleEgress)
	worker, err := seal.GenerateKey()
	if err != nil {
		s.t.Fatal(err)
	}
	marks := []*mark{keyMark("root key", s.root)}
	now := time.Now()
	for day := lease.DayOf(now); day < lease.DayOf(now)+400; day++ {
		d := &lease.Dispatch{
			Server: server.Node, Runner: runner.Node, Customer: s.customer, Instance: instance, ConfigVersion: 1, Days: []lease.Day{day},
			EgressPool: "default", Issued: now,
		}
		g, err := v.Lease(s.t.Context(), lease.SignRequest(runner.sign, runner.Node, lease.SignDispatch(server.sign, d), worker.Public(), out.Node))
		if err != nil {
			continue // no key of that day
		}
		l, err := lease.OpenWorker(worker, g.Worker)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, p := range l.Payload {
			marks = append(marks, keyMark("payload key", p.Private))
		}
		if len(marks) == 2 {
			marks = append(marks, keyMark("instance key", l.InstanceKey), keyMark("idempotency key", l.IdempotencyKey))
		}
	}
	for _, k := range marks[1:] {
		k.owner = s.customer.String()
	}
	if len(marks) < 4 {
		s.t.Fatal("the copy of the keystore leases no key: there is nothing to look for")
	}
	return marks
}
