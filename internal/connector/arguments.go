package connector

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// MaxArguments is the longest header of arguments, in bytes: what servers take of one header at least.
const MaxArguments = 4 << 10

// argument puts an input into the object of the arguments.
func (b *builder) argument(to *tree, p part) error {
	if b.isFile(p.value) {
		return b.faultf(p.Name, "a file cannot stand here")
	}
	path, err := splitPath(p.Key())
	if err != nil {
		return b.faultf(p.Name, "%s", err)
	}
	if !to.put(path, p.value) {
		return b.faultf(p.Name, "another input has the same place in the arguments")
	}
	return nil
}

// arguments writes the header of the arguments, where the action has one.
func (b *builder) arguments(args *tree) error {
	if b.a.Arguments == "" {
		return nil
	}
	if args.named == nil {
		args.named = map[string]*tree{}
	}
	text, err := expr.AppendJSON(nil, args.value())
	if err != nil {
		return b.faultf("", "the arguments cannot be written as JSON: %s", err)
	}
	value := ascii(text)
	if len(value) > MaxArguments {
		return b.faultf("", "the arguments have %d bytes, more than %d", len(value), MaxArguments)
	}
	b.r.Headers = append(b.r.Headers, Fixed{Name: b.a.Arguments, Value: value})
	return nil
}

// ascii escapes everything in JSON that is not printable ASCII, as \uXXXX: a header holds nothing else (RFC 9110 section 5.5).
func ascii(text []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, len(text))
	escape := func(unit uint16) {
		out = append(out, '\\', 'u', digits[unit>>12], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
	}
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		switch {
		case r >= ' ' && r < 0x7f:
			out = append(out, byte(r))
		case r < 1<<16:
			escape(uint16(r))
		default:
			high, low := utf16.EncodeRune(r)
			escape(uint16(high))
			escape(uint16(low))
		}
	}
	return string(out)
}
