package expr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

// explain turns what the evaluator reports into an *Error in the words of this language.
func (p *Program) explain(ctx context.Context, v Vars, err error) *Error {
	var own *Error
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.Is(err, interpreter.InterruptError{}):
		return interrupted(ctx)
	case errors.As(err, &cancelled):
		return limitErrorf("the expression needs too many operations; split the work into steps or a for loop")
	}
	out := &Error{Message: "the expression failed", Offset: -1}
	var node *types.Err
	var at ast.Expr
	if errors.As(err, &node) {
		at = findNode(p.tree.Expr(), node.NodeID())
	}
	if at != nil {
		if r, ok := p.tree.SourceInfo().GetOffsetRange(at.ID()); ok {
			out.Offset = (&compiler{src: p.src}).byteOffset(int(r.Start))
		}
	}
	if errors.As(err, &own) {
		out.Message, out.Limit = own.Message, own.Limit
		return out
	}
	out.Message = p.message(at, v, err.Error())
	return out
}

func interrupted(ctx context.Context) *Error {
	return &Error{Message: "the evaluation was interrupted", Offset: -1, cause: context.Cause(ctx)}
}

// message rewrites a message of cel-go; at is the node that failed, nil when that is unknown.
func (p *Program) message(at ast.Expr, v Vars, text string) string {
	switch {
	case strings.HasPrefix(text, "no such attribute"):
		_, name, _ := strings.Cut(text, ": ")
		return name + " has no value here"
	case strings.HasPrefix(text, "no such key"), strings.HasPrefix(text, "index out of bounds"),
		strings.HasPrefix(text, "unsupported index type"), strings.HasPrefix(text, "invalid qualifier type"):
		if at != nil {
			return p.missingAt(at, v)
		}
	case strings.HasPrefix(text, "no such overload"):
		if at != nil {
			return p.misuse(at, v)
		}
	case strings.HasPrefix(text, "got '") && strings.HasSuffix(text, "expected iterable type"):
		return "only lists and objects can be gone through" + p.iterated(v)
	case strings.HasPrefix(text, "optional.none() dereference"):
		return "value() of an optional value that is absent; orValue(x) says what then"
	case strings.HasPrefix(text, "insert failed"):
		return "an object cannot have one key twice"
	case strings.HasPrefix(text, "type conversion error"):
		return "this value cannot be converted"
	case strings.HasPrefix(text, "index out of range"):
		return "a position lies outside of the string"
	case strings.HasPrefix(text, "error during formatting"):
		return text
	case strings.HasPrefix(text, "internal error"):
		return "the expression could not be evaluated"
	}
	return text
}

// missingAt says why a field or item is not there, by walking the path to it again.
func (p *Program) missingAt(at ast.Expr, v Vars) string {
	path, ok := staticPath(at)
	if !ok || len(path) == 0 {
		return "there is no such field or item" + inPath(at)
	}
	cur, found := v.Resolve(path[0])
	if !found { // the root is a loop variable
		return fmt.Sprintf("there is no %s: the field is missing, or what it is read from is null", pathText(path))
	}
	for i, key := range path[1:] {
		next, ok := step(cur, key)
		if !ok {
			return missing(cur, path[:i+1], key)
		}
		cur = next
	}
	return fmt.Sprintf("there is no %s", pathText(path))
}

func inPath(at ast.Expr) string {
	if s := describe(at); s != unnamed {
		return ": " + s
	}
	return ""
}

// staticPath is the path that an expression is, with items and keys that are literals.
func staticPath(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return []string{strings.TrimPrefix(e.AsIdent(), ".")}, !strings.HasPrefix(e.AsIdent(), "@")
	case ast.SelectKind:
		path, ok := staticPath(e.AsSelect().Operand())
		return append(path, e.AsSelect().FieldName()), ok
	case ast.CallKind:
		if !isCall(e, operators.Index) && !isCall(e, operators.OptSelect) && !isCall(e, operators.OptIndex) {
			return nil, false
		}
		args := e.AsCall().Args()
		path, ok := staticPath(args[0])
		if !ok || args[1].Kind() != ast.LiteralKind {
			return nil, false
		}
		switch k := args[1].AsLiteral().(type) {
		case types.String:
			return append(path, string(k)), true
		case types.Int:
			return append(path, fmt.Sprintf("[%d]", k)), true
		}
	}
	return nil, false
}

// misuse says which argument a function or operator does not take.
func (p *Program) misuse(at ast.Expr, v Vars) string {
	if at.Kind() != ast.CallKind {
		return p.condition(at, v)
	}
	call := at.AsCall()
	name := displayName(call.FunctionName())
	switch call.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional, operators.NotStrictlyFalse:
		for _, a := range call.Args() {
			if k := kindAt(a, v); k != KindOther && k != KindBool {
				return p.condition(a, v)
			}
			if call.FunctionName() == operators.Conditional {
				break
			}
		}
		return "a condition must be true or false"
	}
	var found []string
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	for _, a := range args {
		if k := kindAt(a, v); k != KindOther && a.Kind() != ast.LiteralKind {
			found = append(found, fmt.Sprintf("%s is a %s", describe(a), k))
		}
	}
	if strings.ContainsAny(name, "@_") {
		name = "an operator"
	} else {
		name += "()"
	}
	if len(found) > 0 {
		return fmt.Sprintf("%s does not take these values: %s", name, strings.Join(found, ", "))
	}
	return name + " does not take these values"
}

func (p *Program) condition(e ast.Expr, v Vars) string {
	k := kindAt(e, v)
	if k == KindOther {
		return "a condition must be true or false"
	}
	return fmt.Sprintf("a condition must be true or false, %s is %s", describe(e), Type{kind: kindType(k)}.withArticle())
}

// kindAt is the kind of a literal or of what a path leads to, KindOther for any other
// expression.
func kindAt(e ast.Expr, v Vars) ValueKind {
	if e.Kind() == ast.LiteralKind {
		return Kind(e.AsLiteral())
	}
	if isPlainCall(e) {
		return kindAt(e.AsCall().Args()[0], v)
	}
	path, ok := staticPath(e)
	if !ok {
		return KindOther
	}
	out, err := ResolveReference(path, v)
	if err != nil {
		return KindOther
	}
	return Kind(out)
}

func isPlainCall(e ast.Expr) bool {
	return e.Kind() == ast.CallKind && e.AsCall().FunctionName() == fnPlain
}

func kindType(k ValueKind) typeKind {
	return map[ValueKind]typeKind{
		KindNull: kNull, KindBool: kBool, KindNumber: kNumber, KindString: kString, KindBytes: kBytes,
		KindTime: kTime, KindDuration: kDuration, KindList: kList, KindObject: kObject,
	}[k]
}

// iterated names the first thing in the expression that is gone through and is no list.
func (p *Program) iterated(v Vars) (text string) {
	ast.PreOrderVisit(p.tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.ComprehensionKind || text != "" {
			return
		}
		r := e.AsComprehension().IterRange()
		if k := kindAt(r, v); k != KindOther && k != KindList && k != KindObject {
			text = fmt.Sprintf("; %s is %s", describe(r), Type{kind: kindType(k)}.withArticle())
		}
	}))
	return text
}
