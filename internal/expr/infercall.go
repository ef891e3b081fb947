package expr

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// call types a function call or an operator.
func (w *typeWalk) call(e ast.Expr, env locals) Type {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	switch name {
	case operators.OptSelect:
		t := w.expr(args[0], env)
		f := w.field(e, args[0], t, keyText(args[1].AsLiteral()))
		if f.kind == kOptional {
			return f
		}
		return optionalType(f)
	case operators.Index:
		return w.index(e, args[0], args[1], w.expr(args[0], env), env)
	case operators.OptIndex:
		t := w.index(e, args[0], args[1], w.expr(args[0], env), env)
		if t.kind == kOptional {
			return t
		}
		return optionalType(t)
	}
	in := make([]Type, 0, len(args)+1)
	if call.IsMemberFunction() {
		in = append(in, w.expr(call.Target(), env))
	}
	for _, a := range args {
		in = append(in, w.expr(a, env))
	}
	if t, ok := w.operator(e, name, in); ok {
		return t
	}
	w.arguments(e, name, in)
	if t, ok := w.resultOf(name, in); ok {
		return t
	}
	return fromCEL(w.c.tree.GetType(e.ID()))
}

// operator types the operators and reports operands that cannot work.
func (w *typeWalk) operator(e ast.Expr, name string, in []Type) (Type, bool) {
	args := e.AsCall().Args()
	switch name {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		for i, t := range in {
			w.condition(args[i], t)
		}
		return BoolType(), true
	case operators.Conditional:
		w.condition(args[0], in[0])
		return w.join(in[1], in[2]), true
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return w.arithmetic(e, name, in[0], in[1]), true
	case operators.Negate:
		if known(in[0]) && in[0].Kind() != KindNumber && in[0].kind != kDuration {
			w.report(e, "cannot negate "+in[0].withArticle(), "")
		}
		return in[0], true
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		w.comparison(e, in[0], in[1])
		return BoolType(), true
	case fnEq, fnNe:
		if a, b := in[0], in[1]; known(a) && known(b) && a.Kind() != b.Kind() {
			hint := ""
			if k := a.Kind(); (k == KindNumber && b.kind == kString) || (k == KindString && b.Kind() == KindNumber) {
				hint = "string(x) makes a string of a number, int(x) and double(x) a number of a string"
			}
			w.report(e, fmt.Sprintf("%s never equals %s", a.withArticle(), b.withArticle()), hint)
		}
		return BoolType(), true
	case operators.In:
		if t := in[1]; known(t) && t.kind != kList && t.kind != kObject {
			w.report(e, "in looks into a list or an object, not into "+t.withArticle(), "s.contains(x) looks into a string")
		}
		return BoolType(), true
	}
	return Dyn(), false
}

// condition reports a value that is surely neither true nor false.
func (w *typeWalk) condition(e ast.Expr, t Type) {
	if (known(t) || t.kind == kNull) && t.kind != kBool {
		w.report(e, fmt.Sprintf("a condition must be true or false, %s is %s", describe(e), t.withArticle()), "")
	}
}

func (w *typeWalk) arithmetic(e ast.Expr, op string, a, b Type) Type {
	if a.kind == kNull || b.kind == kNull {
		w.report(e, arithmeticMessage(op, a, b), "orElse(x, 0) stands in for a null")
		return Dyn()
	}
	if !known(a) || !known(b) {
		return halfKnown(op, a, b)
	}
	ka, kb := a.Kind(), b.Kind()
	switch {
	case ka == KindNumber && kb == KindNumber:
		if a.kind == kInt && b.kind == kInt && op != operators.Divide {
			return IntType()
		}
		return NumberType()
	case op == operators.Add && ka == kb && (ka == KindString || ka == KindBytes):
		return Type{kind: a.kind}
	case op == operators.Add && ka == KindList && kb == KindList:
		return w.join(Type{kind: kList, elem: a.elem}, Type{kind: kList, elem: b.elem})
	case (op == operators.Add || op == operators.Subtract) && ka == KindTime && kb == KindDuration,
		op == operators.Add && ka == KindDuration && kb == KindTime:
		return TimeType()
	case (op == operators.Add || op == operators.Subtract) && ka == KindDuration && kb == KindDuration,
		op == operators.Subtract && ka == KindTime && kb == KindTime:
		return DurationType()
	}
	hint := ""
	if op == operators.Add && (ka == KindString || kb == KindString) {
		hint = "string(x) makes a string of a number"
	}
	w.report(e, arithmeticMessage(op, a, b), hint)
	return Dyn()
}

// halfKnown types arithmetic of which one side is unknown: what it must be if it works.
func halfKnown(op string, a, b Type) Type {
	t := a
	if !known(t) {
		t = b
	}
	switch {
	case op == operators.Divide || op == operators.Modulo || op == operators.Multiply:
		return NumberType()
	case t.kind == kString || t.kind == kBytes:
		return Type{kind: t.kind}
	case t.Kind() == KindNumber:
		return NumberType()
	}
	return Dyn()
}

func arithmeticMessage(op string, a, b Type) string {
	return arithmeticWords(op, a.withArticle(), b.withArticle())
}

func (w *typeWalk) comparison(e ast.Expr, a, b Type) {
	orderable := func(t Type) bool {
		switch t.Kind() {
		case KindNumber, KindString, KindBool, KindBytes, KindTime, KindDuration:
			return true
		}
		return false
	}
	switch {
	case a.kind == kNull || b.kind == kNull:
		w.report(e, "null is neither smaller nor greater than anything", "orElse(x, 0) stands in for a null")
	case known(a) && !orderable(a), known(b) && !orderable(b), known(a) && known(b) && a.Kind() != b.Kind():
		w.report(e, fmt.Sprintf("cannot order %s and %s", a.withArticle(), b.withArticle()), "")
	}
}

