package egress

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

const (
	// scrubDeep is how far into a body escapes are looked through; beyond it only
	// the fixed forms (raw, base64, hex) are found.
	scrubDeep = 1 << 20
	// maxNesting is how many layers of escapes are looked through.
	maxNesting = 2
	// longestEscape is the most bytes of text that one byte of a secret can take:
	// two layers, as in %255c%2575 or \\u0041.
	longestEscape = 12
)

// Scrubber removes a fixed set of secrets from what the other side sends:
// verbatim, base64 in its three alignments and two alphabets, hex, and through
// up to two layers of URL, JSON and HTML escapes in any mixture and case.
// It is immutable and safe for concurrent use; nil removes nothing.
type Scrubber struct {
	m *matcher
}

// NewScrubber makes a Scrubber; values shorter than [MinScrub] are left out.
func NewScrubber(values ...secret.Value) *Scrubber {
	var secrets [][]byte
	for _, v := range values {
		if b := v.Reveal(); len(b) >= MinScrub {
			secrets = append(secrets, bytes.Clone(b))
		}
	}
	return newScrubber(secrets, nil)
}

// newScrubber removes secrets in every form, and lines as they stand.
func newScrubber(secrets, lines [][]byte) *Scrubber {
	if len(secrets) == 0 {
		return nil
	}
	var patterns []pattern
	seen := map[string]bool{}
	add := func(p pattern) {
		if !seen[string(p.form)] {
			seen[string(p.form)] = true
			patterns = append(patterns, p)
		}
	}
	for _, v := range secrets {
		add(pattern{form: v})
		if bytes.ContainsRune(v, ' ') {
			add(pattern{form: bytes.ReplaceAll(v, []byte(" "), []byte("+"))})
		}
		lower := hex.AppendEncode(nil, v)
		add(pattern{form: lower})
		add(pattern{form: bytes.ToUpper(lower)})
		for offset := range 3 {
			add(base64Form(base64.RawStdEncoding, v, offset))
			add(base64Form(base64.RawURLEncoding, v, offset))
		}
		if other := asLatin1(v); other != nil {
			add(pattern{form: other})
		}
	}
	for _, v := range lines {
		add(pattern{form: v})
	}
	return &Scrubber{m: newMatcher(patterns)}
}

// asLatin1 returns v as a server sends it on that takes the bytes of a header for
// ISO 8859-1 and writes UTF-8; nil when that changes nothing.
func asLatin1(v []byte) []byte {
	var out []byte
	for _, c := range v {
		out = utf8.AppendRune(out, rune(c))
	}
	if len(out) == len(v) {
		return nil
	}
	return out
}

// base64Form returns the characters that v, standing offset bytes after a
// multiple of three, always has in base64, whatever stands around it.
func base64Form(enc *base64.Encoding, v []byte, offset int) pattern {
	text := enc.AppendEncode(nil, append(make([]byte, offset), v...))
	p := pattern{left: offset > 0}
	skip := 0
	if offset > 0 {
		skip = offset + 1
	}
	end := (offset + len(v)) * 8 / 6
	p.right = end < len(text)
	p.form = text[skip:end]
	return p
}

// Bytes returns text without the secrets and how many places were redacted. The
// result is text itself when there are none. JSON stays JSON.
func (s *Scrubber) Bytes(text []byte) ([]byte, int) {
	if s == nil || len(text) < s.m.shortest {
		return text, 0
	}
	spans := s.spans(text)
	if len(spans) == 0 {
		return text, 0
	}
	if looksJSON(text) && json.Valid(text) {
		return redactJSON(text, spans), len(spans)
	}
	return redact(text, spans), len(spans)
}

// String is [Scrubber.Bytes] for a header value.
func (s *Scrubber) String(text string) (string, int) {
	if s == nil || len(text) < s.m.shortest {
		return text, 0
	}
	spans := s.spans([]byte(text))
	if len(spans) == 0 {
		return text, 0
	}
	return string(redact([]byte(text), spans)), len(spans)
}

// spans finds every secret in text, merged and in order.
func (s *Scrubber) spans(text []byte) []span {
	found := s.m.find(text, nil)
	if escapes(text) {
		v := search{m: s.m, text: text, found: found}
		v.views(text)
		found = v.found
	}
	return merge(found)
}

func escapes(text []byte) bool {
	return bytes.IndexByte(text, '%') >= 0 || bytes.IndexByte(text, '\\') >= 0 || bytes.IndexByte(text, '&') >= 0
}

// search looks for secrets behind escapes: it decodes one kind after the other,
// nested, and maps only what it finds back to the text.
type search struct {
	m     *matcher
	text  []byte
	found []span
	// chain are the decoders that lead from text to the present view, and plain the
	// buffers of the views on the way.
	chain [maxNesting]decoder
	plain [maxNesting][]byte
	depth int
}

