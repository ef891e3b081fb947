package harbour

import (
	"crypto/rand"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

//go:embed openapi.json sidecar.yaml page.html
var files embed.FS

// parsePages reads the pages. They are part of the program: that they can be read is for tests
// to show.
func parsePages() *template.Template { return template.Must(template.ParseFS(files, "page.html")) }

// document serves a file with the provider's address in it.
func (p *Provider) document(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := files.ReadFile(name)
		if err != nil {
			http.Error(w, "it cannot be read", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(strings.ReplaceAll(string(b), Address, p.state.Address)))
	}
}

// page is what a page shows.
type page struct {
	Nonce    string
	URL      string
	Client   string
	Problem  string
	Scopes   []string
	Accounts []Account
	Query    url.Values // of the request for authorization
}

// Asked are the parameters that a decision repeats.
func (*page) Asked() []string {
	return []string{"client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method"}
}

func (p *Provider) show(w http.ResponseWriter, status int, name string, v *page) {
	v.Nonce, v.URL, v.Client = rand.Text(), p.URL, ClientID
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	// form-action also binds where the redirect that answers leads: the redirect URIs.
	to := append([]string{"'self'"}, origins(p.o.Redirect)...)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+v.Nonce+"'; base-uri 'none'; frame-ancestors 'none'; form-action "+strings.Join(to, " "))
	w.WriteHeader(status)
	_ = p.pages.ExecuteTemplate(w, name, v) // who asked may be gone
}

func origins(list []string) []string {
	var out []string
	for _, text := range list {
		if u, err := url.Parse(text); err == nil {
			out = append(out, u.Scheme+"://"+u.Host)
		}
	}
	return out
}

func (p *Provider) front(w http.ResponseWriter, _ *http.Request) {
	p.show(w, http.StatusOK, "front", &page{Accounts: p.o.Accounts})
}

// asked reads a request for authorization. What is wrong with it is shown, and leads nowhere: a
// redirect URI is taken as it was registered, and PKCE is wanted.
func (p *Provider) asked(w http.ResponseWriter, q url.Values) (ok bool) {
	why := ""
	switch {
	case q.Get("client_id") != ClientID:
		why = "Harbour does not know the client that sent you here."
	case !slices.Contains(p.o.Redirect, q.Get("redirect_uri")):
		why = "The address to lead you back to is not one that was registered."
	case q.Get("response_type") != "code" || q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256":
		why = "The request is not one for a code with PKCE."
	}
	if why != "" {
		p.show(w, http.StatusBadRequest, "problem", &page{Problem: why})
	}
	return why == ""
}

func (p *Provider) ask(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if p.asked(w, q) {
		p.show(w, http.StatusOK, "ask", &page{Accounts: p.o.Accounts, Query: q, Scopes: strings.Fields(q.Get("scope"))})
	}
}

// decide leads the browser back with what the person has decided.
func (p *Provider) decide(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || !p.asked(w, r.PostForm) {
		return
	}
	q := r.PostForm
	back := url.Values{"iss": {p.URL}}
	if q.Has("state") {
		back.Set("state", q.Get("state"))
	}
	a := p.account(q.Get("account"))
	switch {
	case q.Get("decision") != "allow":
		back.Set("error", "access_denied")
	case a == nil:
		p.show(w, http.StatusBadRequest, "problem", &page{Problem: "There is no such account."})
		return
	default:
		value := rand.Text()
		p.mu.Lock()
		if len(p.codes) >= maxCodes {
			clear(p.codes)
		}
		p.codes[hashOf(value)] = &code{
			account: a, scope: q.Get("scope"), redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), until: time.Now().Add(codeLife),
		}
		p.mu.Unlock()
		back.Set("code", value)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther) // #nosec G710 -- one of those that were registered
}
