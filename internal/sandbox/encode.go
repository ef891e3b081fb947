package sandbox

import (
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/grafana/sobek"
)

// An encoder turns a value into JSON by the interpreter's own JSON.stringify, whose replacer it is: so toJSON, getters,
// boxed values and proxies behave as everywhere, while every single value passes the checks here.
type encoder struct {
	guard *guard
	// limit is the size of the text in bytes.
	limit int
	// lenient writes a description instead of refusing a value that JSON cannot carry: for the console.
	lenient bool

	used int
	// holders are the objects around the value being looked at, outermost first, and keys the key in each of them.
	holders []*sobek.Object
	keys    []string
}

// encode gives the JSON of value, or an *Error of KindResult that names the path of what JSON cannot carry.
func (e *encoder) encode(value sobek.Value) ([]byte, error) {
	rt := e.guard.rt
	var text sobek.Value
	replacer := rt.ToValue(e.replace)
	ex := rt.Try(func() {
		text = e.guard.stringify(sobek.FunctionCall{This: sobek.Undefined(), Arguments: []sobek.Value{value, replacer}})
	})
	if ex != nil {
		return nil, e.guard.classify(ex)
	}
	if text == nil || sobek.IsUndefined(text) {
		return []byte("null"), nil
	}
	out := text.String()
	if len(out) > e.limit {
		return nil, e.tooLarge()
	}
	return []byte(out), nil
}

// replace is the replacer: it sees every value before it is written. It refuses by panicking with an *Error, which no
// code can catch.
func (e *encoder) replace(call sobek.FunctionCall) sobek.Value {
	e.guard.stopped()
	key, value := call.Argument(0).String(), call.Argument(1)
	if holder, ok := call.This.(*sobek.Object); ok {
		e.enter(holder, key)
	}
	e.charge(len(key) + 4)
	switch v := value.(type) {
	case sobek.String:
		e.charge(v.Length())
	case *sobek.Symbol:
		return e.refuse("a symbol", "[symbol]")
	case *sobek.Object:
		return e.object(v)
	default:
		switch {
		case sobek.IsBigInt(value):
			return e.refuse("a BigInt, which JSON has no form for: use String(value)", value.String()+"n")
		case sobek.IsNaN(value):
			return e.refuse("NaN", "NaN")
		case sobek.IsInfinity(value):
			return e.refuse("infinite", value.String())
		}
	}
	return value
}

// object checks an object that is about to be written.
func (e *encoder) object(v *sobek.Object) sobek.Value {
	if _, ok := sobek.AssertFunction(v); ok {
		return e.refuse("a function", "[function]")
	}
	for _, holder := range e.holders[1:] {
		if holder == v {
			return e.refuse("circular: it contains itself", "[circular]")
		}
	}
	if len(e.holders) > MaxDepth {
		return e.refuse("nested more than "+strconv.Itoa(MaxDepth)+" levels deep", "[too deep]")
	}
	switch class := class(v); class {
	case "Array":
		if n := length(v); n > int64(e.limit)/2 { // an element and its comma
			panic(e.tooLarge())
		}
	case "Error":
		if e.lenient {
			return e.guard.rt.ToValue(e.guard.describeObject(v))
		}
	case "Map":
		return e.refuse("a Map, which JSON has no form for: use Object.fromEntries(map)", "[Map]")
	case "Set":
		return e.refuse("a Set, which JSON has no form for: use [...set]", "[Set]")
	case "Promise":
		return e.refuse("a promise: await it", "[Promise]")
	case "WeakMap", "WeakSet", "ArrayBuffer", "RegExp":
		return e.refuse("a "+class+", which JSON has no form for", "["+class+"]")
	}
	return v
}

// class is what sort of object v is, without running code of the author's.
func class(v *sobek.Object) string {
	name := v.ClassName()
	if name != "Object" {
		return name
	}
	// The engine has no class for these, but a Go type that each is exported as.
	switch v.ExportType() {
	case reflect.TypeFor[*sobek.Promise]():
		return "Promise"
	case reflect.TypeFor[[][2]any]():
		return "Map"
	case reflect.TypeFor[[]any]():
		return "Set"
	}
	return name
}

// enter notes that the value under key in holder comes next.
func (e *encoder) enter(holder *sobek.Object, key string) {
	for i := len(e.holders) - 1; i >= 0; i-- {
		if e.holders[i] == holder {
			e.holders, e.keys = e.holders[:i+1], e.keys[:i+1]
			e.keys[i] = key
			return
		}
	}
	e.holders, e.keys = append(e.holders, holder), append(e.keys, key)
}

func (e *encoder) charge(n int) {
	e.used += n
	if e.used > e.limit+e.limit/2 {
		// An estimate of the text: the exact size is checked at the end.
		panic(e.tooLarge())
	}
}

func (e *encoder) tooLarge() *Error {
	return errorf(KindResult, "the result is larger than %d bytes", e.limit)
}

func (e *encoder) refuse(is, instead string) sobek.Value {
	if e.lenient {
		return e.guard.rt.ToValue(instead)
	}
	panic(errorf(KindResult, "%s is %s", e.path(), is))
}

// path names the value being looked at, as the author would write it.
func (e *encoder) path() string {
	if len(e.keys) < 2 {
		return "the result"
	}
	var b strings.Builder
	b.WriteString("result")
	for i, key := range e.keys[1:] {
		switch {
		case e.holders[i+1].ClassName() == "Array":
			b.WriteString("[" + key + "]")
		case identifier(key):
			b.WriteString("." + key)
		default:
			b.WriteString("[" + strconv.Quote(clip(key, maxPath)) + "]")
		}
		if b.Len() > maxPath {
			b.WriteString("…")
			break
		}
	}
	return b.String()
}

// maxPath is about how long the name of a place in the result may be, in bytes.
const maxPath = 200

// identifier says whether a key may be written after a dot.
func identifier(key string) bool {
	for i, c := range key {
		if c != '_' && c != '$' && !unicode.IsLetter(c) && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return key != ""
}
