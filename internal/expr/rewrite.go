package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// rewrite replaces what the evaluator would compute in its own way: == and != by Equal, has and
// orElse by optional paths, and it makes numbers plain that reach functions of cel-go, which
// know ints and doubles only. Nodes keep their ids, and so their places in the source.
func (c *compiler) rewrite() {
	c.nextID = ast.MaxID(c.tree) + 1
	factory := ast.NewExprFactory()
	ast.PostOrderVisit(c.tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		args := call.Args()
		switch name := call.FunctionName(); {
		case name == operators.Equals:
			e.SetKindCase(factory.NewCall(e.ID(), fnEq, args...))
		case name == operators.NotEquals:
			e.SetKindCase(factory.NewCall(e.ID(), fnNe, args...))
		case name == "orElse" && len(args) == 2 && !call.IsMemberFunction():
			c.optionalChain(factory, args[0])
			e.SetKindCase(factory.NewCall(e.ID(), fnOrElse, args...))
		case name == "has" && len(args) == 1 && !call.IsMemberFunction():
			if !c.optionalChain(factory, args[0]) {
				issue := c.issueOf(args[0])
				issue.Message, issue.Suggestion = "has() takes a field", "like has(trigger.body.email)"
				c.issues = append(c.issues, issue)
				return
			}
			e.SetKindCase(factory.NewMemberCall(e.ID(), "hasValue", args[0]))
		case name == "join" && call.IsMemberFunction():
			e.SetKindCase(factory.NewCall(e.ID(), fnJoin, append([]ast.Expr{call.Target()}, args...)...))
		case call.IsMemberFunction() && takesPlain(name):
			c.plainArguments(factory, e)
		}
	}))
}

// optionalChain rewrites a.b[c] to a.?b[?c], so that a missing field, or a null on the way,
// makes the whole absent. It reports whether e is such a path at all.
func (c *compiler) optionalChain(factory ast.ExprFactory, e ast.Expr) bool {
	switch {
	case e.Kind() == ast.SelectKind:
		s := e.AsSelect()
		c.optionalChain(factory, s.Operand())
		key := factory.NewLiteral(c.newID(e.ID()), types.String(s.FieldName()))
		e.SetKindCase(factory.NewCall(e.ID(), operators.OptSelect, s.Operand(), key))
	case isCall(e, operators.OptSelect), isCall(e, operators.OptIndex):
		c.optionalChain(factory, e.AsCall().Args()[0])
	case isCall(e, operators.Index):
		args := e.AsCall().Args()
		c.optionalChain(factory, args[0])
		e.SetKindCase(factory.NewCall(e.ID(), operators.OptIndex, args...))
	default:
		return false
	}
	return true
}

func isCall(e ast.Expr, name string) bool {
	return e.Kind() == ast.CallKind && e.AsCall().FunctionName() == name && len(e.AsCall().Args()) == 2
}

// plainArguments wraps the arguments of a method of cel-go that are not literals.
func (c *compiler) plainArguments(factory ast.ExprFactory, e ast.Expr) {
	call := e.AsCall()
	wrapped := make([]ast.Expr, len(call.Args()))
	for i, a := range call.Args() {
		switch {
		case call.FunctionName() == "format":
			wrapped[i] = factory.NewCall(c.newID(a.ID()), fnFormatArgs, a)
		case a.Kind() == ast.LiteralKind:
			wrapped[i] = a
		default:
			wrapped[i] = factory.NewCall(c.newID(a.ID()), fnPlain, a)
		}
	}
	e.SetKindCase(factory.NewMemberCall(e.ID(), call.FunctionName(), call.Target(), wrapped...))
}

// newID makes a node id that stands at the place of another.
func (c *compiler) newID(like int64) int64 {
	id := c.nextID
	c.nextID++
	if r, ok := c.tree.SourceInfo().GetOffsetRange(like); ok {
		c.tree.SourceInfo().SetOffsetRange(id, r)
	}
	return id
}

// takesPlain names the methods of cel-go that take a number.
func takesPlain(name string) bool {
	switch name {
	case "charAt", "indexOf", "lastIndexOf", "replace", "split", "substring", "format":
		return true
	}
	return false
}
