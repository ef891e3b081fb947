package egress

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

func scrubberOf(values ...string) *Scrubber {
	var vs []secret.Value
	for _, v := range values {
		vs = append(vs, secret.New([]byte(v)))
	}
	return NewScrubber(vs...)
}

func jsonText(v string) string {
	b, _ := json.Marshal(v)
	return string(b[1 : len(b)-1])
}

// everyEscape writes each byte of an ASCII text with format.
func everyEscape(v, format string) string {
	var b strings.Builder
	for i := range len(v) {
		fmt.Fprintf(&b, format, v[i])
	}
	return b.String()
}

// encodings is every form under which other services echo a value.
func encodings(v string) map[string]string {
	forms := map[string]string{
		"raw":             v,
		"in a sentence":   "token " + v + " is wrong",
		"query escape":    url.QueryEscape(v),
		"path escape":     url.PathEscape(v),
		"lower hex url":   lowerEscapes(url.QueryEscape(v)),
		"all url":         everyEscape(v, "%%%02X"),
		"all url, lower":  everyEscape(v, "%%%02x"),
		"url twice":       url.QueryEscape(url.QueryEscape(v)),
		"json":            jsonText(v),
		"json in json":    jsonText(jsonText(v)),
		"all \\u":         everyEscape(v, `\u%04x`),
		"all \\U":         everyEscape(v, `\u%04X`),
		"all \\x":         everyEscape(v, `\x%02x`),
		"json slash":      strings.ReplaceAll(jsonText(v), "/", `\/`),
		"url in json":     jsonText("https://a/?b=" + url.QueryEscape(v)),
		"html":            html.EscapeString(v),
		"html hex":        everyEscape(v, "&#x%02x;"),
		"hex":             hex.EncodeToString([]byte(v)),
		"HEX":             strings.ToUpper(hex.EncodeToString([]byte(v))),
		"bearer":          "Bearer " + v,
		"percent in json": strings.ReplaceAll(everyEscape(v, "%%%02X"), "%", `\u0025`),
	}
	for name, enc := range map[string]*base64.Encoding{"std": base64.StdEncoding, "raw": base64.RawStdEncoding, "url": base64.URLEncoding, "rawurl": base64.RawURLEncoding} {
		for _, before := range []string{"", "u", "us", "use", "user:"} {
			for _, after := range []string{"", ":", "ab", "abc"} {
				text := enc.EncodeToString([]byte(before + v + after))
				forms[fmt.Sprintf("base64 %s %d+%d", name, len(before), len(after))] = text
				forms[fmt.Sprintf("base64 %s %d+%d url", name, len(before), len(after))] = url.QueryEscape(text)
				forms[fmt.Sprintf("base64 %s %d+%d json", name, len(before), len(after))] = strings.ReplaceAll(text, "/", `\/`)
			}
		}
	}
	return forms
}

func lowerEscapes(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '%' {
			copy(b[i:], bytes.ToLower(b[i:i+3]))
		}
	}
	return string(b)
}

// leaks reports whether text still gives v, or eight of its bytes, to someone who tries encodings.
func leaks(text, v string) bool {
	views := []string{text}
	for layer := 0; layer < len(views) && layer < 4; layer++ {
		for _, decode := range []decoder{decodePercent, decodeBackslash, decodeEntity} {
			if plain := string(decode(nil, []byte(views[layer]), nil)); plain != views[layer] {
				views = append(views, plain)
			}
		}
	}
	parts := []string{hex.EncodeToString([]byte(v)), strings.ToUpper(hex.EncodeToString([]byte(v)))}
	for offset := range 3 {
		parts = append(parts, string(base64Form(base64.StdEncoding, []byte(v), offset).form), string(base64Form(base64.URLEncoding, []byte(v), offset).form))
	}
	for i := 0; i+MinScrub <= len(v); i++ {
		parts = append(parts, v[i:i+MinScrub])
	}
	for _, view := range views {
		for _, part := range parts {
			if strings.Contains(view, part) {
				return true
			}
		}
	}
	return false
}

func TestScrubFindsEveryEncoding(t *testing.T) {
	t.Parallel()
	tried, kept := 0, 0
	for _, v := range []string{canary, "sk_live_0123456789abcdef", "p@ss w&rd <1>'", "12345678", "äöü-geheim-€", strings.Repeat("k", 300) + "!"} {
		s := scrubberOf(v)
		for name, form := range encodings(v) {
			for _, around := range []string{"", "x", `{"a":"`, "\n"} {
				tried++
				text := around + form + around
				got, hits := s.Bytes([]byte(text))
				if hits == 0 || leaks(string(got), v) || !strings.Contains(string(got), secret.Redacted) {
					kept++
					t.Errorf("%q as %s: %q became %q with %d hits", v, name, text, got, hits)
				}
			}
		}
	}
	t.Logf("encodings tried %d, kept %d", tried, kept)
}