// arguments reports a call of which no overload takes what is known about its arguments.
func (w *typeWalk) arguments(e ast.Expr, name string, in []Type) {
	if w.notNumeric(e, name, in) {
		return
	}
	decl, ok := w.c.functions[name]
	if !ok {
		return
	}
	bad := -1
	for _, o := range decl.OverloadDecls() {
		params := o.ArgTypes()
		if len(params) != len(in) || o.IsMemberFunction() != e.AsCall().IsMemberFunction() {
			continue
		}
		at := firstMisfit(params, in)
		if at < 0 {
			return
		}
		bad = max(bad, at)
	}
	if bad < 0 {
		return
	}
	node := e
	if args := e.AsCall().Args(); e.AsCall().IsMemberFunction() && bad == 0 {
		node = e.AsCall().Target()
	} else if i := bad - len(in) + len(args); i >= 0 && i < len(args) {
		node = args[i]
	}
	shown := displayName(name)
	w.report(node, fmt.Sprintf("%s() does not take %s here", shown, in[bad].withArticle()), "it is used as "+usage(shown, decl.OverloadDecls()))
}

// notNumeric reports a value that is no number in a function of numbers, whose parameters are
// declared dyn because numbers come in several kinds.
func (w *typeWalk) notNumeric(e ast.Expr, name string, in []Type) bool {
	args := e.AsCall().Args()
	if e.AsCall().IsMemberFunction() || len(args) == 0 {
		return false
	}
	t, what := in[0], "a number"
	switch {
	case name == "sum" || name == fnMax || name == fnMin:
		if t.kind != kList {
			return false
		}
		t, what = t.Elem(), "a list of numbers"
	case name == "round" || strings.HasPrefix(name, "math."):
	default:
		return false
	}
	if !known(t) || t.Kind() == KindNumber {
		return false
	}
	w.report(args[0], fmt.Sprintf("%s() takes %s, not %s", displayName(name), what, in[0].withArticle()), "")
	return true
}

func firstMisfit(params []*types.Type, in []Type) int {
	for i, p := range params {
		if !fits(in[i], p) {
			return i
		}
	}
	return -1
}

// fits reports whether a value of the type may be what a parameter takes.
func fits(t Type, p *types.Type) bool {
	if !known(t) {
		return true
	}
	k := t.Kind()
	switch p.Kind() {
	case types.BoolKind:
		return k == KindBool
	case types.IntKind, types.DoubleKind, types.UintKind:
		return k == KindNumber
	case types.StringKind:
		return k == KindString
	case types.BytesKind:
		return k == KindBytes
	case types.TimestampKind:
		return k == KindTime
	case types.DurationKind:
		return k == KindDuration
	case types.ListKind:
		return k == KindList && (t.elem == nil || fits(*t.elem, p.Parameters()[0]))
	case types.MapKind:
		return k == KindObject
	case types.OpaqueKind:
		return false
	}
	return true
}

// resultOf types functions whose result depends on their arguments' types.
func (w *typeWalk) resultOf(name string, in []Type) (Type, bool) {
	list := Dyn()
	if len(in) > 0 && in[0].kind == kList {
		list = in[0]
	}
	switch name {
	case fnPlain, "unique", "distinct", "sort", "slice", fnUnique, fnSortBy:
		return in[0], true
	case "reverse":
		return in[0], true
	case fnFormatArgs:
		return ListType(Dyn()), true
	case fnJoin:
		return StringType(), true
	case fnOrElse:
		v := in[0]
		if v.kind == kOptional {
			v = v.Elem()
		}
		v.null = false
		return w.join(v, in[1]), true
	case "sum", "decimal", "round", fnMax, fnMin:
		return NumberType(), true
	case "first", "last":
		return list.Elem().OrNull(), len(in) == 1 && list.kind == kList
	case fnGroupBy:
		return MapType(ListType(list.Elem())), true
	case fnKeyBy:
		return MapType(list.Elem()), true
	case "chunk":
		return ListType(ListType(list.Elem())), true
	case "flatten":
		if inner := list.Elem(); inner.kind == kList && len(in) == 1 {
			return ListType(inner.Elem()), true
		}
		return ListType(Dyn()), true
	case "lookup":
		if list.kind == kList {
			return list.Elem().OrNull(), true
		}
		return Dyn(), true
	case "cel.@mapInsert":
		if len(in) == 3 {
			return MapType(in[2]), true
		}
		return OpenObjectType(nil), true
	case "value", "orValue":
		if in[0].kind == kOptional {
			return in[0].Elem(), true
		}
	case "optional.of", "optional.ofNonZeroValue":
		return optionalType(in[0]), true
	}
	if strings.HasPrefix(name, "math.") && !strings.HasPrefix(name, "math.is") {
		return NumberType(), true
	}
	return Dyn(), false
}

// fromCEL is what CEL's checker knows about a node.
func fromCEL(t *types.Type) Type {
	if t == nil {
		return Dyn()
	}
	switch t.Kind() {
	case types.BoolKind:
		return BoolType()
	case types.IntKind:
		return IntType()
	case types.DoubleKind, types.UintKind:
		return NumberType()
	case types.StringKind:
		return StringType()
	case types.BytesKind:
		return BytesType()
	case types.TimestampKind:
		return TimeType()
	case types.DurationKind:
		return DurationType()
	case types.NullTypeKind:
		return NullType()
	case types.ListKind:
		return ListType(fromCEL(t.Parameters()[0]))
	case types.MapKind:
		return MapType(fromCEL(t.Parameters()[1]))
	case types.OpaqueKind:
		if t.TypeName() == "optional_type" {
			return optionalType(fromCEL(t.Parameters()[0]))
		}
	}
	return Dyn()
}
