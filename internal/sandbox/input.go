package sandbox

import (
	"encoding/json"
	"strings"

	"github.com/grafana/sobek"
)

// checkInput refuses input that is not one JSON value within the limits, and notes numbers that JavaScript cannot hold.
func checkInput(input []byte, limits Limits, notes *console) error {
	if len(input) > limits.Input {
		return errorf(KindInput, "the input is larger than %d bytes", limits.Input)
	}
	if !json.Valid(input) {
		return errorf(KindInput, "the input is not valid JSON")
	}
	text := string(input)
	if nesting(text) > MaxDepth {
		return errorf(KindInput, "the input is nested more than %d levels deep", MaxDepth)
	}
	rounded, first := roundedIntegers(text)
	if rounded > 0 {
		notes.note("%d integers of the input are beyond 2^53 and were rounded, the first is %s: pass such numbers as text", rounded, clip(first, 40))
	}
	return nil
}

// maxSafeInteger is Number.MAX_SAFE_INTEGER.
const maxSafeInteger = "9007199254740991"

// nesting is how deeply the arrays and objects of a JSON text nest. The text need not be valid.
func nesting(text string) (deepest int) {
	level := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = closingQuote(text, i)
		case '{', '[':
			level++
			deepest = max(deepest, level)
		case '}', ']':
			level--
		}
	}
	return deepest
}

// closingQuote is the index of the quote that ends the string starting at i, or the end of the text.
func closingQuote(text string, i int) int {
	for i++; i < len(text) && text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}

// roundedIntegers counts the integers of a JSON text that a double cannot hold exactly.
func roundedIntegers(text string) (count int, first string) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			i = closingQuote(text, i)
		case c == '-' || c >= '0' && c <= '9':
			start := i
			for i+1 < len(text) && strings.IndexByte("+-.eE0123456789", text[i+1]) >= 0 {
				i++
			}
			number := text[start : i+1]
			if len(number) < len(maxSafeInteger) || !unsafeInteger(number) {
				continue
			}
			if count == 0 {
				first = number
			}
			count++
		}
	}
	return count, first
}

// unsafeInteger says whether a JSON number is written as an integer and is beyond Number.MAX_SAFE_INTEGER.
func unsafeInteger(number string) bool {
	digits := strings.TrimPrefix(number, "-")
	if strings.ContainsAny(digits, ".eE") {
		return false
	}
	return len(digits) > len(maxSafeInteger) || len(digits) == len(maxSafeInteger) && digits > maxSafeInteger
}

// parse gives the input as a value of the interpreter, by its own JSON.parse.
func (r *run) parse(input []byte) (value sobek.Value, err error) {
	parse := native(r.guard.rt, "JSON", "parse")
	text := r.guard.rt.ToValue(string(input))
	ex := r.guard.rt.Try(func() {
		value = parse(sobek.FunctionCall{This: sobek.Undefined(), Arguments: []sobek.Value{text}})
	})
	if ex != nil {
		return nil, errorf(KindInput, "the input cannot be read: %s", r.guard.describe(ex.Value()))
	}
	return value, nil
}