// The red twin: without a scrubber the same forms leak.
func TestScrubRedTwin(t *testing.T) {
	t.Parallel()
	var none *Scrubber
	reached := 0
	for _, form := range encodings(canary) {
		if got, hits := none.Bytes([]byte(form)); string(got) == form && hits == 0 {
			reached++
		}
	}
	if reached != len(encodings(canary)) {
		t.Errorf("without a scrubber %d of %d forms passed", reached, len(encodings(canary)))
	}
}

func TestScrubLeavesTheRest(t *testing.T) {
	t.Parallel()
	s := scrubberOf(canary, "sk_live_0123456789abcdef")
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{
		`{"a":"s3cr3t","b":[1,2,3],"c":"x\ny"}`, "100%", "%", "%zz", `\`, `\u00`, `{"emoji":"\ud83d\ude00"}`, "&amp;&#38;&;&#;",
		canary[:len(canary)-1], canary[1:], "sk_live_0123456789abcdeF", base64.StdEncoding.EncodeToString([]byte(canary[2:])),
	}
	const alphabet = `abcdefABCDEF0123456789+/-_=%\"u&;:{}[] `
	for range 2000 {
		b := make([]byte, 4+random.IntN(3000))
		for i := range b {
			b[i] = alphabet[random.IntN(len(alphabet))]
		}
		texts = append(texts, string(b))
	}
	wrong := 0
	for _, text := range texts {
		if got, hits := s.Bytes([]byte(text)); hits != 0 || string(got) != text {
			wrong++
			t.Errorf("%q became %q", text, got)
		}
	}
	t.Logf("clean texts tried %d, changed %d", len(texts), wrong)
}

func TestScrubKeepsJSON(t *testing.T) {
	t.Parallel()
	cases := []struct{ secret, text, want string }{
		{canary, `{"a":"` + jsonText(canary) + `","b":1}`, `{"a":"[redacted]","b":1}`},
		{"12345678", `{"id": 12345678, "n": 1}`, `{"id": "[redacted]", "n": 1}`},
		{"12345678", `{"id": -912345678.5e3}`, `{"id": "[redacted]"}`},
		{"12345678", `[12345678,"12345678"]`, `["[redacted]","[redacted]"]`},
		{"nabcdefgh", `{"a":"\nabcdefgh"}`, `{"a":"[redacted]"}`},
		{"0abcdefgh", `{"a":"\u0030abcdefgh"}`, `{"a":"[redacted]"}`},
		{"abcdefgh", `{"abcdefgh":"x\\abcdefgh"}`, `{"[redacted]":"x\\[redacted]"}`},
		{`":"abcdefgh`, `{"x":"abcdefghi"}`, `"[redacted]"`},
		{"12345678", `12345678`, `"[redacted]"`},
		{"abcdefghtrue", `{"a":"abcdefghtrue","b":true}`, `{"a":"[redacted]","b":true}`},
	}
	for _, c := range cases {
		got, hits := scrubberOf(c.secret).Bytes([]byte(c.text))
		if string(got) != c.want || hits == 0 || !json.Valid(got) {
			t.Errorf("%s in %s: got %s (%d hits), want %s", c.secret, c.text, got, hits, c.want)
		}
	}
}

func TestScrubOverlaps(t *testing.T) {
	t.Parallel()
	s := scrubberOf("abcdefgh", "efghijkl", "aaaaaaaa")
	for text, want := range map[string]string{
		"xabcdefghijklx":                 "x[redacted]x",
		"abcdefghefghijkl":               "[redacted][redacted]",
		"x" + strings.Repeat("a", 20):    "x[redacted]",
		"abcdefg%68ijkl":                 "[redacted]",
		"abcdefghabcdefgh":               "[redacted][redacted]",
		strings.Repeat("abcdefgh.", 100): strings.Repeat("[redacted].", 100),
	} {
		if got, _ := s.Bytes([]byte(text)); string(got) != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestScrubStream(t *testing.T) {
	t.Parallel()
	s := scrubberOf(canary)
	random := rand.New(rand.NewPCG(3, 4))
	filler := strings.Repeat("0123456789abcde\n", 1<<13)
	for round := range 3 {
		var in strings.Builder
		planted := 0
		for _, form := range encodings(canary) {
			in.WriteString(filler[:random.IntN(6000)] + "<" + form + ">")
			planted++
		}
		var out bytes.Buffer
		w := &scrubWriter{s: s, to: &out}
		rest := []byte(in.String())
		for len(rest) > 0 {
			n := min(len(rest), 1+random.IntN(1<<(1+random.IntN(17))))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		if in.Len() > scrubDeep {
			t.Fatalf("round %d: %d bytes are more than the deep part", round, in.Len())
		}
		if leaks(out.String(), canary) || w.hits < planted {
			t.Fatalf("round %d: %d hits of %d, leak %v", round, w.hits, planted, leaks(out.String(), canary))
		}
		if whole, _ := s.Bytes([]byte(in.String())); out.String() != string(whole) {
			t.Fatalf("round %d: stream and whole differ", round)
		}
	}
}

func TestScrubStreamBeyondTheDeepPart(t *testing.T) {
	t.Parallel()
	s := scrubberOf(canary, "aaaaaaaaaa")
	var out bytes.Buffer
	w := &scrubWriter{s: s, to: &out}
	piece := strings.Repeat("-", 999) + canary + "|" + base64.StdEncoding.EncodeToString([]byte(canary)) + strings.Repeat("a", 5000)
	const pieces = 500
	for range pieces {
		_, _ = w.Write([]byte(piece))
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); leaks(got, canary) || w.hits != 3*pieces || strings.Count(got, secret.Redacted) != 3*pieces || strings.Count(got, "-") != 999*pieces {
		t.Errorf("hits %d, marks %d, want %d; filler %d", w.hits, strings.Count(got, secret.Redacted), 3*pieces, strings.Count(got, "-"))
	}
}

func TestShortSecretsAreLeftOut(t *testing.T) {
	t.Parallel()
	if s := scrubberOf("1234567"); s != nil {
		t.Error("a seven-byte secret is scrubbed")
	}
	if s := scrubberOf(); s != nil {
		t.Error("no secrets make a scrubber")
	}
}

func FuzzScrub(f *testing.F) {
	for _, form := range encodings(canary) {
		f.Add("before ", form, " after", canary, uint16(7))
	}
	f.Add("%", "%73", `\u`, "abcdefgh", uint16(1))
	f.Fuzz(func(t *testing.T, before, middle, after, value string, cut uint16) {
		if len(value) < MinScrub || len(value) > 200 || strings.Contains(secret.Redacted, value) || strings.Contains(value, "[redacted]") {
			return
		}
		s := scrubberOf(value)
		text := before + middle + value + after + url.QueryEscape(value) + middle + jsonText(value)
		got, hits := s.Bytes([]byte(text))
		if hits == 0 || strings.Contains(string(got), value) {
			t.Errorf("%q in %q left %q", value, text, got)
		}
		if json.Valid([]byte(text)) && !json.Valid(got) {
			t.Errorf("JSON %q became %q", text, got)
		}
		var out bytes.Buffer
		w := &scrubWriter{s: s, to: &out}
		at := min(int(cut), len(text))
		_, _ = w.Write([]byte(text[:at]))
		_, _ = w.Write([]byte(text[at:]))
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), value) || w.hits == 0 {
			t.Errorf("%q in %q left %q in the stream", value, text, out.String())
		}
	})
}

func BenchmarkScrub(b *testing.B) {
	s := scrubberOf(canary, "Bearer "+canary)
	line := `{"id":"ord_0123456789","total":119.95,"currency":"EUR","lines":[{"sku":"A-1","qty":2,"price":19.9}],"note":"plain text"},`
	for name, text := range map[string]string{
		"plain4K":   "[" + strings.Repeat(line, 34) + `"x"]`,
		"escaped4K": "[" + strings.Repeat(strings.Replace(line, "plain text", `with \"quotes\" and \n and 50%25`, 1), 26) + `"x"]`,
		"hit4K":     "[" + strings.Repeat(line, 33) + `"` + jsonText(canary) + `"]`,
		"plain1M":   strings.Repeat(line, 1<<20/len(line)),
	} {
		body := []byte(text)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				s.Bytes(body)
			}
		})
	}
}

func BenchmarkNewScrubber(b *testing.B) {
	secrets := [][]byte{[]byte(canary), []byte("Bearer " + canary)}
	b.ReportAllocs()
	for b.Loop() {
		newScrubber(secrets, nil)
	}
}
