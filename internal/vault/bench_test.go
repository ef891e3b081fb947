package vault

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

func BenchmarkOpenNew(b *testing.B) {
	for _, c := range []struct {
		name      string
		temporary bool
	}{{"durable", false}, {"temporary", true}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				v, err := Open(b.Context(), Config{Dir: b.TempDir() + "/k", Temporary: c.temporary, Root: secret.New(make([]byte, RootSize))})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				_ = v.Close()
				b.StartTimer()
			}
		})
	}
}

func BenchmarkOpenAgain(b *testing.B) {
	w := newWorld(b)
	w.tenant("token")
	_ = w.vault.Close()
	for b.Loop() {
		v, err := w.tryOpen()
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = v.Close()
		b.StartTimer()
	}
}

func BenchmarkLease(b *testing.B) {
	for _, c := range []struct {
		name      string
		temporary bool
	}{{"durable", false}, {"temporary", true}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			if !c.temporary {
				_ = w.vault.Close()
				v, err := Open(b.Context(), Config{Dir: w.dir, Root: secret.New(w.root), Now: w.clock.now})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = v.Close() })
				w.vault = v
			}
			t := w.tenant("token")
			k, err := seal.GenerateKey()
			if err != nil {
				b.Fatal(err)
			}
			lift(w.vault)
			b.ReportAllocs()
			for b.Loop() { // a dispatch of its own for each, which is signed here too
				w.clock.add(time.Millisecond)
				m := lease.SignRequest(w.runner.sign, w.runner.node, lease.SignDispatch(w.server.sign, w.dispatch(t)), k.Public(), w.egress.node)
				if _, err := w.vault.Lease(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
