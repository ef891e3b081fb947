package sandbox

import (
	"errors"
	"fmt"

	"github.com/grafana/sobek"
)

// classify turns an error of the engine into an *Error with its place in the author's source. It goes by the error's own
// type: unwrapping an exception, as errors.As does, asks the thrown object questions that a proxy may answer.
func (g *guard) classify(err error) error {
	var e *Error
	switch err := err.(type) {
	case *Error:
		return err
	case *sobek.InterruptedError:
		e = errorf(KindInternal, "the engine was interrupted")
		if cause := g.cause.Load(); cause != nil {
			e = errorf(cause.Kind, "%s", cause.Message)
		}
		g.locate(e, err.Stack())
	case *sobek.StackOverflowError:
		e = errorf(KindThrow, "RangeError: functions call each other more than %d levels deep", g.limits.CallDepth)
		g.locate(e, err.Stack())
	case *sobek.Exception:
		e = errorf(KindThrow, "%s", g.describe(err.Value()))
		g.locate(e, err.Stack())
	default:
		e = errorf(KindInternal, "the engine failed: %v", err)
	}
	return e
}

// locate fills position and stack of e from frames, leaving out those that are not the author's.
func (g *guard) locate(e *Error, frames []sobek.StackFrame) {
	for i := range frames {
		if frames[i].SrcName() != moduleName {
			continue
		}
		f := Frame{Func: clip(frames[i].FuncName(), 100)}
		if f.Func == "<anonymous>" {
			f.Func = ""
		}
		f.Line, f.Column = g.program.place(frames[i].Position())
		e.Stack = append(e.Stack, f)
		if len(e.Stack) == MaxFrames {
			break
		}
	}
	if len(e.Stack) > 0 {
		e.Line, e.Column = e.Stack[0].Line, e.Stack[0].Column
	}
}

// describe is the message for a thrown value. It may run code of the author's (a getter, toString), under the same guard.
func (g *guard) describe(value sobek.Value) string {
	object, ok := value.(*sobek.Object)
	if !ok {
		if value == nil {
			return "undefined"
		}
		return clip(value.String(), MaxMessage)
	}
	var text string
	if ex := g.rt.Try(func() { text = g.describeObject(object) }); ex != nil {
		return "the code threw an object that cannot be described"
	}
	return clip(text, MaxMessage)
}

func (g *guard) describeObject(object *sobek.Object) string {
	g.stopped()
	message := object.Get("message")
	if object.ClassName() == "Error" || message != nil {
		name, text := "Error", ""
		if v := object.Get("name"); v != nil && !sobek.IsUndefined(v) {
			name = v.String()
		}
		if message != nil && !sobek.IsUndefined(message) {
			text = message.String()
		}
		if text == "" {
			return name
		}
		return name + ": " + text
	}
	return g.show(object, MaxMessage)
}

// show is a readable form of any value, for people: text as it is, the rest as JSON with descriptions for what JSON
// cannot carry. It never throws; only the guard's own panic passes.
func (g *guard) show(value sobek.Value, limit int) (text string) {
	object, ok := value.(*sobek.Object)
	if !ok {
		if s, ok := value.(*sobek.Symbol); ok {
			return "Symbol(" + clip(s.String(), limit) + ")"
		}
		return clip(value.String(), limit)
	}
	defer func() {
		if x := recover(); x != nil {
			g.stopped()
			if e, ok := x.(*Error); ok && e.Kind == KindResult {
				text = fmt.Sprintf("[object of more than %d bytes]", limit)
				return
			}
			panic(x)
		}
	}()
	if ex := g.rt.Try(func() { text = g.showObject(object, limit) }); ex != nil {
		g.stopped()
		return "[object that cannot be shown]"
	}
	return text
}

func (g *guard) showObject(object *sobek.Object, limit int) string {
	if _, ok := sobek.AssertFunction(object); ok {
		return "[function]"
	}
	if object.ClassName() == "Error" {
		return clip(g.describeObject(object), limit)
	}
	out, err := (&encoder{guard: g, limit: limit, lenient: true}).encode(object)
	var e *Error
	switch {
	case err == nil:
		return string(out)
	case errors.As(err, &e) && e.Kind == KindResult:
		return fmt.Sprintf("[object of more than %d bytes]", limit)
	default:
		return "[object that cannot be shown]"
	}
}
