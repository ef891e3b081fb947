package suite

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// bases is a server in the place of Airtable's webhooks. The secret that it makes stands for its bytes in Base64.
type bases struct {
	*httptest.Server
	secret []byte

	mu    sync.Mutex
	url   string
	asked []string
}

func newBases(t *testing.T) *bases {
	b := &bases{secret: []byte("\xfb\xff\x00 a key of bytes")}
	b.Server = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(b.Close)
	return b
}

func (b *bases) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodPost:
		var m struct {
			URL string `json:"notificationUrl"`
		}
		_ = json.Unmarshal(body, &m)
		b.url = m.URL
		_, _ = fmt.Fprintf(w, `{"id":"ach1","macSecretBase64":%q,"expirationTime":"2030-01-30T00:00:00.000Z"}`, base64.StdEncoding.EncodeToString(b.secret))
	case strings.HasSuffix(r.URL.Path, "/payloads"):
		b.asked = append(b.asked, r.URL.RequestURI())
		_, _ = io.WriteString(w, `{"payloads":[{"baseTransactionNumber":4}],"cursor":5,"mightHaveMore":false}`)
	default:
		_, _ = fmt.Fprintf(w, `{"webhooks":[{"id":"ach1","notificationUrl":%q}]}`, b.url)
	}
}

// ping sends what the vendor's page shows, signed with a key.
func (b *bases) ping(t *testing.T, url string, key []byte) int {
	t.Helper()
	const body = `{"base": {"id": "app1"},"webhook": {"id": "ach1"},"timestamp": "2022-02-01T21:25:05.663Z"}`
	h := hmac.New(sha256.New, key)
	h.Write([]byte(body))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Airtable-Content-Mac", "hmac-sha256="+hex.EncodeToString(h.Sum(nil)))
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	return a.StatusCode
}

const changesFlow = `bulkhead: 1
integration: changes
connections: {air: {connector: bases-of-the-suite}}
flows:
  changed:
    trigger: {event: {uses: air.baseChanged, with: {baseId: app1}}}
    steps:
      - {id: what, uses: air.listChanges, with: {baseId: "${{ trigger.body.base.id }}", webhookId: "${{ trigger.body.webhook.id }}", cursor: 4}}
`

// TestEventsSignedWithADecodedKey subscribes to Airtable's changes with its own connector: an event is believed that is signed with
// what the secret stands for, and none that is signed with the secret as a text.
func TestEventsSignedWithADecodedKey(t *testing.T) {
	t.Parallel()
	needSystem(t)
	b, s := newBases(t), startSystem(t, false)
	ctx := t.Context()
	text, err := connectors.Files.ReadFile("airtable/connector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	at := b.Listener.Addr().String()
	manifest := strings.NewReplacer("connector: airtable\n", "connector: bases-of-the-suite\n", "\nhosts: [api.airtable.com]", "\nhosts: [\""+at+"\"]", "\nbase_url: https://api.airtable.com", "\nbase_url: http://"+at).Replace(string(text))
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: manifest}); err != nil {
		t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: changesFlow})
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.MakeConnection(ctx, api.ConnectionRequest{Customer: "local", Name: "air", Connector: "bases-of-the-suite", Auth: "pat", Fields: map[string]string{"token": "pat-canary-5528"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeploySealed(ctx, s.customer, id.NewInstance(time.Now()), api.DeployRequest{Digest: v.Digest, Slots: map[string]id.Connection{"air": n.ID}}); err != nil {
		t.Fatal(err)
	}
	url := ""
	s.eventually("a subscription", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		url = b.url
		return url != ""
	})
	asText := []byte(base64.StdEncoding.EncodeToString(b.secret))
	s.eventually("an event that is taken", func() bool {
		if status := b.ping(t, url, asText); status != http.StatusUnauthorized {
			t.Fatalf("an event signed with the text of the secret is answered %d", status)
		}
		return b.ping(t, url, b.secret) == http.StatusOK
	})
	s.eventually("the question what has changed", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.asked) > 0
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	same(t, "what was asked", strings.Join(b.asked, " "), "/v0/bases/app1/webhooks/ach1/payloads?cursor=4")
}
