package expr

import (
	"fmt"
	"maps"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// infer walks the checked tree once more with the types of the scope. CEL's own checker sees
// objects as dyn; this walk knows their fields. It only reports what cannot work: where
// anything is unknown it stays silent.
func (c *compiler) infer() Type {
	w := typeWalk{c: c, joiner: joiner{left: maxJoinSteps}}
	t := w.expr(c.tree.Expr(), nil)
	if t.kind == kBytes {
		w.report(c.tree.Expr(), "the result is bytes, which JSON cannot write", "base64(x) or hex(x) makes a string of them")
	}
	if t.kind == kOptional {
		return t.Elem().OrNull()
	}
	return t
}

type typeWalk struct {
	joiner
	c *compiler
}

// locals are the variables of the macros around an expression.
type locals map[string]Type

func (l locals) with(name string, t Type) locals {
	if name == "" {
		return l
	}
	out := maps.Clone(l)
	if out == nil {
		out = locals{}
	}
	out[name] = t
	return out
}

func (w *typeWalk) expr(e ast.Expr, env locals) Type {
	switch e.Kind() {
	case ast.LiteralKind:
		return typeOfValue(e.AsLiteral())
	case ast.IdentKind:
		return w.ident(strings.TrimPrefix(e.AsIdent(), "."), env)
	case ast.SelectKind:
		s := e.AsSelect()
		return w.field(e, s.Operand(), w.expr(s.Operand(), env), s.FieldName())
	case ast.CallKind:
		return w.call(e, env)
	case ast.ListKind:
		elem := Type{kind: kNull}
		for i, x := range e.AsList().Elements() {
			t := w.expr(x, env)
			if t.kind == kOptional {
				t = t.Elem()
			}
			if i == 0 {
				elem = t
			} else {
				elem = w.join(elem, t)
			}
		}
		if len(e.AsList().Elements()) == 0 {
			return Type{kind: kList} // of anything: it takes the type of what joins it
		}
		return ListType(elem)
	case ast.MapKind:
		return w.object(e, env)
	case ast.ComprehensionKind:
		return w.comprehension(e, env)
	}
	return Dyn()
}

func typeOfValue(v ref.Val) Type {
	switch v.(type) {
	case types.Int:
		return IntType()
	case types.Null:
		return NullType()
	}
	switch Kind(v) {
	case KindBool:
		return BoolType()
	case KindNumber:
		return NumberType()
	case KindString:
		return StringType()
	case KindBytes:
		return BytesType()
	}
	return Dyn()
}

func (w *typeWalk) ident(name string, env locals) Type {
	if t, ok := env[name]; ok {
		return t
	}
	switch name {
	case varNow:
		return TimeType()
	case varUUID:
		return StringType()
	}
	t, _ := w.c.scope.Lookup(name)
	return t
}

// object types a literal: exactly its fields where all keys are literals.
func (w *typeWalk) object(e ast.Expr, env locals) Type {
	fields := map[string]Type{}
	known := true
	var values Type
	for i, entry := range e.AsMap().Entries() {
		m := entry.AsMapEntry()
		w.expr(m.Key(), env)
		t := w.expr(m.Value(), env)
		if t.kind == kOptional {
			t = t.Elem()
		}
		if i == 0 {
			values = t
		} else {
			values = w.join(values, t)
		}
		if m.Key().Kind() == ast.LiteralKind {
			fields[keyText(m.Key().AsLiteral())] = t
		} else {
			known = false
		}
	}
	if !known {
		return MapType(values)
	}
	return Type{kind: kObject, fields: fields}
}

// field types operand.name and reports a field that cannot be there.
func (w *typeWalk) field(e, operand ast.Expr, t Type, name string) Type {
	if t.kind == kOptional {
		return optionalType(w.field(e, operand, t.Elem(), name))
	}
	if f, ok := t.Field(name); ok {
		return f
	}
	where := w.text(operand)
	issue := w.c.fieldIssue(e, name)
	switch {
	case t.kind == kObject:
		issue.Message = fmt.Sprintf("%s has no field %s", where, name)
		issue.Suggestion = fieldSuggestion(name, t)
	case t.kind == kList:
		issue.Message = fmt.Sprintf("%s is a list, which has no field %s", where, name)
		issue.Suggestion = fmt.Sprintf("write %s[0].%s, or %s.map(x, x.%s) for all of them", where, name, where, name)
	default:
		issue.Message = fmt.Sprintf("%s is %s, which has no fields", where, t.withArticle())
	}
	w.c.issues = append(w.c.issues, issue)
	return Dyn()
}

func fieldSuggestion(name string, t Type) string {
	names := t.FieldNames()
	if near := nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	if len(names) == 0 {
		return "it has no fields"
	}
	if len(names) > 12 {
		return "it has " + strings.Join(names[:12], ", ") + ", …"
	}
	return "it has " + strings.Join(names, ", ")
}

// index types operand[key].
func (w *typeWalk) index(e, operand, key ast.Expr, t Type, env locals) Type {
	k := w.expr(key, env)
	if t.kind == kOptional {
		return optionalType(w.index(e, operand, key, t.Elem(), env))
	}
	switch t.kind {
	case kList:
		if known(k) && k.Kind() != KindNumber {
			w.report(key, fmt.Sprintf("%s is a list: its items are numbered from 0, not named", w.text(operand)), "")
		}
		return t.Elem()
	case kObject:
		if key.Kind() == ast.LiteralKind {
			if s, ok := key.AsLiteral().(types.String); ok {
				return w.field(key, operand, t, string(s))
			}
		}
		if t.elem != nil {
			return *t.elem
		}
		return Dyn()
	}
	if known(t) {
		w.report(e, fmt.Sprintf("%s is %s, which has no items", w.text(operand), t.withArticle()), "")
	}
	return Dyn()
}

// known reports whether a value of the type is surely of its kind (or null).
func known(t Type) bool { return t.kind != kDyn && t.kind != kOptional && t.kind != kNull }

// comprehension types what a macro has become.
func (w *typeWalk) comprehension(e ast.Expr, env locals) Type {
	f := e.AsComprehension()
	r := w.expr(f.IterRange(), env)
	if f.IterVar() == "#unused" { // cel.bind: the accumulator is the variable
		return w.expr(f.Result(), env.with(f.AccuVar(), w.expr(f.AccuInit(), env)))
	}
	inner := env
	switch {
	case r.kind == kList && f.HasIterVar2():
		inner = env.with(f.IterVar(), IntType()).with(f.IterVar2(), r.Elem())
	case r.kind == kList:
		inner = env.with(f.IterVar(), r.Elem())
	case r.kind == kObject && f.HasIterVar2():
		inner = env.with(f.IterVar(), StringType()).with(f.IterVar2(), r.Elem())
	case r.kind == kObject:
		inner = env.with(f.IterVar(), StringType())
	default:
		if known(r) {
			w.report(f.IterRange(), fmt.Sprintf("%s is %s; only lists and objects can be gone through", w.text(f.IterRange()), r.withArticle()), "")
		}
		inner = env.with(f.IterVar(), Dyn()).with(f.IterVar2(), Dyn())
	}
	accu := w.expr(f.AccuInit(), env)
	step := w.expr(f.LoopStep(), inner.with(f.AccuVar(), accu))
	w.expr(f.LoopCondition(), inner.with(f.AccuVar(), accu))
	if accu.kind == kList || accu.kind == kObject {
		accu = step
	}
	return w.expr(f.Result(), env.with(f.AccuVar(), accu))
}

// report notes an issue at a node.
func (w *typeWalk) report(e ast.Expr, message, suggestion string) {
	issue := w.c.issueOf(e)
	issue.Message, issue.Suggestion = message, suggestion
	w.c.issues = append(w.c.issues, issue)
}

// text is a short name for an expression in messages: the path it is, or what it is.
func (w *typeWalk) text(e ast.Expr) string { return describe(e) }

// describe names an expression in messages.
func describe(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		if name := e.AsIdent(); !strings.HasPrefix(name, "@") {
			return strings.TrimPrefix(name, ".")
		}
	case ast.SelectKind:
		s := e.AsSelect()
		if at := describe(s.Operand()); at != unnamed {
			return at + "." + s.FieldName()
		}
	case ast.CallKind:
		call := e.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.OptSelect:
			if at := describe(args[0]); at != unnamed && args[1].Kind() == ast.LiteralKind {
				return at + "." + keyText(args[1].AsLiteral())
			}
		case operators.Index, operators.OptIndex:
			if at := describe(args[0]); at != unnamed && args[1].Kind() == ast.LiteralKind {
				if s, ok := args[1].AsLiteral().(types.String); ok {
					return fmt.Sprintf("%s[%q]", at, string(s))
				}
				return at + "[" + keyText(args[1].AsLiteral()) + "]"
			}
		default:
			if !strings.ContainsAny(call.FunctionName(), "@_!") {
				return call.FunctionName() + "(…)"
			}
		}
	}
	return unnamed
}

const unnamed = "the value"
