package suite

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// class says what a mark stands for, and with that where it may never be.
type class string

const (
	credential class = "credential" // opens someone else's system
	identifier class = "identifier" // the user name beside a password: it goes back to the flow when a service repeats it
	config     class = "config"     // values of an instance
	event      class = "event"      // what comes in through the API in clear: trigger, label, callback
	answer     class = "answer"     // what other systems answer
	product    class = "product"    // what code steps make and log
	key        class = "key"        // opens what is stored here
)

// mark is a value of high entropy that is planted in one place.
type mark struct {
	name  string
	class class
	value string // as planted, with characters that encodings change
	core  string // what a search looks for: random, without such characters
	owner string // whose it is; empty: the system's
	// encoded says that the value is another mark's, encoded. Encoded once more it is one of the transformations that nothing
	// can look for in answers.
	encoded bool
	// among says that other marks are of its value too, so that where it stands they are found as well.
	among bool
}

// newMark makes a mark whose value has characters around its core that URL, JSON and
// HTML encodings change.
func newMark(c class, name string) *mark {
	core := rand.Text()
	return &mark{name: name, class: c, value: "m+/=" + core + "~&<", core: core}
}

// newPlain makes a mark for places that allow no such characters.
func newPlain(c class, name string) *mark {
	core := rand.Text()
	return &mark{name: name, class: c, value: core, core: core}
}

// derived is the mark that a program makes of another one's value by reversing it: it is
// nowhere before that program ran.
func (m *mark) derived(c class, name string) *mark {
	back := func(s string) string {
		r := []rune(s)
		slices.Reverse(r)
		return string(r)
	}
	return &mark{name: name, class: c, value: back(m.value), core: back(m.core)}
}

// keyMark is the mark of a key's bytes.
func keyMark(name string, b []byte) *mark {
	return &mark{name: name, class: key, value: string(b), core: string(b)}
}

// encodings are every form in which a core is looked for.
func encodings(core string) map[string][]byte {
	b := []byte(core)
	out := map[string][]byte{
		"raw":         b,
		"upper case":  []byte(strings.ToUpper(core)),
		"lower case":  []byte(strings.ToLower(core)),
		"hex":         []byte(hex.EncodeToString(b)),
		"HEX":         []byte(strings.ToUpper(hex.EncodeToString(b))),
		"URL-escaped": []byte(url.QueryEscape(core)),
		"URL path":    []byte(url.PathEscape(core)),
		"percent":     []byte("%" + strings.ReplaceAll(strings.TrimSuffix(fmt.Sprintf("% X", b), " "), " ", "%")),
		"UTF-16":      utf16Bytes(core),
	}
	if j, err := json.Marshal(core); err == nil {
		out["JSON-escaped"] = j[1 : len(j)-1]
	}
	escaped := ""
	for _, c := range b {
		escaped += fmt.Sprintf(`\u%04x`, c)
	}
	out[`JSON \u`] = []byte(escaped)
	for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for shift, drop := range []int{0, 2, 3} {
			s := e.EncodeToString(append(make([]byte, shift), b...))
			out[fmt.Sprintf("%s+%d", name, shift)] = []byte(s[drop : len(s)-(len(b)+shift)%3-1])
		}
	}
	return out
}

func utf16Bytes(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

type pattern struct {
	mark     *mark
	encoding string
	bytes    []byte
}

// searcher looks for every encoding of many marks in one pass.
type searcher struct {
	filter   []uint64 // one bit for each beginning of three bytes
	patterns map[[4]byte][]pattern
	longest  int
}

func newSearcher(marks []*mark) *searcher {
	s := &searcher{filter: make([]uint64, 1<<18), patterns: map[[4]byte][]pattern{}}
	for _, m := range marks {
		seen := map[string]bool{}
		for name, b := range encodings(m.core) {
			if len(b) < 8 || seen[string(b)] || m.class == key && strings.HasSuffix(name, "case") {
				continue
			}
			seen[string(b)] = true
			head := [4]byte(b)
			s.patterns[head] = append(s.patterns[head], pattern{m, name, b})
			k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
			s.filter[k>>6] |= 1 << (k & 63)
			s.longest = max(s.longest, len(b))
		}
	}
	return s
}

// hit is where a mark was found.
type hit struct {
	mark            *mark
	encoding, where string
}

func (h hit) String() string {
	return fmt.Sprintf("%s %q as %s in %s", h.mark.class, h.mark.name, h.encoding, h.where)
}

// in looks through bytes.
func (s *searcher) in(b []byte, where string) []hit {
	var out []hit
	for i := 0; i+4 <= len(b); i++ {
		k := uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16
		if k == 0 {
			if i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:]) == 0 {
				i += 5 // the next three bytes that are not all zero begin later
			}
			continue
		}
		if s.filter[k>>6]&(1<<(k&63)) == 0 {
			continue
		}
		for _, p := range s.patterns[[4]byte(b[i:])] {
			if bytes.HasPrefix(b[i:], p.bytes) {
				out = append(out, hit{p.mark, p.encoding, where})
			}
		}
	}
	return out
}

