package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/canon"
)

// Text is what people read: one text for everybody, or one per locale (BCP 47 tags such as `en` or `de-AT`).
// At most one of the two is set. The zero Text is nothing.
type Text struct {
	Plain  string
	Locale map[string]string
}

// IsZero says that nothing was written.
func (t Text) IsZero() bool { return t.Plain == "" && len(t.Locale) == 0 }

// In returns the text for a locale: that locale's, else its language's ("de" for "de-AT"), else English, else the
// first by name of locale.
func (t Text) In(locale string) string {
	if len(t.Locale) == 0 {
		return t.Plain
	}
	language, _, _ := strings.Cut(locale, "-")
	for _, name := range []string{locale, language, "en"} {
		if s, ok := t.Locale[name]; ok {
			return s
		}
	}
	return t.Locale[slices.Sorted(maps.Keys(t.Locale))[0]]
}

// MarshalJSON writes a string or an object of locales.
func (t Text) MarshalJSON() ([]byte, error) {
	if len(t.Locale) > 0 {
		return canon.Marshal(t.Locale)
	}
	return canon.Marshal(t.Plain)
}

// UnmarshalJSON reads a string or an object of locales.
func (t *Text) UnmarshalJSON(b []byte) error {
	*t = Text{}
	if bytes.HasPrefix(b, []byte("{")) {
		if err := json.Unmarshal(b, &t.Locale); err != nil {
			return err
		}
		if len(t.Locale) == 0 {
			return errors.New("text without a locale")
		}
		return nil
	}
	return json.Unmarshal(b, &t.Plain)
}