func (v *search) views(text []byte) {
	if v.depth == maxNesting {
		return
	}
	if bytes.IndexByte(text, '%') >= 0 {
		v.view(decodePercent, text)
	}
	if bytes.IndexByte(text, '\\') >= 0 {
		v.view(decodeBackslash, text)
	}
	if bytes.IndexByte(text, '&') >= 0 {
		v.view(decodeEntity, text)
	}
}

func (v *search) view(decode decoder, text []byte) {
	buf := v.plain[v.depth]
	if buf == nil {
		buf = make([]byte, 0, len(text))
	}
	plain := decode(buf[:0], text, nil)
	v.plain[v.depth] = plain
	if len(plain) == len(text) {
		return
	}
	v.chain[v.depth] = decode
	v.depth++
	if hits := v.m.find(plain, nil); len(hits) > 0 {
		offsets := v.offsets()
		for _, hit := range hits {
			v.found = append(v.found, span{offsets[hit.start], offsets[hit.end]})
		}
	}
	v.views(plain)
	v.depth--
}

// offsets maps the present view to the text.
func (v *search) offsets() []int {
	var all []int
	text := v.text
	for _, decode := range v.chain[:v.depth] {
		offsets := make([]int, 0, len(text)+1)
		text = decode(make([]byte, 0, len(text)), text, &offsets)
		all = compose(offsets, all)
	}
	return all
}

// compose maps offsets into a view to offsets into the original.
func compose(offsets, from []int) []int {
	if from == nil {
		return offsets
	}
	for i, o := range offsets {
		offsets[i] = from[o]
	}
	return offsets
}

func merge(spans []span) []span {
	if len(spans) < 2 {
		return spans
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	out := spans[:1]
	for _, s := range spans[1:] {
		if last := &out[len(out)-1]; s.start < last.end {
			last.end = max(last.end, s.end)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func redact(text []byte, spans []span) []byte {
	out := make([]byte, 0, len(text))
	at := 0
	for _, s := range spans {
		out = append(out, text[at:s.start]...)
		out = append(out, secret.Redacted...)
		at = s.end
	}
	return append(out, text[at:]...)
}

func looksJSON(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	return len(text) > 0 && (strings.IndexByte("{[\"-", text[0]) >= 0 || text[0] >= '0' && text[0] <= '9')
}

// redactJSON redacts a valid document so that it stays one: a cut escape is
// taken as a whole, a number with a secret becomes a string. Where that is not
// enough (a secret that spans tokens) the whole document is replaced.
func redactJSON(text []byte, spans []span) []byte {
	out := make([]byte, 0, len(text))
	at := 0
	w := jsonWalk{text: text}
	for _, s := range spans {
		s.start = max(s.start, at)
		mark := secret.Redacted
		if w.to(s.start); w.inString {
			s.start = w.token
			w.to(s.end)
			s.end = max(s.end, w.at)
		} else {
			mark = `"` + secret.Redacted + `"`
			s = wholeNumber(text, s)
		}
		if s.start < at || s.end < s.start {
			continue
		}
		out = append(out, text[at:s.start]...)
		out = append(out, mark...)
		at = s.end
	}
	out = append(out, text[at:]...)
	if !json.Valid(out) {
		return []byte(`"` + secret.Redacted + `"`)
	}
	return out
}

func wholeNumber(text []byte, s span) span {
	for s.start > 0 && numberByte(text[s.start-1]) {
		s.start--
	}
	for s.end < len(text) && numberByte(text[s.end]) {
		s.end++
	}
	return s
}

func numberByte(c byte) bool { return c >= '0' && c <= '9' || strings.IndexByte("+-.eE", c) >= 0 }

// jsonWalk goes through a valid document and knows whether it is in a string.
type jsonWalk struct {
	text     []byte
	at       int
	token    int // start of the character or escape that at lies behind or in
	inString bool
}

// to goes on until the character or escape that contains offset: token is its
// start and at is offset, or the end of the escape when offset cuts one.
func (w *jsonWalk) to(offset int) {
	w.token = w.at
	for w.at < offset {
		w.token = w.at
		switch c := w.text[w.at]; {
		case c == '"':
			w.inString = !w.inString
			w.at++
		case c == '\\' && w.inString:
			w.at += escapeLength(w.text[w.at:])
		default:
			w.at++
		}
	}
	if w.at == offset {
		w.token = w.at
	}
}

func escapeLength(rest []byte) int {
	const unicode, short = 6, 2
	if len(rest) > 1 && rest[1] == 'u' {
		return unicode
	}
	return short
}
