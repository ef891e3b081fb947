package expr

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// SyntaxError says where and why a text is not JSON. It never repeats the text.
type SyntaxError struct {
	Offset int // in bytes from the start
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Reason)
}

// scanner checks a document against RFC 8259 in one pass, without building anything but the
// set of keys of the objects it is inside of.
type scanner struct {
	b     []byte
	keys  []string // of all open objects, outermost first
	depth int
	high  uint16 // the deepest depth seen
}

func (s *scanner) fail(at int, reason string) (int, error) {
	return 0, &SyntaxError{Offset: at, Reason: reason}
}

func (s *scanner) document() error {
	if i, ok := validUTF8(s.b); !ok {
		_, err := s.fail(i, "not UTF-8")
		return err
	}
	i, err := s.value(skipSpace(s.b, 0))
	if err != nil {
		return err
	}
	if i = skipSpace(s.b, i); i != len(s.b) {
		_, err = s.fail(i, "text after the value")
	}
	return err
}

func validUTF8(b []byte) (int, bool) {
	if utf8.Valid(b) {
		return 0, true
	}
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i, false
}

func (s *scanner) value(i int) (int, error) {
	if i >= len(s.b) {
		return s.fail(i, "the text ends where a value is expected")
	}
	switch c := s.b[i]; c {
	case '{':
		return s.object(i)
	case '[':
		return s.list(i)
	case '"':
		return s.str(i)
	case 't':
		return s.word(i, "true")
	case 'f':
		return s.word(i, "false")
	case 'n':
		return s.word(i, "null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			end, ok := scanNumber(s.b, i)
			if !ok {
				return s.fail(end, "not a number")
			}
			return end, nil
		}
	}
	return s.fail(i, "not the start of a value")
}

func (s *scanner) word(i int, w string) (int, error) {
	if len(s.b)-i < len(w) || string(s.b[i:i+len(w)]) != w {
		return s.fail(i, "not the start of a value")
	}
	return i + len(w), nil
}

func (s *scanner) enter(i int) error {
	if s.depth++; s.depth > MaxJSONDepth {
		_, err := s.fail(i, fmt.Sprintf("nested deeper than %d", MaxJSONDepth))
		return err
	}
	s.high = max(s.high, uint16(s.depth))
	return nil
}

// nesting returns how deep accepted text is nested.
func nesting(b []byte) int {
	depth, high := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			depth++
			high = max(high, depth)
		case '}', ']':
			depth--
		}
	}
	return high
}

func (s *scanner) list(i int) (int, error) {
	if err := s.enter(i); err != nil {
		return 0, err
	}
	i = skipSpace(s.b, i+1)
	if i < len(s.b) && s.b[i] == ']' {
		s.depth--
		return i + 1, nil
	}
	for {
		var err error
		if i, err = s.value(i); err != nil {
			return 0, err
		}
		i = skipSpace(s.b, i)
		if i >= len(s.b) {
			return s.fail(i, "the text ends inside a list")
		}
		switch s.b[i] {
		case ',':
			i = skipSpace(s.b, i+1)
		case ']':
			s.depth--
			return i + 1, nil
		default:
			return s.fail(i, "expected , or ]")
		}
	}
}

func (s *scanner) object(i int) (int, error) {
	if err := s.enter(i); err != nil {
		return 0, err
	}
	base := len(s.keys)
	var many map[string]struct{}
	i = skipSpace(s.b, i+1)
	if i < len(s.b) && s.b[i] == '}' {
		s.depth--
		return i + 1, nil
	}
	for {
		if i >= len(s.b) || s.b[i] != '"' {
			return s.fail(i, "expected a key in double quotes")
		}
		end, err := s.str(i)
		if err != nil {
			return 0, err
		}
		var fresh bool
		if many, fresh = s.addKey(base, many, stringAt(s.b, i, end)); !fresh {
			return s.fail(i, "the same key twice in one object")
		}
		if i = skipSpace(s.b, end); i >= len(s.b) || s.b[i] != ':' {
			return s.fail(i, "expected :")
		}
		if i, err = s.value(skipSpace(s.b, i+1)); err != nil {
			return 0, err
		}
		i = skipSpace(s.b, i)
		if i >= len(s.b) {
			return s.fail(i, "the text ends inside an object")
		}
		switch s.b[i] {
		case ',':
			i = skipSpace(s.b, i+1)
		case '}':
			s.depth--
			s.keys = s.keys[:base]
			return i + 1, nil
		default:
			return s.fail(i, "expected , or }")
		}
	}
}