// inflated looks through bytes, and through everything in them that gzip has packed.
func (s *searcher) inflated(b []byte, where string) []hit {
	out := s.in(b, where)
	for rest, at := b, 0; ; {
		i := bytes.Index(rest, []byte{0x1f, 0x8b, 8})
		if i < 0 {
			return out
		}
		at += i
		if z, err := gzip.NewReader(bytes.NewReader(rest[i:])); err == nil {
			plain, _ := io.ReadAll(io.LimitReader(z, 16<<20)) // what could be read of a cut one counts
			out = append(out, s.in(plain, fmt.Sprintf("%s, gzip at %d", where, at))...)
		}
		rest, at = rest[i+3:], at+3
	}
}

// inTree looks through every file below a directory and the names of the files.
func (s *searcher) inTree(t *testing.T, dir string) (hits []hit, files int, size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		hits = append(hits, s.in([]byte(rel), "the name "+rel)...)
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files, size = files+1, size+int64(len(b))
		hits = append(hits, s.inflated(b, rel)...)
		return nil
	})
	if err != nil {
		t.Fatalf("search %s: %v", dir, err)
	}
	return hits, files, size
}

// summary counts hits by mark and place.
func summary(hits []hit) string {
	count := map[string]int{}
	for _, h := range hits {
		count[h.String()]++
	}
	var lines []string
	for k, n := range count {
		lines = append(lines, fmt.Sprintf("%d× %s", n, k))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestSearcherFindsEveryEncoding is the red twin of every search: what it cannot find
// would be no proof.
func TestSearcherFindsEveryEncoding(t *testing.T) {
	t.Parallel()
	m := newMark(credential, "planted")
	k := keyMark("key", []byte(rand.Text() + "\x00\xff\"<>&+/ \n")[:32])
	others := []*mark{newMark(answer, "other"), newPlain(event, "another")}
	s := newSearcher(append(others, m, k))
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	tried := 0
	plant := func(m *mark, how string, form []byte) {
		t.Helper()
		tried++
		b := slices.Clone(noise)
		copy(b[len(b)/2+tried%7:], form)
		hits := s.inflated(b, "noise")
		if !slices.ContainsFunc(hits, func(h hit) bool { return h.mark == m }) {
			t.Errorf("%s %s: not found", m.name, how)
		}
		if slices.ContainsFunc(hits, func(h hit) bool { return h.mark != m }) {
			t.Errorf("%s %s: found something else: %s", m.name, how, summary(hits))
		}
	}
	for _, m := range []*mark{m, k} {
		v := m.value
		plant(m, "raw", []byte(v))
		plant(m, "hex", []byte(hex.EncodeToString([]byte("user:"+v))))
		plant(m, "HEX", []byte(strings.ToUpper(hex.EncodeToString([]byte(v)))))
		plant(m, "query", []byte("a="+url.QueryEscape(v)+"&b"))
		plant(m, "path", []byte("/a/"+url.PathEscape(v)+"/b"))
		plant(m, "UTF-16", utf16Bytes(v))
		for _, prefix := range []string{"", "u", "us", "user:"} {
			for name, e := range map[string]*base64.Encoding{"std": base64.StdEncoding, "url": base64.URLEncoding, "raw": base64.RawStdEncoding} {
				plant(m, "base64 "+name+" after "+prefix, []byte(e.EncodeToString([]byte(prefix+v+"tail"))))
			}
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write([]byte(`{"a":"` + v + `"}`))
		_ = z.Close()
		plant(m, "gzip", packed.Bytes())
	}
	j, _ := json.Marshal(map[string]string{"a": m.value})
	plant(m, "JSON", j)
	plant(m, "JSON in JSON", []byte(fmt.Sprintf("%q", j)))
	plant(m, "lower case", []byte(strings.ToLower(m.value)))
	if hits := s.inflated(noise, "noise"); len(hits) != 0 {
		t.Errorf("found in noise: %s", summary(hits))
	}
	t.Logf("searcher: %d planted forms of 2 marks, each in 1 MiB of noise: found %d, false finds 0; %d encodings per mark", tried, tried, len(encodings(m.core)))
}
