package suite

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// roleUsers are the users that roles run as, written down a second time.
func roleUsers() map[string]int {
	return map[string]int{"bus": 64_001, "vault": 64_002, "server": 64_003, "egress": 64_004, "runner": 64_005}
}

// firstChildUser and childUsers are the range of users of workers and sandboxes.
const (
	firstChildUser = 2_063_597_568
	childUsers     = 4096
)

// looks is what /proc says about a process.
type looks struct {
	process
	status map[string]string
	spaces map[string]string // namespaces
	files  []string
	core   string // limits of core dumps
}

func (l *looks) uid() int { return l.number("Uid") }

func (l *looks) number(name string) int {
	n, err := strconv.Atoi(strings.Fields(l.status[name] + " -1")[0])
	if err != nil {
		return -1
	}
	return n
}

var spaceNames = []string{"user", "pid", "net", "mnt", "ipc", "uts"}

func look(p process) (*looks, error) {
	l := &looks{process: p, status: map[string]string{}, spaces: map[string]string{}}
	at := fmt.Sprintf("/proc/%d/", p.pid)
	b, err := os.ReadFile(at + "status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		l.status[name] = strings.TrimSpace(v)
	}
	for _, n := range spaceNames {
		if l.spaces[n], err = os.Readlink(at + "ns/" + n); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(at + "fd")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		target, err := os.Readlink(at + "fd/" + e.Name())
		if err == nil {
			l.files = append(l.files, target)
		}
	}
	limits, err := os.ReadFile(at + "limits")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(limits)) {
		if v, ok := strings.CutPrefix(line, "Max core file size"); ok {
			l.core = strings.Join(strings.Fields(v)[:2], " ")
		}
	}
	return l, nil
}

// allowedFiles are what each process may have open: sockets, pipes and the kernel's
// event counters, nothing for its standard streams but the null device and the log, and
// files only of its own. The Go runtime keeps the processor quota of its cgroup open.
func allowedFiles(name, state, log string) *regexp.Regexp {
	own := `(socket|pipe):\[\d+\]|anon_inode:\[(eventpoll|eventfd|pidfd)\]|/dev/null|/sys/fs/cgroup/.*cpu\.(cfs_quota_us|cfs_period_us|max)|` + regexp.QuoteMeta(log)
	switch name {
	case "server", "vault":
		own += "|" + regexp.QuoteMeta(filepath.Join(state, name)) + `(/.*)?`
	case "runner":
		own += `|/memfd:.*|/|/sys/fs/cgroup/.*` // the children's executables, their empty roots, their groups
	}
	return regexp.MustCompile("^(" + own + ")( \\(deleted\\))?$")
}

// weak lists what a process lacks of its lock-down. host is an ordinary process.
func weak(l, host *looks, state, log string) (out []string) {
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	child := l.name == "worker" || l.name == "sandbox"
	add(l.number("Seccomp") != 2, "seccomp is %s, not a filter", l.status["Seccomp"])
	add(l.number("NoNewPrivs") != 1, "no_new_privs is not set")
	add(l.core != "0 0", "it may dump core: %s", l.core)
	// The runner has four capabilities in a user namespace of its own, where they are over
	// its children only.
	caps, err := strconv.ParseUint(l.status["CapEff"], 16, 64)
	if l.name == "runner" && l.spaces["user"] != host.spaces["user"] {
		caps &^= 1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SYS_ADMIN
	}
	add(err != nil || caps != 0, "it has capabilities %s", l.status["CapEff"])
	for _, set := range []string{"CapInh", "CapAmb"} {
		add(strings.Trim(l.status[set], "0") != "", "it has capabilities in %s", set)
	}
	if child {
		add(l.uid() < firstChildUser || l.uid() >= firstChildUser+childUsers, "its user is %d", l.uid())
		for _, n := range spaceNames {
			add(l.spaces[n] == host.spaces[n], "it is in the host's %s namespace", n)
		}
	} else {
		add(l.uid() != roleUsers()[l.name], "its user is %d, not %d", l.uid(), roleUsers()[l.name])
	}
	allowed := allowedFiles(l.name, state, log)
	for _, f := range l.files {
		add(!allowed.MatchString(f), "it has %s open", f)
	}
	return out
}