// manyKeys is from how many keys on an object's keys are looked up in a map.
const manyKeys = 12

// addKey records a key of the innermost object, whose keys start at base; fresh is false for
// one that is there already.
func (s *scanner) addKey(base int, many map[string]struct{}, key string) (_ map[string]struct{}, fresh bool) {
	if many == nil && len(s.keys)-base >= manyKeys {
		many = make(map[string]struct{}, 2*manyKeys)
		for _, k := range s.keys[base:] {
			many[k] = struct{}{}
		}
	}
	if many != nil {
		n := len(many)
		many[key] = struct{}{}
		return many, len(many) > n
	}
	for _, k := range s.keys[base:] {
		if k == key {
			return many, false
		}
	}
	s.keys = append(s.keys, key)
	return many, true
}

// str checks a string and returns the offset behind its closing quote.
func (s *scanner) str(i int) (int, error) {
	b := s.b
	for i++; ; i++ {
		if i = skipPlain(b, i); i >= len(b) {
			break
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c < 0x20:
			return s.fail(i, "control character in a string")
		case c == '\\':
			i++
			if i >= len(b) {
				return s.fail(i, "the text ends inside a string")
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(b, i+1); !ok {
					return s.fail(i, `expected four hexadecimal digits after \u`)
				}
				i += 4
			default:
				return s.fail(i, "unknown escape in a string")
			}
		}
	}
	return s.fail(i, "the text ends inside a string")
}

func hex4(b []byte, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// scanNumber checks a number by RFC 8259 section 6 and returns the offset behind it, or the
// offset of what is wrong.
func scanNumber(b []byte, i int) (end int, ok bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i] >= '1' && b[i] <= '9':
		i = skipDigits(b, i)
	default:
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		j := skipDigits(b, i+1)
		if j == i+1 {
			return j, false
		}
		i = j
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := skipDigits(b, i)
		if j == i {
			return j, false
		}
		i = j
	}
	return i, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// The functions below work on text that a scanner has accepted.

// skipString returns the offset behind the string that starts at i.
func skipString(b []byte, i int) int {
	for i++; ; i += 2 { // over an escape: the characters after \u need no care
		if i = skipPlain(b, i); b[i] == '"' {
			return i + 1
		}
	}
}

// skipPlain returns the offset of the next byte that means something inside a string: a quote,
// a backslash or a control character. It looks at eight bytes at a time.
func skipPlain(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		// The lowest marked byte is exact; a borrow can only mark bytes above it wrongly.
		hit := ((quote - ones) &^ quote) | ((slash - ones) &^ slash) | ((x - ones*0x20) &^ x)
		if hit &= tops; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
		i += 8
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// structural marks the bytes that begin or end a string, a list or an object.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true}

// skipValue returns the offset behind the value that starts at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for {
			for !structural[b[i]] {
				i++
			}
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	case 't', 'n':
		return i + 4
	case 'f':
		return i + 5
	}
	end, _ := scanNumber(b, i)
	return end
}

// stringAt decodes the string between the quotes at i and end-1. Without an escape it is a view
// of b, which therefore must never change.
func stringAt(b []byte, i, end int) string {
	raw := b[i+1 : end-1]
	if k := bytes.IndexByte(raw, '\\'); k >= 0 {
		return unescape(raw, k)
	}
	return unsafe.String(unsafe.SliceData(raw), len(raw))
}

// unescape decodes a string with its first escape at k. A lone surrogate becomes U+FFFD.
func unescape(raw []byte, k int) string {
	out := append(make([]byte, 0, len(raw)), raw[:k]...)
	for i := k; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			out = append(out, c)
			continue
		}
		i++
		switch c = raw[i]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw, i+1)
			i += 4
			if utf16.IsSurrogate(r) {
				var low rune
				if i+6 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					low, _ = hex4(raw, i+3)
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	return string(out)
}
