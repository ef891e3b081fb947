package jail

import (
	"context"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkStart measures from Start to the child's first bytes, which it writes after its lock-down, and to its end. The
// variants leave out layers (by the test's own configuration) or add the alternatives of doc/decisions/jail-spawner.md.
func BenchmarkStart(b *testing.B) {
	image := hostile(b, "")
	all := map[string]bool{layerMount: true, layerNet: true, layerIPC: true, layerUTS: true, layerPID: true, layerUID: true}
	for _, variant := range []struct {
		name  string
		c     SpawnerConfig
		flags uintptr
	}{
		{name: "full"},
		{name: "required-only", c: SpawnerConfig{without: all}},
		{name: "no-pid-namespace", c: SpawnerConfig{without: map[string]bool{layerPID: true}}},
		{name: "ipc-and-uts-per-child", flags: unix.CLONE_NEWIPC | unix.CLONE_NEWUTS},
		{name: "net-per-child", flags: unix.CLONE_NEWNET},
		{name: "mount-per-child", flags: unix.CLONE_NEWNS},
		{name: "user-per-child", flags: unix.CLONE_NEWUSER, c: SpawnerConfig{without: map[string]bool{layerUID: true}}},
	} {
		b.Run(variant.name, func(b *testing.B) {
			variant.c.Sandbox = image
			s, _, err := NewSpawner(variant.c)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			s.nests[KindSandbox].cloneFlags |= variant.flags
			benchStart(b, s)
		})
	}
}

func benchStart(b *testing.B, s *Spawner) {
	var child, wall time.Duration
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	for b.Loop() {
		begin := time.Now()
		p, err := s.Start(context.Background(), KindSandbox)
		if err != nil {
			b.Fatal(err)
		}
		var hello [6]byte
		if _, err := io.ReadFull(p.Conn, hello[:]); err != nil {
			b.Fatal(err)
		}
		wall += time.Since(begin)
		_ = p.Conn.Close()
		child += p.Wait().CPU
	}
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	self := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	n := time.Duration(b.N)
	b.ReportMetric(float64((wall / n).Microseconds()), "hello-µs")
	b.ReportMetric(float64((child / n).Microseconds()), "child-cpu-µs")
	b.ReportMetric(float64((self / n).Microseconds()), "parent-cpu-µs")
}