// TestLiveProcessesAreLockedDown looks at every process while a request and code are
// under way.
func TestLiveProcessesAreLockedDown(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	s := startSystem(t, false)
	_, i := s.deploy(flowsHead+everything, m.config(), m.accounts(w.URL, closedPort(t)))
	x, y := s.start(i, "everything", m.event()), s.start(i, "spin", m.event())
	held := w.hold()
	s.eventually("a sandbox at work", func() bool {
		return slices.ContainsFunc(s.children(), func(p process) bool { return p.name == "sandbox" && cpuTicks(p.pid) > 5 })
	})
	host, err := look(process{"vault", os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	var all []*looks
	for _, p := range s.processes() {
		if l, err := look(p); err == nil {
			all = append(all, l)
		} else if p.name != "worker" && p.name != "sandbox" {
			t.Errorf("look at %v: %v", p, err)
		}
	}
	rows := [][]string{{"process", "uid", "seccomp", "no_new_privs", "CapEff", "core", "own namespaces", "files", "weak"}}
	count, bad := map[string]int{}, 0
	for _, l := range all {
		count[l.name]++
		found := weak(l, host, s.state(), s.log())
		bad += len(found)
		for _, f := range found {
			t.Errorf("%v: %s", l.process, f)
		}
		var own []string
		for _, n := range spaceNames {
			if l.spaces[n] != host.spaces[n] {
				own = append(own, n)
			}
		}
		rows = append(rows, []string{
			l.name, fmt.Sprint(l.uid()), l.status["Seccomp"], l.status["NoNewPrivs"], strings.TrimLeft(l.status["CapEff"][:15], "0") + l.status["CapEff"][15:], l.core, strings.Join(own, " "), fileKinds(l.files), fmt.Sprint(len(found)),
		})
	}
	table(t, "live processes", rows)
	for _, name := range []string{"bus", "egress", "runner", "sandbox", "server", "vault", "worker"} {
		if count[name] == 0 {
			t.Errorf("there is no %s to look at", name)
		}
	}
	s.apart(t, all)
	// Red twin: this very process, which has no defence, must look weak in every way.
	if found := weak(host, host, s.state(), s.log()); len(found) < 4 {
		t.Errorf("red twin: a process without any defence looks weak only in %v", found)
	} else {
		t.Logf("red twin: a process without defences has %d weaknesses: %s …", len(found), strings.Join(found[:4], "; "))
	}
	s.unreadable(t, all)
	close(held.release)
	for _, e := range []*started{x, y} {
		if err := s.Cancel(t.Context(), e.execution); err != nil {
			t.Error(err)
		}
	}
}

// apart checks that processes do not share what should be each one's own.
func (s *system) apart(t *testing.T, all []*looks) {
	t.Helper()
	users, spaces := map[int][]string{}, map[string]map[string]int{}
	children := 0
	for _, l := range all {
		users[l.uid()] = append(users[l.uid()], l.String())
		if l.name != "worker" && l.name != "sandbox" {
			continue
		}
		children++
		for _, n := range spaceNames {
			if spaces[n] == nil {
				spaces[n] = map[string]int{}
			}
			spaces[n][l.spaces[n]]++
		}
	}
	for uid, who := range users {
		if len(who) > 1 {
			t.Errorf("the user %d is shared by %v", uid, who)
		}
	}
	text := ""
	for _, n := range spaceNames {
		text += fmt.Sprintf(" %s %d", n, len(spaces[n]))
	}
	if len(spaces["pid"]) < 2 {
		t.Errorf("workers and sandboxes share a pid namespace")
	}
	t.Logf("apart: %d processes with %d users; %d children in this many namespaces:%s", len(all), len(users), children, text)
}

func fileKinds(files []string) string {
	count := map[string]int{}
	for _, f := range files {
		kind, _, _ := strings.Cut(f, ":")
		if strings.HasPrefix(f, "/") {
			kind = filepath.Base(f)
		} else if kind == "anon_inode" {
			kind = strings.Trim(f[len(kind)+1:], "[]")
		}
		count[kind]++
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(count)) {
		out = append(out, fmt.Sprintf("%s %d", k, count[k]))
	}
	return strings.Join(out, ", ")
}

// unreadable reads, as the user of each role, what is not that role's: files of the
// others, and the memory of every process, its own included.
func (s *system) unreadable(t *testing.T, all []*looks) {
	t.Helper()
	tried, wrong := 0, 0
	for role, uid := range roleUsers() {
		paths := []string{s.log(), "/etc/shadow", "/proc/1/environ", s.state() + "/vault", s.state() + "/vault/keystore.db", s.state() + "/server", s.state() + "/server/api.sock", s.state() + "/server/blobs"}
		for _, l := range all {
			for _, f := range []string{"mem", "environ", "maps", "fd/0", "fd/3", "root", "cwd", "exe", "auxv", "stack", "syscall", "io"} {
				paths = append(paths, fmt.Sprintf("/proc/%d/%s", l.pid, f))
			}
		}
		tried += len(paths)
		for _, p := range asUser(t, uint32(uid), paths) {
			if strings.HasPrefix(p, filepath.Join(s.state(), role)) {
				continue // its own directory
			}
			wrong++
			t.Errorf("the user of %s can read %s", role, p)
		}
	}
	// Red twins: the reader can read what is its own, and an ordinary process of its user.
	if got := asUser(t, 64_002, []string{s.state() + "/vault/keystore.db"}); len(got) != 1 {
		t.Error("red twin: the vault's user cannot read the keystore: the probe proves nothing")
	}
	pid := ordinary(t, 64_004)
	twin := asUser(t, 64_004, []string{fmt.Sprintf("/proc/%d/mem", pid), fmt.Sprintf("/proc/%d/environ", pid), fmt.Sprintf("/proc/%d/fd/0", pid), fmt.Sprintf("/proc/%d/maps", pid)})
	if len(twin) != 4 {
		t.Errorf("red twin: of an ordinary process only %v can be read", twin)
	}
	t.Logf("unreadable: %d reads as 5 role users (others' files, memory and descriptors of %d processes, their own included): %d succeeded; red twin, an ordinary process: %d of 4", tried, len(all), wrong, len(twin))
}
