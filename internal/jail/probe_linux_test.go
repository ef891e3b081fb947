package jail

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	r := Report{Layers: Probe()}
	seen := map[string]bool{}
	for _, layer := range r.Layers {
		if seen[layer.Name] {
			t.Errorf("layer %s is listed twice", layer.Name)
		}
		seen[layer.Name] = true
		if layer.State == StateMissing && layer.Fix == "" {
			t.Errorf("layer %s is missing without advice", layer.Name)
		}
		if layer.State == StateOn && layer.Fix != "" {
			t.Errorf("layer %s is on with advice", layer.Name)
		}
		t.Logf("%-22s required=%-5v %-8s %s", layer.Name, layer.Required, layer.State, layer.Detail)
	}
	for _, name := range append(inside(), layerUser, layerPID, layerNet, layerMount, layerIPC, layerUTS, layerRoleUID, layerCgroup) {
		if name != layerThreads && !seen[name] {
			t.Errorf("layer %s is not probed", name)
		}
	}
	for _, name := range []string{layerSeccomp, layerLandlock, layerRlimits, layerNoNewPriv} {
		if layer, _ := r.Layer(name); !layer.Required || layer.State != StateOn {
			t.Errorf("layer %s: %+v, want required and on: the other tests of this package pass", name, layer)
		}
	}
}

func TestOlderThan(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		"5.12.9": true, "5.13.0": false, "5.4.0-generic": true, "6.1.0-18-amd64": false, "4.19": true, "10.0": false, "": true,
	} {
		if got := olderThan(release, 5, 13); got != want {
			t.Errorf("olderThan(%q) = %v, want %v", release, got, want)
		}
	}
}

func TestHierarchies(t *testing.T) {
	t.Parallel()
	const (
		cgroup = "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:name=systemd:/x\n0::/system.slice/bulkhead.service\n"
		mounts = "30 25 0:26 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
			"31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n" +
			"32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
			"broken\n"
	)
	want := []hierarchy{
		{controllers: []string{"memory"}, dir: "/sys/fs/cgroup/memory"},
		{controllers: []string{"cpu"}, dir: "/sys/fs/cgroup/cpu,cpuacct/docker/abc"},
		{v2: true, dir: "/sys/fs/cgroup/unified/system.slice/bulkhead.service"},
	}
	if diff := cmp.Diff(want, hierarchies(cgroup, mounts), cmp.AllowUnexported(hierarchy{})); diff != "" {
		t.Errorf("hierarchies (-want +got):\n%s", diff)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		e    ending
		want Reason
	}{
		{"status 0", ending{exited: true}, ReasonClean},
		{"watchdog", ending{exited: true, code: ExitMemory}, ReasonMemory},
		{"runtime out of memory", ending{exited: true, code: 2, stderr: []byte("fatal error: runtime: out of memory")}, ReasonMemory},
		{"the same words with another status", ending{exited: true, code: 1, stderr: []byte("out of memory")}, ReasonCrash},
		{"panic", ending{exited: true, code: 2, stderr: []byte("panic: x")}, ReasonCrash},
		{"our kill", ending{code: -1, signal: 9, killed: true}, ReasonKilled},
		{"kill meant for one that ended", ending{exited: true, code: 1, killed: true}, ReasonCrash},
		{"filter", ending{code: -1, signal: 31}, ReasonViolation},
		{"filter before our kill", ending{code: -1, signal: 31, killed: true}, ReasonViolation},
		{"group out of memory", ending{code: -1, signal: 9, oomKills: true}, ReasonMemory},
		{"out of time", ending{code: -1, signal: 9, limit: 1e9, cpu: 1e9}, ReasonCPU},
		{"segmentation fault", ending{code: -1, signal: 11}, ReasonCrash},
		{"unknown kill", ending{code: -1, signal: 9, limit: 1e9, cpu: 1e8}, ReasonCrash},
	} {
		if got := row.e.classify().Reason; got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}
