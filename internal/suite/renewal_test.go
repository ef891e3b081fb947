package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	methods "github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// renewalVariable says how many processes are killed while tokens are renewed, else
	// renewalKills are: make races kills more.
	renewalVariable = "BULKHEAD_RENEWAL_KILLS"
	renewalKills    = 12
	renewals        = 12               // connections
	renewalLife     = 14 * time.Second // of an access token, of which egress uses the first four seconds
	// lossWindow is how long after an answer of the provider a kill explains that it was lost.
	lossWindow = 5 * time.Second
)

// rotator is a provider that takes each refresh token once, and an API that takes its access
// tokens.
type rotator struct {
	*httptest.Server
	mu      sync.Mutex
	now     map[string]string    // refresh token by grant
	grants  map[string]string    // grant by refresh token, of all that there ever were
	access  map[string]time.Time // end
	ended   map[string]bool      // grants
	last    map[string]time.Time // when a grant gave tokens out last
	count   int
	rotated int
	reused  map[string]int
	wrong   []string
	used    map[string]int // by grant
}

func newRotator(t *testing.T) *rotator {
	r := &rotator{
		now: map[string]string{}, grants: map[string]string{}, access: map[string]time.Time{}, ended: map[string]bool{}, last: map[string]time.Time{},
		reused: map[string]int{}, used: map[string]int{},
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

// give makes the next tokens of a grant. The caller holds mu.
func (r *rotator) give(grant string) (access, refresh string, expires time.Time) {
	r.count++
	access, refresh, expires = fmt.Sprintf("access-%s-%06d", grant, r.count), fmt.Sprintf("refresh-%s-%06d", grant, r.count), time.Now().Add(renewalLife)
	r.now[grant], r.grants[refresh], r.access[access], r.last[grant] = refresh, grant, expires, time.Now()
	return access, refresh, expires
}

// ServeHTTP implements http.Handler.
func (r *rotator) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if err := q.ParseForm(); err != nil {
		return // cut off
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.URL.Path == "/token" {
		r.token(w, q)
		return
	}
	token := strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")
	end, known := r.access[token]
	if !known || !time.Now().Before(end) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s with a token that ended %v ago (known: %v)", q.URL.Path, time.Since(end), known))
		reply(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	r.used[strings.Split(token, "-")[1]]++
	reply(w, http.StatusOK, map[string]any{"n": 1})
}

func (r *rotator) token(w http.ResponseWriter, q *http.Request) {
	token := q.PostForm.Get("refresh_token")
	grant, known := r.grants[token]
	switch {
	case q.PostForm.Get("client_secret") != "secret-of-the-app", q.PostForm.Get("grant_type") != "refresh_token", !known:
		r.wrong = append(r.wrong, fmt.Sprintf("a token request with %v", q.PostForm))
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
	case r.ended[grant]:
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
	case r.now[grant] != token:
		r.reused[grant]++
		r.ended[grant] = true
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
	default:
		r.rotated++
		access, refresh, _ := r.give(grant)
		reply(w, http.StatusOK, map[string]any{"access_token": access, "refresh_token": refresh, "expires_in": int(renewalLife.Seconds()), "token_type": "Bearer"})
	}
}

// connection is the account of a grant, as its first tokens make it.
func (r *rotator) connection(t *testing.T, grant string) account {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	access, refresh, expires := r.give(grant)
	spec := &methods.Spec{Method: methods.Method{
		ID: "oauth", Type: methods.OAuth2Code,
		Recipe: &methods.Recipe{Authorize: &methods.Authorize{URL: r.URL + "/authorize"}, Token: &methods.Request{URL: r.URL + "/token"}},
	}}
	b, err := spec.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return account{url: r.URL, kind: lease.KindOAuth2, spec: b, expires: expires, fields: []lease.Field{
		{Name: lease.FieldAccessToken, Secret: []byte(access)},
		{Name: lease.FieldRefreshToken, Secret: []byte(refresh)},
		{Name: "expires_at", Secret: []byte(strconv.FormatInt(expires.Unix(), 10))},
		{Name: lease.FieldClientID, Secret: []byte("app")},
		{Name: lease.FieldClientSecret, Secret: []byte("secret-of-the-app")},
	}}
}

func (r *rotator) progress() (rotated, used int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.used {
		used += n
	}
	return r.rotated, used
}

// rotation is a platform whose flows use tokens of a rotator.
type rotation struct {
	*weather
	provider *rotator
	grants   map[id.Connection]string // the newest of each
	struck   []time.Time              // when egress was killed: nothing else explains a lost answer, as egress goes on to have it committed
	lost     int
}

// TestKilledRenewals kills roles while flows use tokens that a provider rotates. What is lost
// must be explained by a kill right after the provider's answer, and be known as lost; another
// consent puts the connection to use again.
func TestKilledRenewals(t *testing.T) {
	t.Parallel()
	needSystem(t)
	r := newRotator(t)
	w := &rotation{
		weather:  &weather{system: startService(t, func(*role.Config) {}), shop: newShop(t), killed: map[string]int{}, back: map[string][]time.Duration{}},
		provider: r, grants: map[id.Connection]string{},
	}
	for range renewals {
		grant := w.grant()
		_, i := w.deploy(stormFlows, nil, map[string]account{"shop": r.connection(t, grant)})
		u, err := w.HookURL(t.Context(), i, "plain")
		if err != nil {
			t.Fatal(err)
		}
		w.hooks = append(w.hooks, u)
		x, err := w.Instance(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		w.grants[x.Slots["shop"]] = grant
	}
	posting, stop := context.WithCancel(t.Context())
	var posters sync.WaitGroup
	for p := range 4 {
		posters.Go(func() {
			for n := p; posting.Err() == nil; n += 4 {
				_, _ = w.event(n) // whether it is accepted does not matter here
				pause(posting, 40*time.Millisecond)
			}
		})
	}
	kills := renewalKills
	if n, err := strconv.Atoi(os.Getenv(renewalVariable)); err == nil && n > 0 {
		kills = n
	}
	for w.strike(kills); w.reconnect() > 0; { // what was lost by the last kills comes to light
		pause(t.Context(), renewalLife/2)
	}
	stop()
	posters.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, wrong := range r.wrong {
		t.Errorf("the provider got %s", wrong)
	}
	used := 0
	for _, n := range r.used {
		used += n
	}
	t.Logf("renewals: %d refreshes of %d connections while processes were killed %v; %d calls with tokens, 0 of them with ended ones: %v; %d grants lost in the window and reconnected, 0 outside: %v",
		r.rotated, len(w.grants), w.killed, used, len(r.wrong) == 0, w.lost, !t.Failed())
}

// grant names a new grant.
func (w *rotation) grant() string { return fmt.Sprintf("grant%02d", len(w.grants)+w.lost) }

// strike kills roles, each after some progress.
func (w *rotation) strike(kills int) {
	w.t.Helper()
	list := []string{"egress", "egress", "egress", "vault", "vault", "server", "bus", "runner"}
	for done := 0; done < kills; {
		w.reconnect()
		rotated, used := w.provider.progress()
		for end := time.Now().Add(stormStuck); ; {
			if a, b := w.provider.progress(); a > rotated && b > used {
				break
			}
			if time.Now().After(end) {
				a, b := w.provider.progress()
				w.t.Fatalf("no progress for %v after %d kills %v: %d refreshes and %d uses, and then %d and %d; %d grants had been lost",
					stormStuck, done, w.killed, rotated, used, a-rotated, b-used, w.lost)
			}
			pause(w.t.Context(), time.Millisecond)
		}
		pause(w.t.Context(), time.Duration(rand.IntN(8))*time.Millisecond)
		name := list[rand.IntN(len(list))]
		if w.killOne(name) {
			w.killed[name]++
			done++
			if name == "egress" {
				w.struck = append(w.struck, time.Now())
			}
		}
	}
}

// reconnect judges each grant that has ended, gives its connection another, and counts them.
func (w *rotation) reconnect() (n int) {
	w.t.Helper()
	for c, grant := range w.grants {
		w.provider.mu.Lock()
		ended, last := w.provider.ended[grant], w.provider.last[grant]
		w.provider.mu.Unlock()
		if !ended {
			continue
		}
		n++
		if !slices.ContainsFunc(w.struck, func(at time.Time) bool { return at.Sub(last).Abs() < lossWindow }) {
			w.t.Errorf("%s ended at the provider, and no kill came within %v of its last answer", grant, lossWindow)
		}
		w.eventually("a known end of "+grant, func() bool {
			a, err := w.Connection(w.t.Context(), c)
			if err != nil || a.Health != "needs_reconnect" {
				return false
			}
			if b, _ := json.Marshal(a); !strings.Contains(string(b), "lost_answer") {
				w.t.Errorf("%s was lost and is known as %s", grant, b)
			}
			return true
		})
		w.lost++
		w.grants[c] = w.grant()
		again := w.record(c, w.provider.connection(w.t, w.grants[c]))
		w.eventually("another grant for "+grant, func() bool { return w.connect(again, "shop") == nil })
		w.eventually("a use of "+w.grants[c]+" instead of "+grant, func() bool {
			w.provider.mu.Lock()
			defer w.provider.mu.Unlock()
			return w.provider.used[w.grants[c]] > 0
		})
	}
	return n
}

// connect saves a connection. One that is renewed is sealed here as a record of another kind: a
// server that was breached could do the same.
func (s *system) connect(r *lease.Record, name string) error {
	if !r.Kind.Changes() {
		_, err := s.PutConnection(s.t.Context(), r, name)
		return err
	}
	sealed, err := seal.Seal(s.roles.VaultKey(), lease.PurposeVault, lease.ConnectionPlace(r.Customer, r.Connection), wire.AppendBody(nil, r))
	if err != nil {
		return err
	}
	body, err := json.Marshal(api.ConnectionRequest{
		Customer: r.Customer.String(), Name: name, Connector: r.Connector, Kind: string(lease.KindBearer), Host: r.Binding.Authority(), Record: sealed,
	})
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, "http://server/api/v1/connections/"+r.Connection.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	way := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.roles.API)
	}}}
	a, err := way.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode >= http.StatusMultipleChoices {
		text, _ := io.ReadAll(a.Body)
		return fmt.Errorf("status %d: %s", a.StatusCode, text)
	}
	return nil
}
