package connect

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// The cookies of hosted pages. The prefix __Host- makes browsers take them over TLS, or on
// this very machine, for this host only and from this host only.
const (
	cookieBrowser = "__Host-bulkhead-connect" // knows the browser
	cookieLink    = "__Host-bulkhead-link"    // the link that it came by, to try again
)

// Limits of requests to hosted pages.
const (
	maxForm     = 128 << 10 // bytes of a form
	maxCallback = 16 << 10  // bytes of a callback's query
	maxParams   = 40        // parameters of a callback
	cookieLife  = time.Hour
)

// Pages serves the hosted pages and the callback of providers.
func (s *Service) Pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+"{secret}", s.getPage)
	mux.HandleFunc("POST "+Path+"{secret}/start", s.start)
	mux.HandleFunc("GET "+CallbackPath, s.callback)
	mux.HandleFunc("POST "+CallbackPath, s.postCallback)
	mux.HandleFunc("POST "+confirmPath, s.confirm)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.refuse(w, http.StatusNotFound, nil, "There is nothing here", "Please open the link again that you were given.")
	})
	return mux
}

// visitor is a request to a hosted page with what its link says.
type visitor struct {
	secret  string
	cookie  string // of the browser; empty: it has none
	link    *store.Link
	brand   *store.Brand
	offer   *offer
	tmpl    *store.Template // nil: none
	of      *store.CustomerInfo
	old     *store.ConnectionInfo // to be connected again; nil: a new one
	methods []*credential.Method
}

// visit reads the link of a request. When it cannot be used, the page says so and ok is
// false.
func (s *Service) visit(w http.ResponseWriter, r *http.Request) (v *visitor, ok bool) {
	v = &visitor{secret: r.PathValue("secret"), cookie: secretCookie(r, cookieBrowser)}
	l, err := s.link(r.Context(), v.secret, time.Now())
	if err == nil {
		v.link = l
		err = s.read(r.Context(), v)
	}
	switch {
	case err == nil:
		return v, true
	case errors.Is(err, ErrUsed) && r.Method == http.MethodPost && s.entered(w, r):
	case errors.Is(err, errClaimed):
		s.undecided(w, nil)
	case errors.Is(err, ErrUsed), errors.Is(err, store.ErrNotFound):
		s.refuse(w, http.StatusGone, nil, "This link cannot be used", "It was used already, has expired or was taken back. Please ask whoever sent it for a new one.")
	case errors.Is(err, ErrUnknown), errors.Is(err, errChanged):
		s.refuse(w, http.StatusGone, v.brand, "This link is out of date", "What it connects to has changed since it was made. Please ask whoever sent it for a new one.")
	default:
		s.broken(w, r, v.brand, err)
	}
	return nil, false
}

// errChanged means that a connector is not the one for which a link was made.
var errChanged = errors.New("the connector has changed")

// broken shows that something failed that the person cannot help.
func (s *Service) broken(w http.ResponseWriter, r *http.Request, b *store.Brand, err error) {
	s.log.ErrorContext(r.Context(), "hosted page failed", "err", err)
	s.refuse(w, http.StatusServiceUnavailable, b, "That did not work", "Something failed on our side. Nothing was connected. Please try again in some minutes.")
}

// read reads what a link leads to.
func (s *Service) read(ctx context.Context, v *visitor) error {
	org := s.db.Org(ctx, v.link.Organization)
	var err error
	if v.brand, err = org.Brand(); err != nil {
		return err
	}
	if v.of, err = org.Customer(v.link.Customer); err != nil {
		return err
	}
	if v.offer, err = s.offer(ctx, v.link.Organization, v.link.Connector, v.link.ConnectorVersion); err != nil {
		return err
	}
	if v.offer.manifest.Digest() != v.link.ConnectorDigest {
		return errChanged
	}
	if !v.link.Template.IsZero() {
		if v.tmpl, err = org.Template(v.link.Template); err != nil {
			return err
		}
		if v.tmpl.ConnectorDigest != v.link.ConnectorDigest || !isFor(v.tmpl, v.link.Customer) {
			return errChanged
		}
	}
	if !v.link.Connection.IsZero() {
		if v.old, err = s.db.Customer(ctx, v.link.Customer).Connection(v.link.Connection); err != nil {
			return err
		}
	}
	v.methods = v.offered()
	if len(v.methods) == 0 {
		return errChanged
	}
	return nil
}

// offered are the auth methods among which the person may choose: those of the link, and of
// those that need an OAuth client the one for which the organization has it. Where nothing
// else is offered, the person brings a client.
func (v *visitor) offered() (list []*credential.Method) {
	var own []*credential.Method
	for n := range v.offer.methods {
		m := &v.offer.methods[n]
		switch {
		case len(v.link.Methods) > 0 && !slices.Contains(v.link.Methods, m.ID):
		case len(m.Client()) == 0, v.tmpl != nil && v.tmpl.Method == m.ID:
			list = append(list, m)
		default:
			own = append(own, m)
		}
	}
	if len(list) == 0 {
		return own
	}
	return list
}

// chosen finds an offered method; the first one for an empty id. Nil: it is not offered.
func (v *visitor) chosen(id string) *credential.Method {
	for _, m := range v.methods {
		if id == "" || m.ID == id {
			return m
		}
	}
	return nil
}

