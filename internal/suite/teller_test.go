package suite

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// teller is a provider that tells everything it gets and knows, in every answer and in every form. Honest answers have the same in
// places where it does no harm to look.
type teller struct {
	*httptest.Server
	t     *testing.T
	kinds map[string]*kind
	held  chan struct{} // one for each request to hold

	mu      sync.Mutex
	came    map[*mark]bool
	revoked int
}

// forms are how answers tell. Those that fail are tried too.
func tellings() []string {
	return []string{
		"json", "text", "gzip", "chunks", "headers", "cookie", "created", "trailer", "status", "base64", "hex", "escaped", "unicode", "html", "large",
		"401", "403", "422", "500", "redirect", "garbage", "header-line", "cut",
	}
}

func newTeller(t *testing.T, all []*kind) *teller {
	t.Helper()
	p := &teller{t: t, kinds: map[string]*kind{}, held: make(chan struct{}, 64), came: map[*mark]bool{}}
	for _, k := range all {
		p.kinds[k.name] = k
	}
	p.Server = httptest.NewUnstartedServer(p)
	p.Config.ErrorLog = nil
	p.Start()
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	for _, k := range all {
		if k.mutual != nil {
			k.mutual.serve(t, p)
		}
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	k := p.kinds[name]
	if k == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	switch rest {
	case "authorize":
		p.authorize(w, r, k)
	case "token", "login":
		p.token(w, r, k, string(body))
	case "revoke":
		p.mu.Lock()
		p.revoked++
		p.mu.Unlock()
		form, _ := url.ParseQuery(string(body))
		reply(w, http.StatusBadRequest, map[string]any{"error": form.Get("token"), "error_description": string(body)})
	default:
		p.note(k, r, string(body))
		p.tell(w, r, k, string(body))
	}
}

// note remembers which secrets have really come with calls: what never comes proves nothing by not coming back.
func (p *teller) note(k *kind, r *http.Request, body string) {
	text := fmt.Sprint(r.URL, r.Header, body)
	user, password, _ := r.BasicAuth()
	plain, _ := url.QueryUnescape(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range k.marks {
		if strings.Contains(text+user+password+plain, m.core) {
			p.came[m] = true
		}
	}
}

func (p *teller) has(m *mark) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.came[m]
}

// told is what an answer tells: what came, what the provider knows, and, as nothing removes that, the same turned around.
func (p *teller) told(k *kind, r *http.Request, body string) []string {
	var out []string
	for _, v := range []string{r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.Header.Get("X-Amz-Security-Token"), r.URL.RequestURI(), r.URL.Path, body} {
		if v != "" {
			out = append(out, v, strings.TrimPrefix(v, "Bearer "))
		}
	}
	if user, password, ok := r.BasicAuth(); ok {
		out = append(out, user+":"+password, password)
	}
	for _, c := range r.Cookies() {
		out = append(out, c.Value)
	}
	var members map[string]any
	if json.Unmarshal([]byte(body), &members) == nil {
		for _, v := range members {
			out = append(out, fmt.Sprint(v))
		}
	}
	p.mu.Lock()
	marks := slices.Clone(k.marks)
	p.mu.Unlock()
	as := r.URL.Query().Get("as")
	for _, m := range marks {
		if m.encoded && (as == "hex" || as == "base64") || !utf8.ValidString(m.value) { // bytes have no place in a text
			continue
		}
		if m.class == credential && (k.knows || p.arrived(m, r, body)) && m.core != "" {
			out = append(out, m.value, m.derived(m.class, m.name).core)
		}
	}
	return out
}

// arrived reports whether a secret is in this request.
func (p *teller) arrived(m *mark, r *http.Request, body string) bool {
	user, password, _ := r.BasicAuth()
	plain, _ := url.QueryUnescape(r.URL.String())
	return strings.Contains(fmt.Sprint(r.URL, r.Header, body, user, password, plain), m.core)
}

func (p *teller) tell(w http.ResponseWriter, r *http.Request, k *kind, body string) {
	told := p.told(k, r, body)
	as := r.URL.Query().Get("as")
	if as == "hold" {
		p.held <- struct{}{}
		<-r.Context().Done()
		return
	}
	answerAs(w, as, told)
}

// answerAs gives an answer in a form.
func answerAs(w http.ResponseWriter, as string, told []string) {
	all := strings.Join(told, "\n")
	text := func(s string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, s)
	}
	status := map[string]int{"401": 401, "403": 403, "422": 422, "500": 500, "created": 201}[as]
	switch as {
	case "401", "403", "422", "500", "created":
		w.Header().Set("Location", "/x?t="+url.QueryEscape(all))
		w.Header().Set("WWW-Authenticate", "Bearer error_description="+fmt.Sprintf("%q", told))
		reply(w, status, map[string]any{"error": told[0], "message": all})
	case "gzip":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_ = json.NewEncoder(z).Encode(map[string]any{"told": told})
		_ = z.Close()
	case "chunks":
		c := http.NewResponseController(w)
		for i := range len(all) {
			_, _ = w.Write([]byte{all[i]})
			_ = c.Flush()
		}
	case "headers", "cookie", "trailer":
		name := map[string]string{"headers": "X-Told", "cookie": "Set-Cookie", "trailer": http.TrailerPrefix + "X-Told"}[as]
		for _, v := range told {
			w.Header().Add(name, "t="+strings.ReplaceAll(v, "\n", " "))
		}
		reply(w, http.StatusOK, map[string]any{"form": as})
	case "base64":
		for n := range 3 {
			for _, v := range told {
				text("abc"[:n] + base64.StdEncoding.EncodeToString([]byte("abc"[:n]+v)) + " " + base64.RawURLEncoding.EncodeToString([]byte("abc"[:n]+v)) + "\n")
			}
		}
	case "hex":
		text(hex.EncodeToString([]byte(all)) + strings.ToUpper(hex.EncodeToString([]byte(all))))
	case "escaped":
		text(url.QueryEscape(all) + url.PathEscape(all) + url.QueryEscape(url.QueryEscape(all)))
	case "unicode":
		escaped := ""
		for _, c := range []byte(all) {
			escaped += fmt.Sprintf(`\u%04x`, c)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"told":"`+escaped+`"}`)
	case "html":
		text(html.EscapeString(all))
	case "large":
		text(strings.Repeat("x", 300<<10) + all)
	case "redirect":
		w.Header().Set("Location", "http://127.0.0.2:9/?t="+url.QueryEscape(all))
		w.WriteHeader(http.StatusFound)
	case "status", "garbage", "header-line", "cut":
		broken(w, as, strings.ReplaceAll(all, "\n", " "))
	case "text":
		text(all)
	default:
		reply(w, http.StatusOK, map[string]any{"told": told, "form": as})
	}
}

// broken writes an answer that is hardly one.
func broken(w http.ResponseWriter, as, all string) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	format := map[string]string{
		"status": "HTTP/1.1 200 %s\r\nContent-Length: 0\r\n\r\n", "garbage": "%s\r\n\r\n", "header-line": "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"cut": "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n%s",
	}[as]
	_, _ = fmt.Fprintf(c, format, all)
	_ = c.Close()
}

func (p *teller) authorize(w http.ResponseWriter, r *http.Request, k *kind) {
	q := r.URL.Query()
	p.mu.Lock()
	code := k.secret("code")
	p.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?state="+url.QueryEscape(q.Get("state"))+"&code="+code, http.StatusFound)
}

// token gives tokens, and tells them and what it got wherever an answer has words.
func (p *teller) token(w http.ResponseWriter, r *http.Request, k *kind, body string) {
	told := p.told(k, r, body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.given++; k.dead && k.given > 1 {
		answer := map[string]any{"error": k.refusal(), "error_description": strings.Join(told, " "), "told": told}
		reply(w, http.StatusBadRequest, answer)
		return
	}
	access, refresh := k.secret("access token"), k.secret("refresh token")
	all := access + " " + refresh + " " + strings.Join(told, " ")
	life := 3600
	if k.given == 1 {
		life = 1
	}
	w.Header().Set("X-Told", url.QueryEscape(all))
	w.Header().Set("Set-Cookie", "told="+access)
	reply(w, http.StatusOK, map[string]any{
		"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": life,
		"scope": "read " + all, "account_id": "account-1", "account_name": "Ann " + all, "told": told,
	})
}

// waitHeld waits for requests that are held.
func (p *teller) waitHeld(ctx context.Context, n int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for range n {
		select {
		case <-p.held:
		case <-ctx.Done():
			p.t.Fatal("a request that was to be held did not come")
		}
	}
}
