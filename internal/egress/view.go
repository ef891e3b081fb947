package egress

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder rewrites text without one kind of escapes. It appends the plain bytes
// to out and, when from is not nil, the offset of each plain byte's source; the
// last entry of from is len(text).
type decoder func(out, text []byte, from *[]int) []byte

func note(from *[]int, offset, n int) {
	if from == nil {
		return
	}
	for range n {
		*from = append(*from, offset)
	}
}

func copyPlain(out, text []byte, start, end int, from *[]int) []byte {
	if from != nil {
		for i := start; i < end; i++ {
			*from = append(*from, i)
		}
	}
	return append(out, text[start:end]...)
}

// walkEscapes drives a decoder: unescape gets the text from an escape character
// on and returns the plain bytes with the length of the escape, or 0 if it is none.
func walkEscapes(out, text []byte, from *[]int, mark byte, unescape func(out, rest []byte) ([]byte, int)) []byte {
	at := 0
	for at < len(text) {
		next := bytes.IndexByte(text[at:], mark)
		if next < 0 {
			break
		}
		out = copyPlain(out, text, at, at+next, from)
		at += next
		before := len(out)
		var used int
		if out, used = unescape(out, text[at:]); used == 0 {
			out, used = append(out, mark), 1
		}
		note(from, at, len(out)-before)
		at += used
	}
	out = copyPlain(out, text, at, len(text), from)
	note(from, len(text), 1)
	return out
}

func decodePercent(out, text []byte, from *[]int) []byte {
	return walkEscapes(out, text, from, '%', func(out, rest []byte) ([]byte, int) {
		if len(rest) < 3 || unhex(rest[1]) < 0 || unhex(rest[2]) < 0 {
			return out, 0
		}
		return append(out, byte(unhex(rest[1])<<4|unhex(rest[2]))), 3
	})
}

// decodeBackslash decodes the escapes of JSON (RFC 8259 section 7) and \xNN.
func decodeBackslash(out, text []byte, from *[]int) []byte {
	return walkEscapes(out, text, from, '\\', func(out, rest []byte) ([]byte, int) {
		if len(rest) < 2 {
			return out, 0
		}
		switch c := rest[1]; c {
		case '"', '\\', '/', '\'':
			return append(out, c), 2
		case 'b':
			return append(out, '\b'), 2
		case 'f':
			return append(out, '\f'), 2
		case 'n':
			return append(out, '\n'), 2
		case 'r':
			return append(out, '\r'), 2
		case 't':
			return append(out, '\t'), 2
		case 'x':
			if len(rest) >= 4 && unhex(rest[2]) >= 0 && unhex(rest[3]) >= 0 {
				return append(out, byte(unhex(rest[2])<<4|unhex(rest[3]))), 4
			}
		case 'u':
			return decodeUnicode(out, rest)
		}
		return out, 0
	})
}

func decodeUnicode(out, rest []byte) ([]byte, int) {
	const one, two = 6, 12
	r := hex4(rest)
	if r < 0 {
		return out, 0
	}
	if utf16.IsSurrogate(r) && len(rest) >= two && rest[one] == '\\' && rest[one+1] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(rest[one:])); pair != utf8.RuneError {
			return utf8.AppendRune(out, pair), two
		}
	}
	return utf8.AppendRune(out, r), one
}

// hex4 reads the four digits of a \uXXXX at the start of rest, or returns -1.
func hex4(rest []byte) rune {
	const end = 6
	if len(rest) < end {
		return -1
	}
	var r rune
	for _, c := range rest[2:end] {
		d := unhex(c)
		if d < 0 {
			return -1
		}
		r = r<<4 | rune(d)
	}
	return r
}

// maxEntity is the longest character reference looked at, "&#x10ffff;".
const maxEntity = 10

// decodeEntity decodes the character references that HTML and XML escapers write.
func decodeEntity(out, text []byte, from *[]int) []byte {
	return walkEscapes(out, text, from, '&', func(out, rest []byte) ([]byte, int) {
		end := bytes.IndexByte(rest[:min(len(rest), maxEntity)], ';')
		if end < 2 {
			return out, 0
		}
		switch name := string(rest[1:end]); name {
		case "amp":
			return append(out, '&'), end + 1
		case "lt":
			return append(out, '<'), end + 1
		case "gt":
			return append(out, '>'), end + 1
		case "quot":
			return append(out, '"'), end + 1
		case "apos":
			return append(out, '\''), end + 1
		default:
			if r, ok := numericEntity(name); ok {
				return utf8.AppendRune(out, r), end + 1
			}
			return out, 0
		}
	})
}

func numericEntity(name string) (rune, bool) {
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' || digits[0] == 'X' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 21)
	return rune(n), err == nil
}
