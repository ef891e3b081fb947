package role

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// playRole is the variable that makes the test binary run a role instead of tests.
const playRole = "ROLE_TEST_PLAY"

func TestMain(m *testing.M) {
	if name := os.Getenv(playRole); name != "" {
		os.Exit(Main(context.Background(), name, os.Stderr, slog.LevelDebug))
	}
	os.Exit(m.Run())
}

// play starts a role as a process of its own with a file as its descriptor 3.
func play(t *testing.T, name string, fd3 *os.File) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), playRole+"="+name)
	cmd.Stderr = &bytes.Buffer{}
	if fd3 != nil {
		cmd.ExtraFiles = []*os.File{fd3}
	}
	return cmd
}

// TestStartedByHand says what to do instead, and does nothing.
func TestStartedByHand(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	for _, name := range []string{"bus", "vault", "server", "egress", "runner"} {
		for what, fd3 := range map[string]*os.File{"nothing": nil, "a file": file, "a pipe": pipe} {
			cmd := play(t, name, fd3)
			err := cmd.Run()
			var exit *exec.ExitError
			text := cmd.Stderr.(*bytes.Buffer).String()
			if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(text, "bulkhead up") {
				t.Errorf("%s with %s as its socket: %v, %q", name, what, err, text)
			}
		}
	}
}

// socketPair is a connected pair; the second end is for a process.
func socketPair(t *testing.T) (*control, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return newControl(ours), theirs
}

