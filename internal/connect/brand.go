package connect

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of a brand.
const (
	// MaxLogo is the largest logo, in bytes.
	MaxLogo       = 64 << 10
	maxTitle      = 100
	maxReturnURLs = 20
	maxURL        = 2048
)

// colourNames are the places of a page that have a colour of their own.
func colourNames() []string { return []string{"accent", "background", "text"} }

var colourText = regexp.MustCompile(`\A#[0-9a-f]{6}\z`)

// PutBrand says how the organization looks on hosted pages, and where those may lead back
// to. Errors are [InvalidError].
func (s *Service) PutBrand(ctx context.Context, o id.Org, b *store.Brand) error {
	var wrong InvalidError
	if len(b.Title) > maxTitle || strings.ContainsFunc(b.Title, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		wrong = append(wrong, Wrong{"title", fmt.Sprintf("more than %d bytes, or more than one line", maxTitle)})
	}
	for name, colour := range b.Colours {
		if !slices.Contains(colourNames(), name) {
			wrong = append(wrong, Wrong{"colours", "there is accent, background and text"})
		} else if !colourText.MatchString(colour) {
			wrong = append(wrong, Wrong{"colours." + name, "want a colour such as #1a2b3c"})
		}
	}
	if len(b.Logo) > 0 && (len(b.Logo) > MaxLogo || imageType(b.Logo) == "") {
		wrong = append(wrong, Wrong{"logo", fmt.Sprintf("want a PNG, JPEG, GIF or WebP of at most %d bytes", MaxLogo)})
	}
	if len(b.ReturnURLs) > maxReturnURLs {
		wrong = append(wrong, Wrong{"return_urls", fmt.Sprintf("more than %d", maxReturnURLs)})
	}
	for n, text := range b.ReturnURLs {
		if u := plainURL(text); u == nil || u.RawQuery != "" || !strings.HasSuffix(u.Path, "/") {
			wrong = append(wrong, Wrong{fmt.Sprintf("return_urls[%d]", n), "want the beginning of an address, such as https://app.example.com/settings/"})
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(o).PutBrand(b) })
}

// imageType is the media type of an image that every browser shows and that runs nothing;
// empty for anything else. SVG is not among them: it is a document.
func imageType(b []byte) string {
	switch t := http.DetectContentType(b); t {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return t
	}
	return ""
}

// plainURL reads an absolute https URL, or one of http to this very machine, without user
// and fragment; nil for anything else. What a browser would read in another way than this
// does, such as a backslash, is refused.
func plainURL(text string) *url.URL {
	if len(text) > maxURL || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\\\"<>^`{|}", r) }) {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return nil
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback()) {
		return u
	}
	return nil
}

// mayReturn reports whether a hosted page may lead back to an address: one that begins as
// one of the organization's list does.
func mayReturn(allowed []string, text string) bool {
	u := plainURL(text)
	if u == nil || strings.Contains(u.EscapedPath(), "%") || slices.Contains(strings.Split(u.Path, "/"), "..") {
		return false
	}
	if off(returnsChecked) {
		return true
	}
	return slices.ContainsFunc(allowed, func(prefix string) bool {
		p := plainURL(prefix)
		return p != nil && p.Scheme == u.Scheme && strings.EqualFold(p.Host, u.Host) && (strings.HasPrefix(u.Path, p.Path) || u.Path+"/" == p.Path)
	})
}
