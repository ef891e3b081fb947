package jail

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func build(t testing.TB, tags string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "hostile")
	cmd := exec.Command("go", "build", "-tags", tags, "-ldflags=-s -w", "-o", out, "./hostile")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build hostile: %v\n%s", err, text)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestHello(t *testing.T) {
	image := build(t, "")
	s, report, err := NewSpawner(SpawnerConfig{Worker: image, Sandbox: image})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", report)
	defer s.Close()
	for range 3 {
		begin := time.Now()
		p, err := s.Start(context.Background(), KindSandbox)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(p.Conn, buf); err != nil {
			b, _ := io.ReadAll(p.stderr)
			t.Errorf("read: %v %s %+v", err, b, p.Wait())
			return
		}
		wall := time.Since(begin)
		st, _ := os.ReadFile("/proc/" + itoa(p.PID) + "/status")
		if testing.Verbose() {
			t.Logf("%s", st)
		}
		p.Conn.Close()
		t.Logf("%v %+v", wall, p.Wait())
	}
}

func itoa(i int) string { return string(appendInt(nil, i)) }
func appendInt(b []byte, i int) []byte {
	if i >= 10 {
		b = appendInt(b, i/10)
	}
	return append(b, byte('0'+i%10))
}