// TestARoleSaysWhyItDoesNotStart gets the reason from the role itself.
func TestARoleSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bus", "vault", "server", "egress", "runner"} {
		c, theirs := socketPair(t)
		cmd := play(t, name, theirs)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = theirs.Close()
		var hello wire.Hello
		if err := c.receive(&hello); err != nil || hello.Sign == (seal.VerifyKey{}) || hello.Seal == (seal.PublicKey{}) {
			t.Errorf("%s: hello %+v, %v", name, hello, err)
		}
		if err := c.send(&wire.Stop{}); err != nil { // not what it waits for
			t.Fatal(err)
		}
		var own *startError
		if err := c.receive(&wire.Ready{}); !errors.As(err, &own) || !strings.HasPrefix(own.text, name+": ") {
			t.Errorf("%s: %v", name, err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUsersOfRoles keeps every role apart from the others, from root and from children.
func TestUsersOfRoles(t *testing.T) {
	t.Parallel()
	seen := map[uint32]string{}
	for name, uid := range uids() {
		if other := seen[uid]; other != "" {
			t.Errorf("%s and %s share a user", name, other)
		}
		seen[uid] = name
		if uid < 1000 || uid >= jail.DefaultFirstUID && uid < jail.DefaultFirstUID+jail.DefaultMaxChildren {
			t.Errorf("%s is user %d: a user of the system or of children", name, uid)
		}
	}
	for _, r := range append(wire.Roles(), wire.RoleBus) {
		if uids()[string(r)] == 0 {
			t.Errorf("role %s has no user", r)
		}
	}
}

func TestTotalMemory(t *testing.T) {
	t.Parallel()
	const info = "MemFree: 1 kB\nMemTotal:       2048 kB\nSwapTotal: 4 kB\n"
	cases := []struct {
		info   string
		limits []string
		want   int64
	}{
		{info, nil, 2 << 20},
		{info, []string{"max\n"}, 2 << 20},
		{info, []string{"1048576\n", "9223372036854771712\n"}, 1 << 20},
		{info, []string{"0", "-1", "x", ""}, 2 << 20},
		{"", nil, 0},
		{"MemTotal: many kB\n", nil, 0},
		{"MemTotal: -5 kB\n", nil, 0},
	}
	for _, c := range cases {
		got, err := totalMemory(c.info, c.limits)
		if got != c.want || (err == nil) != (c.want > 0) || err != nil && !errors.Is(err, errMemory) {
			t.Errorf("%q with limits %q: %d, %v", c.info, c.limits, got, err)
		}
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	if n, err := budget(settings{"memory": "1000000"}); n != 1_000_000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "0", "-1", "2G", "1e9"} {
		if _, err := budget(settings{"memory": bad}); err == nil || !strings.Contains(err.Error(), "number of bytes") {
			t.Errorf("memory %q: %v", bad, err)
		}
	}
	if n, err := budget(settings{}); err != nil || n < 1<<20 {
		t.Errorf("of this machine: %d, %v", n, err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	got := readSettings([]wire.Pair{{Name: "a", Value: "1"}, {Name: "b", Value: ""}})
	if d := cmp.Diff(settings{"a": "1", "b": ""}, got); d != "" {
		t.Error(d)
	}
	for address, want := range map[string]uint16{"127.0.0.1:4222": 4222, "[::1]:1": 1, "127.0.0.1:0": 0} {
		if n, err := port(address); n != want || err != nil {
			t.Errorf("port of %q: %d, %v", address, n, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "a:b:c"} {
		if _, err := port(bad); err == nil {
			t.Errorf("port of %q: no error", bad)
		}
	}
}

func TestReceive(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		write []byte
		want  string
	}{
		"an error":      {wire.AppendFrame(nil, &wire.Error{Message: "vault: do this"}), "vault: do this"},
		"the end":       {nil, "wait for ready: the process ended"},
		"another frame": {wire.AppendFrame(nil, &wire.Stop{}), "a stop frame where a ready was expected"},
		"noise":         {[]byte("GET / HTTP/1.1\r\n"), "malformed"},
		"a cut frame":   {wire.AppendFrame(nil, &wire.Ready{})[:8], "unexpected EOF"},
		"a cut error":   {wire.AppendRaw(nil, wire.Frame{Type: wire.TypeError, Body: []byte{9}}), "malformed"},
	}
	for name, c := range cases {
		ours, theirs := net.Pipe()
		go func() { _, _ = theirs.Write(c.write); _ = theirs.Close() }()
		err := newControl(ours).receive(&wire.Ready{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		_, _ = io.Copy(io.Discard, ours)
	}
}

// TestPeersAreTheAuthoritys refuses a start that names a peer of somebody else.
func TestPeersAreTheAuthoritys(t *testing.T) {
	t.Parallel()
	authority, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	for by, want := range map[*seal.SignKey]bool{authority: true, other: false} {
		peer := &lease.Identity{Node: id.NewNode(time.Now()), Role: wire.RoleEgress, Pool: api.DefaultPool, Expires: time.Now().Add(time.Hour)}
		ours, theirs := net.Pipe()
		p := &process{control: newControl(theirs)}
		go func() {
			_ = newControl(ours).send(&wire.Start{Authority: authority.Public(), Peers: []wire.PeerCertificate{{Certificate: lease.Certify(by, peer)}}})
		}()
		err := p.begin()
		if (err == nil) != want || want && len(p.nodes(wire.RoleEgress)) != 1 || len(p.nodes(wire.RoleRunner)) != 0 {
			t.Errorf("by its authority: %v, got %v, peers %v", want, err, p.peers)
		}
	}
}

// TestSupervisorRefuses starts nothing when the state cannot be kept, and says where.
func TestSupervisorRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), Config{State: file, Listen: "127.0.0.1:0", Root: func() (secret.Value, error) { return secret.New([]byte("root")), nil }})
	if err == nil || s != nil || !strings.Contains(err.Error(), "state directory") || !strings.Contains(err.Error(), file) {
		t.Errorf("Start: %v", err)
	}
}

func TestSettingsOfRoles(t *testing.T) {
	t.Parallel()
	s := &Supervisor{cfg: Config{State: "/state"}}
	if got := s.settings("runner"); got != nil {
		t.Errorf("runner: %v", got)
	}
	s.cfg.Full = true
	if got := readSettings(s.settings("runner")); got["require"] != "full" {
		t.Errorf("runner: %v", got)
	}
	if got := readSettings(s.settings("server")); got["dir"] != "/state/server" {
		t.Errorf("server: %v", got)
	}
	for _, name := range []string{"bus", "vault"} {
		if got := s.settings(name); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}
