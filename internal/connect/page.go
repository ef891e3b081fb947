package connect

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

//go:embed page/page.html page/style.css
var files embed.FS

// parsePages reads the hosted pages. They are part of the program: that they can be read is
// for tests to show.
func parsePages() (*template.Template, string) {
	css, err := files.ReadFile("page/style.css")
	if err != nil {
		return template.New("page"), ""
	}
	return template.Must(template.ParseFS(files, "page/page.html")), string(css)
}

// page is what a hosted page shows. What a request said is not among it, but for values that
// somebody entered in this browser and that are shown to be corrected.
type page struct {
	Nonce        string
	Style        template.CSS
	Logo         template.URL
	Organization string
	Heading      string

	// Of a result.
	Result       bool
	Tone         string // good or bad
	Lines        []string
	OtherAccount bool
	Confirm      string // what is confirmed; empty: nothing
	Return       string
	ReturnHost   string

	// Of a form.
	Connector string
	Customer  string
	Problem   string
	Problems  []string
	Methods   []choice
	Method    string
	Help      string
	Action    string
	Again     string // address of the form
	Form      string // proves that this browser was shown the form
	Hidden    []hidden
	Fields    []input
	Hosts     []string
	Tokens    []string // where else tokens are made of the credential
	Files     []string // where files are, without the credential
	Scopes    []string
	Asks      bool // the provider asks the person
	SignIn    string
	// With whom the connection will be shared, and for which actions: empty are nobody and all of them.
	SharedWith string
	SharedFor  []string
	Expires    string

	to []string // origins to which the form may lead
}

// choice is a way to connect.
type choice struct {
	Title, Link string
	Chosen      bool
}

type hidden struct{ Name, Value string }

// input is one field of a form.
type input struct {
	ID, Name, Title, Help, Value, Problem string
	Choices                               []string
	Secret, Multiline, Optional           bool
}

// Described reports whether there is something to read below the field.
func (i input) Described() bool { return i.Help != "" || i.Problem != "" }

// brandColours are the colours of a page without a brand.
func brandColours() map[string]string {
	return map[string]string{"accent": "#1f4fd8", "background": "#eef1f5", "text": "#1c2430"}
}

// dress gives a page the looks of an organization. Colours were checked when they were
// saved, and are again: nothing else gets into the style.
func (p *page) dress(b *store.Brand) {
	p.Organization = b.Title
	colours := brandColours()
	for name := range colours {
		if c := b.Colours[name]; colourText.MatchString(c) {
			colours[name] = c
		}
	}
	if t := imageType(b.Logo); t != "" {
		p.Logo = template.URL("data:" + t + ";base64," + base64.StdEncoding.EncodeToString(b.Logo)) // #nosec G203 -- an image of a known type, in base64
	}
	p.colour(colours)
}

func (p *page) colour(c map[string]string) {
	p.Style = template.CSS(fmt.Sprintf(":root{--accent:%s;--on-accent:%s;--background:%s;--text:%s}", // #nosec G203 -- four colours that were matched
		c["accent"], onColour(c["accent"]), c["background"], c["text"]))
}

// onColour is black or white, whichever reads better on a colour (WCAG 2.2, relative
// luminance, approximated).
func onColour(c string) string {
	n, err := strconv.ParseUint(strings.TrimPrefix(c, "#"), 16, 32)
	if err != nil {
		return "#ffffff"
	}
	if r, g, b := n>>16&0xff, n>>8&0xff, n&0xff; 2126*r+7152*g+722*b > 10000*150 {
		return "#111111"
	}
	return "#ffffff"
}

// show writes a page. Its policy lets it show its own style and logo, post to where it
// leads, and nothing else.
func (s *Service) show(w http.ResponseWriter, status int, p *page) {
	p.Nonce = rand.Text()
	if p.Style == "" {
		p.colour(brandColours())
	}
	p.Style += template.CSS(s.css) // #nosec G203 -- a part of the program
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, "page", p); err != nil {
		s.log.Error("page cannot be made", "err", err)
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
	frames := "; frame-ancestors 'none'"
	if off(pagesFramed) {
		frames = ""
	} else {
		h.Set("X-Frame-Options", "DENY")
	}
	// form-action also binds where a redirect that answers the form may lead.
	to := strings.Join(append([]string{"'self'"}, p.to...), " ")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+p.Nonce+"'; img-src data:; base-uri 'none'; form-action "+to+frames)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who asked may be gone
}

// refuse shows what went wrong, in words for the person who connects.
func (s *Service) refuse(w http.ResponseWriter, status int, b *store.Brand, heading string, lines ...string) {
	p := &page{Result: true, Tone: "bad", Heading: heading, Lines: lines}
	if b != nil {
		p.dress(b)
	}
	s.show(w, status, p)
}

// originsOf are the origins of URL templates for a content security policy: variables become
// a wildcard for the rest of their host.
func originsOf(template string, hosts []string) []string {
	scheme, rest, _ := strings.Cut(template, "://")
	if len(hosts) == 0 {
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		hosts = []string{rest[:end]}
	}
	var out []string
	for _, h := range hosts {
		if !strings.ContainsAny(h, " ;,'\"{}") {
			out = append(out, scheme+"://"+h)
		}
	}
	return out
}

// day shows a time to a person whose zone is not known.
func day(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04") + " UTC" }

// hostOf is the host of an address for display.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
