package suite

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// box is a server in the place of one of Dropbox's two hosts.
type box struct {
	*httptest.Server
	content []byte

	mu   sync.Mutex
	seen []string
	got  []byte
}

func newBox(t *testing.T, content []byte) *box {
	b := &box{content: content}
	b.Server = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(b.Close)
	return b
}

func (b *box) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Dropbox-API-Arg"))))
	switch r.URL.Path {
	case "/2/files/download":
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Dropbox-Api-Result", `{"name":"a"}`)
		_, _ = w.Write(b.content)
	case "/2/files/upload":
		b.got = body
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"rev":"a1c10ce0dd78","size":%d,"path_display":%q}`, len(body), r.Header.Get("Content-Type"))
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"rev":"0123456789"}`)
	}
}

// paths are the requests that came.
func (b *box) requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

// boxManifest is Dropbox's connector, of which the two hosts are these, and whose token is entered.
func boxManifest(t *testing.T, rpc, files *box) string {
	t.Helper()
	text, err := connectors.Files.ReadFile("dropbox/connector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "\nauth:\n")
	_, after, _ := strings.Cut(rest, "\ndefaults:\n")
	api, contents := rpc.Listener.Addr().String(), files.Listener.Addr().String()
	head := strings.NewReplacer(
		"connector: dropbox\n", "connector: box-of-the-suite\n", "hosts: [api.dropboxapi.com, content.dropboxapi.com]", fmt.Sprintf("hosts: [%q, %q]", api, contents),
		"https://api.dropboxapi.com", "http://"+api, "https://content.dropboxapi.com", "http://"+contents,
	).Replace(before)
	return head + "\nauth: [{id: key, type: bearer}]\ndefaults:\n" + after
}

const boxFlow = `bulkhead: 1
integration: box
connections: {box: {connector: box-of-the-suite}}
flows:
  copy:
    trigger: {manual: {}}
    steps:
      - {id: about, uses: box.getMetadata, with: {path: /a}}
      - {id: file, uses: box.downloadFile, with: {path: "/ü/${{ trigger.body.name }}"}}
      - {id: up, uses: box.uploadFile, with: {content: "${{ steps.file.body }}", path: /copy, mode: overwrite}}
      - {id: out, return: {size: "${{ steps.up.body.size }}", type: "${{ steps.up.body.path_display }}"}}
`

// TestAConnectorWithTwoBases copies a large file of Dropbox with its own connector: calls go to the one host, contents to the
// other, each with the one credential, and the content is never in a process's request or answer as a whole.
func TestAConnectorWithTwoBases(t *testing.T) {
	t.Parallel()
	needSystem(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	rpc, files := newBox(t, nil), newBox(t, content)
	d := newDrive(t, startSystem(t, false))
	ctx := t.Context()
	if _, err := d.PublishConnector(ctx, api.ConnectorRequest{Source: boxManifest(t, rpc, files)}); err != nil {
		t.Fatal(err)
	}
	v, err := d.Publish(ctx, api.PublishRequest{Source: boxFlow})
	if err != nil {
		t.Fatal(err)
	}
	n, err := d.MakeConnection(ctx, api.ConnectionRequest{Customer: "local", Name: "box", Connector: "box-of-the-suite", Fields: map[string]string{"token": "box-canary-5528"}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the hosts that the connection is for", n.Host, rpc.Listener.Addr().String()+", "+files.Listener.Addr().String())
	i := id.NewInstance(time.Now())
	if _, err := d.DeploySealed(ctx, d.customer, i, api.DeployRequest{Digest: v.Digest, Slots: map[string]id.Connection{"box": n.ID}}); err != nil {
		t.Fatal(err)
	}
	x := d.start(i, "copy", map[string]any{"name": "😀"})
	if e := x.wait(); e.status != "completed" {
		t.Fatalf("the execution is %s %s: %s", e.status, e.errorType, d.read(x.execution, wire.ReadOutput, "")[0].Value)
	}
	same(t, "output", d.output(x.execution), fmt.Sprintf(`{"size":%d,"type":"application/octet-stream"}`, len(content)))
	if !bytes.Equal(files.got, content) {
		t.Errorf("%d bytes were uploaded, want the %d that were downloaded", len(files.got), len(content))
	}
	same(t, "calls", strings.Join(rpc.requests(), "\n"), "/2/files/get_metadata Bearer box-canary-5528")
	same(t, "contents", strings.Join(files.requests(), "\n"), `/2/files/download Bearer box-canary-5528 {"path":"/\u00fc/\ud83d\ude00"}`+"\n"+
		`/2/files/upload Bearer box-canary-5528 {"path":"/copy","mode":"overwrite"}`)
}
