package role

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

// What was asked before a server ends is answered, on every listener; nothing is asked after.
func TestWhatWasAskedIsAnswered(t *testing.T) {
	t.Parallel()
	come, release := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		come <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "answered")
	})
	var servers []*http.Server
	var clients []*http.Client
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "api.sock")} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		s := outsideServer(slow, nil, slog.New(slog.DiscardHandler))
		go func() { _ = serveOutside(s, l) }()
		servers = append(servers, s)
		clients = append(clients, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
		}}})
	}
	ask := func(c *http.Client) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/", nil)
		if err != nil {
			return "", err
		}
		a, err := c.Do(r)
		if err != nil {
			return "", err
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		return string(b), err
	}
	type result struct {
		text string
		err  error
	}
	results := make(chan result)
	for _, c := range clients {
		go func() {
			text, err := ask(c)
			results <- result{text, err}
		}()
		<-come
	}
	closed := make(chan error)
	begun := make(chan struct{}, len(servers))
	for _, s := range servers {
		s.RegisterOnShutdown(func() { begun <- struct{}{} })
	}
	go func() { closed <- answerLast(slog.New(slog.DiscardHandler), servers...) }()
	for range servers { // no listener is open any more
		<-begun
	}
	for _, c := range clients {
		if text, err := ask(c); err == nil {
			t.Errorf("a new request is answered: %s", text)
		}
	}
	close(release)
	for range clients {
		if got := <-results; got.err != nil || got.text != "answered" {
			t.Errorf("%q, %v", got.text, got.err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
