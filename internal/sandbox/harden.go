package sandbox

import (
	"fmt"

	"github.com/grafana/sobek"
)

// arrayMethods are the methods of Array.prototype that walk their receiver inside the engine, where no interrupt reaches
// them: an array-like object may claim a length of 2^53.
var arrayMethods = [...]string{
	"at", "concat", "copyWithin", "every", "fill", "filter", "find", "findIndex", "findLast", "findLastIndex", "flat",
	"flatMap", "forEach", "includes", "indexOf", "join", "lastIndexOf", "map", "reduce", "reduceRight", "reverse", "shift",
	"slice", "some", "sort", "splice", "toLocaleString", "toReversed", "toSorted", "toSpliced", "toString", "unshift", "with",
}

// harden takes code from strings away and bounds the built-ins with which one short line can hang or fill the process.
// The jail is the wall; this is so that such a line ends in an exception with a line number.
func (r *run) harden() {
	rt := r.guard.rt
	global := rt.GlobalObject()
	_ = global.Delete("GoError") // of the engine, not of the language
	r.removeEval(global)
	r.rangeErrors = global.Get("RangeError").(*sobek.Object)

	arrays := prototype(rt, "Array")
	for _, name := range arrayMethods {
		r.wrap(arrays, name, func(call sobek.FunctionCall) { r.checkElements(call.This, call.Argument(0), name) })
	}
	r.wrap(global.Get("Array").(*sobek.Object), "from", func(call sobek.FunctionCall) {
		r.checkElements(call.Argument(0), nil, "from")
	})

	texts := prototype(rt, "String")
	r.wrap(texts, "repeat", func(call sobek.FunctionCall) {
		if n := call.Argument(0).ToFloat(); n > 0 {
			r.checkString(float64(length(call.This)) * n)
		}
	})
	for _, name := range [...]string{"padStart", "padEnd"} {
		r.wrap(texts, name, func(call sobek.FunctionCall) { r.checkString(call.Argument(0).ToFloat()) })
	}

	r.boundParse(global.Get("JSON").(*sobek.Object))

	r.wrap(prototype(rt, "Function"), "apply", func(call sobek.FunctionCall) { r.checkArguments(call.Argument(1)) })
	reflect := global.Get("Reflect").(*sobek.Object)
	r.wrap(reflect, "apply", func(call sobek.FunctionCall) { r.checkArguments(call.Argument(2)) })
	r.wrap(reflect, "construct", func(call sobek.FunctionCall) { r.checkArguments(call.Argument(1)) })
}

