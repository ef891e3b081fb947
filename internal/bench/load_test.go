package bench

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// platform is a stand-in: it takes events and calls the upstream for each as often as it is
// told.
func platform(t *testing.T, upstream func() string, calls int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		for range calls {
			a, err := http.Post("http://"+upstream()+"/orders", "application/json", strings.NewReader(string(body)))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// startLoad runs the load in this process.
func startLoad(t *testing.T) (upstream string, drive func(Load) Loaded) {
	t.Helper()
	in, toLoad := io.Pipe()
	fromLoad, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- RunLoad(in, out) }()
	lines := bufio.NewScanner(fromLoad)
	read := func() (got Loaded) {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the load says nothing")
		}
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	t.Cleanup(func() {
		_ = toLoad.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return read().Upstream, func(l Load) Loaded {
		t.Helper()
		b, _ := json.Marshal(l)
		if _, err := toLoad.Write(append(b, '\n')); err != nil {
			t.Fatal(err)
		}
		return read()
	}
}

// TestLoadCounts drives a platform that does as it should, and two that do not.
func TestLoadCounts(t *testing.T) {
	t.Parallel()
	upstream, drive := startLoad(t)
	for name, c := range map[string]struct{ does, want, missing, repeated int }{
		"once":  {1, 1, 0, 0},
		"twice": {2, 1, 0, 50},
		"three": {3, 3, 0, 0},
	} {
		at := platform(t, func() string { return upstream }, c.does)
		got := drive(Load{Address: at, Targets: []string{"/a", "/b"}, Connections: 4, Count: 50, Duration: time.Second, Calls: c.want})
		if got.Error != "" || got.Accepted != 50 || got.Missing != c.missing || got.Repeated > c.repeated || (c.repeated > 0 && got.Repeated == 0) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestLoadRefused repeats what was refused for now, as other events.
func TestLoadRefused(t *testing.T) {
	t.Parallel()
	_, drive := startLoad(t)
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n++; n%2 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	got := drive(Load{Address: s.Listener.Addr().String(), Targets: []string{"/"}, Connections: 1, Count: 10})
	if got.Accepted != 10 || got.Refused != 9 || got.Error != "" {
		t.Errorf("got %+v", got)
	}
}

// TestMessage takes messages that come in pieces and in one.
func TestMessage(t *testing.T) {
	t.Parallel()
	s := &socket{}
	one := "HTTP/1.1 202 Accepted\r\nContent-Type: a\r\nContent-Length: 3\r\n\r\nabc"
	for i := range one {
		s.in = append(s.in[:0], one[:i]...)
		if _, _, ok, err := s.message(); ok || err != nil {
			t.Fatalf("%d bytes: %v, %v", i, ok, err)
		}
	}
	s.in = append(s.in[:0], one+one...)
	for range 2 {
		line, body, ok, err := s.message()
		if !ok || err != nil || string(line) != "HTTP/1.1 202 Accepted" || string(body) != "abc" {
			t.Fatalf("%q %q %v %v", line, body, ok, err)
		}
	}
	for _, bad := range []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"} {
		s.in = append(s.in[:0], bad...)
		if _, _, _, err := s.message(); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