// secretCookie is the value of a cookie that was made here, or "".
func secretCookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil || !isSecret(c.Value) {
		return ""
	}
	return c.Value
}

// setCookie gives a browser a cookie. Lax: the way back from a provider is a navigation from
// another site.
func setCookie(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(cookieLife / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// browserHash is how a browser is known to the vault.
func browserHash(cookie string) [32]byte { return sha256.Sum256([]byte(cookie)) }

// formToken proves that the browser with a cookie was shown the form of a link.
func formToken(cookie string, link [32]byte) string {
	sum := keyed(cookie, []byte("connect form\x00"), link[:])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// keyed is the HMAC of what stands one behind the other, with a secret that only a browser or the address of a link has. The
// first part says what it is for.
func keyed(secret string, parts ...[]byte) (sum [32]byte) {
	h := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		_, _ = h.Write(p) // a hash never fails
	}
	h.Sum(sum[:0])
	return sum
}

// checkForm refuses a form that was sent by another site, or by a browser that was not shown
// it.
func (s *Service) checkForm(r *http.Request, v *visitor) bool {
	if off(formsBound) {
		return true
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return false
	}
	return v.cookie != "" && hmac.Equal([]byte(r.PostForm.Get("form")), []byte(formToken(v.cookie, v.link.Hash)))
}

// formHash knows a form that a browser sent, to that browser: nobody else can tell from it what was entered, for its key is
// the browser's cookie, which is kept nowhere here.
func formHash(cookie string, link [32]byte, form url.Values) [32]byte {
	return keyed(cookie, []byte("connect entry\x00"), link[:], []byte(form.Encode()))
}

// getPage shows the form of a link.
func (s *Service) getPage(w http.ResponseWriter, r *http.Request) {
	v, ok := s.visit(w, r)
	if !ok {
		return
	}
	m := v.chosen(r.URL.Query().Get("method"))
	if m == nil {
		m = v.methods[0]
	}
	if v.cookie == "" {
		v.cookie = makeSecret()
	}
	setCookie(w, cookieBrowser, v.cookie)
	s.show(w, http.StatusOK, s.form(v, m, nil))
}

// start takes a filled form: it saves a credential, or sends the browser to the provider.
func (s *Service) start(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.refuse(w, http.StatusRequestEntityTooLarge, nil, "That was too much", "The form could not be read. Please open your link again.")
		return
	}
	v, ok := s.visit(w, r)
	if !ok {
		return
	}
	if !s.checkForm(r, v) {
		s.refuse(w, http.StatusForbidden, v.brand, "Please open your link again", "This form did not come from the page that you were shown, or your browser does not accept cookies. Nothing was connected.")
		return
	}
	m := v.chosen(r.PostForm.Get("method"))
	if m == nil {
		s.refuse(w, http.StatusBadRequest, v.brand, "Please open your link again", "This way to connect is not offered any more.")
		return
	}
	e := v.entry(m, r.PostForm)
	setCookie(w, cookieLink, v.secret)
	var err error
	var to *departure
	if m.Type == credential.OAuth2Code {
		if to, err = s.leave(r.Context(), v, m, e, r.PostForm.Get("other_account") == "yes"); err == nil {
			if isUnstated(m) {
				setCookie(w, cookieState, to.state)
			}
			http.Redirect(w, r, to.address, http.StatusSeeOther) // #nosec G710 -- to is built from the recipe of the method
			return
		}
	} else if err = s.enter(r.Context(), v, m, e, formHash(v.cookie, v.link.Hash, r.PostForm)); err == nil {
		s.connected(w, v.brand, v.link, v.offer.manifest.Title, "")
		return
	}
	s.startFailed(w, r, v, m, err)
}

// startFailed says why nothing came of a form.
func (s *Service) startFailed(w http.ResponseWriter, r *http.Request, v *visitor, m *credential.Method, err error) {
	var wrong InvalidError
	switch {
	case errors.Is(err, ErrUsed) && s.entered(w, r):
	case errors.As(err, &wrong):
		s.show(w, http.StatusUnprocessableEntity, s.form(v, m, &filled{r.PostForm, wrong, "Please check what you entered."}))
	case errors.Is(err, ErrUsed):
		s.refuse(w, http.StatusGone, v.brand, "This link cannot be used", "It was used already or has expired. Please ask whoever sent it for a new one.")
	case errors.Is(err, errNotServed):
		s.refuse(w, http.StatusNotImplemented, v.brand, "This cannot be connected here", v.offer.manifest.Title+" sends its answer in a way that this platform does not take. Nothing was connected.")
	case errors.Is(err, errRefused):
		s.show(w, http.StatusUnprocessableEntity, s.form(v, m, &filled{r.PostForm, nil, v.offer.manifest.Title + " did not accept what you entered. Nothing was connected."}))
	default:
		s.broken(w, r, v.brand, err)
	}
}

// errRefused means that a provider did not take what was entered.
var errRefused = errors.New("the provider refused the credential")

// connectionOf is the connection that a link makes, or connects again.
func (v *visitor) connectionOf() id.Connection {
	if v.link.Connection.IsZero() {
		return id.NewConnection(time.Now())
	}
	return v.link.Connection
}