// removeEval makes eval and the four constructors of functions throw, as a strict content security policy does.
func (r *run) removeEval(global *sobek.Object) {
	rt := r.guard.rt
	class := global.Get("EvalError").(*sobek.Object)
	refuse := func() sobek.Value {
		panic(exception(rt, class, "code from strings is not available in a code step"))
	}
	define(rt, global, "eval", 1, func(sobek.FunctionCall) sobek.Value { return refuse() })
	list, err := rt.RunProgram(r.engine.prototypes)
	if err != nil {
		panic(fmt.Errorf("find function prototypes: %w", err))
	}
	for i, name := range [...]string{"Function", "AsyncFunction", "GeneratorFunction"} {
		proto := list.(*sobek.Object).Get(fmt.Sprint(i)).(*sobek.Object)
		constructor := rt.ToValue(func(sobek.ConstructorCall) *sobek.Object { refuse(); return nil }).(*sobek.Object)
		describe(rt, constructor, name, 1)
		_ = constructor.DefineDataProperty("prototype", proto, sobek.FLAG_FALSE, sobek.FLAG_FALSE, sobek.FLAG_FALSE)
		_ = proto.DefineDataProperty("constructor", constructor, sobek.FLAG_FALSE, sobek.FLAG_FALSE, sobek.FLAG_FALSE)
		if name == "Function" {
			_ = global.DefineDataProperty(name, constructor, sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
		}
	}
}

// wrap runs check before the built-in function name of object. The built-in is called directly, so that exceptions and
// interrupts pass through as if it had not been wrapped.
func (r *run) wrap(object *sobek.Object, name string, check func(sobek.FunctionCall)) {
	original, ok := object.Get(name).(*sobek.Object)
	if !ok {
		return // this engine does not have it
	}
	call, ok := original.Export().(func(sobek.FunctionCall) sobek.Value)
	if !ok {
		return
	}
	arity := int(original.Get("length").ToInteger())
	define(r.guard.rt, object, name, arity, func(c sobek.FunctionCall) sobek.Value {
		check(c)
		return call(c)
	})
}

// checkElements refuses an array-like object that is too long to walk.
func (r *run) checkElements(this, argument sobek.Value, method string) {
	r.guard.stopped()
	n := length(this)
	if n > MaxElements {
		panic(r.rangeError(fmt.Sprintf("an array of %d elements is too long: at most %d", n, MaxElements)))
	}
	if method == "join" && argument != nil {
		if s, ok := argument.(sobek.String); ok {
			r.checkString(float64(n) * float64(s.Length()))
		}
	}
}

func (r *run) checkString(n float64) {
	r.guard.stopped()
	if n > MaxString {
		panic(r.rangeError(fmt.Sprintf("a text of %.0f characters is too long: at most %d", n, MaxString)))
	}
}

// boundParse makes JSON.parse refuse text that is nested too deeply: the engine parses it by recursion.
func (r *run) boundParse(object *sobek.Object) {
	parse := native(r.guard.rt, "JSON", "parse")
	define(r.guard.rt, object, "parse", 2, func(call sobek.FunctionCall) sobek.Value {
		r.guard.stopped()
		text := call.Argument(0).ToString()
		if nesting(text.String()) > MaxDepth {
			panic(r.rangeError(fmt.Sprintf("JSON nested more than %d levels deep", MaxDepth)))
		}
		return parse(sobek.FunctionCall{This: call.This, Arguments: []sobek.Value{text, call.Argument(1)}})
	})
}

func (r *run) checkArguments(list sobek.Value) {
	r.guard.stopped()
	if n := length(list); n > MaxArguments {
		panic(r.rangeError(fmt.Sprintf("%d arguments are too many: at most %d", n, MaxArguments)))
	}
}

// length is the length that value claims to have, as array or as text; 0 for all else.
func length(value sobek.Value) int64 {
	switch v := value.(type) {
	case sobek.String:
		return int64(v.Length())
	case *sobek.Object:
		if n := v.Get("length"); n != nil {
			return n.ToInteger()
		}
	}
	return 0
}

func (r *run) rangeError(message string) *sobek.Object {
	return exception(r.guard.rt, r.rangeErrors, message)
}

func exception(rt *sobek.Runtime, class *sobek.Object, message string) *sobek.Object {
	object, err := rt.New(class, rt.ToValue(message))
	if err != nil {
		return rt.NewTypeError(message)
	}
	return object
}

// native gives a built-in function as Go calls it.
func native(rt *sobek.Runtime, object, name string) func(sobek.FunctionCall) sobek.Value {
	return rt.GlobalObject().Get(object).(*sobek.Object).Get(name).Export().(func(sobek.FunctionCall) sobek.Value)
}

func prototype(rt *sobek.Runtime, class string) *sobek.Object {
	return rt.GlobalObject().Get(class).(*sobek.Object).Get("prototype").(*sobek.Object)
}

// define puts a host function into object, looking like a built-in.
func define(rt *sobek.Runtime, object *sobek.Object, name string, arity int, f func(sobek.FunctionCall) sobek.Value) {
	function := rt.ToValue(f).(*sobek.Object)
	describe(rt, function, name, arity)
	_ = object.DefineDataProperty(name, function, sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
}

func describe(rt *sobek.Runtime, function *sobek.Object, name string, arity int) {
	_ = function.DefineDataProperty("name", rt.ToValue(name), sobek.FLAG_FALSE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
	_ = function.DefineDataProperty("length", rt.ToValue(arity), sobek.FLAG_FALSE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
}
