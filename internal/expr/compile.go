package expr

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

// Vars gives an evaluation its variables: "trigger", "config", "steps", "item", …. Resolve must
// be fast and must give the same value every time; false means that there is no such value.
type Vars interface {
	Resolve(name string) (Value, bool)
}

// Host is what now() and uuid() need. Vars that also are a Host provide them; without one the
// functions are errors. Both must give the same again when an execution resumes: Now one fixed
// time per step, UUID the next value of a sequence made from seed and step path.
type Host interface {
	Now() time.Time
	UUID() string
}

// Program is a compiled expression. It is immutable and safe for use by several goroutines.
type Program struct {
	src  string
	prog cel.Program
	tree *ast.AST
	typ  Type
	refs [][]string
	path []string // of a pure reference, which is read without the evaluator
}

// Compile checks an expression against the names and types in scope. It returns all issues at
// once, and no program when there is any.
func Compile(src string, s *Scope) (*Program, []Issue) {
	if len(src) > MaxSourceBytes {
		return nil, []Issue{{Length: len(src), Message: fmt.Sprintf("an expression may be at most %d bytes long", MaxSourceBytes)}}
	}
	c := &compiler{src: src, scope: s}
	return c.compile()
}

type compiler struct {
	src    string
	scope  *Scope
	tree   *ast.AST
	issues []Issue
	nextID int64

	functions map[string]*decls.FunctionDecl
}

func (c *compiler) compile() (*Program, []Issue) {
	b := c.scope.base
	if err := b.ready(); err != nil {
		return nil, []Issue{{Message: err.Error()}}
	}
	chk, err := b.with(c.extraNames())
	if err != nil {
		return nil, []Issue{{Message: err.Error()}}
	}
	c.functions = b.env.Functions()
	src := common.NewTextSource(c.src)
	parsed, errs := b.parser.Parse(src)
	if len(errs.GetErrors()) > 0 {
		return nil, c.translate(errs)
	}
	if ast.ExceedsDepth(parsed, maxTreeDepth) || ast.NodeCount(parsed) > MaxSourceNodes {
		return nil, []Issue{c.tooLarge()}
	}
	c.tree = parsed
	refs, unknown := c.names()
	if len(unknown) > 0 {
		return nil, unknown
	}
	c.rewrite()
	if len(c.issues) > 0 {
		return nil, c.issues
	}
	checked, errs := checker.Check(parsed, src, chk)
	if len(errs.GetErrors()) > 0 {
		return nil, c.translate(errs)
	}
	c.tree = checked
	typ := c.infer()
	if len(c.issues) > 0 {
		return nil, c.issues
	}
	prog, err := b.env.PlanProgram(checked, programOptions()...)
	if err != nil {
		return nil, []Issue{c.planIssue(err)}
	}
	p := &Program{src: c.src, prog: prog, tree: checked, typ: typ, refs: refs}
	if path, ok := IsReference(c.src); ok {
		p.path = path
	}
	return p, nil
}

// maxTreeDepth bounds the recursion over a tree: macros make it deeper than its source, and a
// chain of operators makes a deep tree without any nesting.
const maxTreeDepth = 1_000

// extraNames are the names in scope that the base environment does not declare.
func (c *compiler) extraNames() []string {
	var extra []string
	for name := range c.scope.vars {
		if !c.scope.base.standard[name] {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	return extra
}

// Type returns what is known about the result.
func (p *Program) Type() Type { return p.typ }

// Source returns the source the program was compiled from.
func (p *Program) Source() string { return p.src }

// Eval computes the result. It stops with an *Error when something does not fit, when a limit is
// reached, or when ctx ends, whose error the *Error then wraps.
func (p *Program) Eval(ctx context.Context, v Vars) (Value, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx)
	}
	if p.path != nil {
		return ResolveReference(p.path, v)
	}
	act := activation{vars: v}
	out, _, err := p.prog.ContextEval(ctx, &act)
	if err != nil {
		return nil, p.explain(ctx, v, err)
	}
	if deepWeight(out, MaxValueItems) > MaxValueItems {
		return nil, limitErrorf("the result has more than %d items and fields", MaxValueItems)
	}
	return unwrap(out), nil
}

// activation shows Vars to the evaluator.
type activation struct{ vars Vars }

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case varNow, varUUID:
		host, ok := a.vars.(Host)
		if !ok {
			return errorVal("%s() cannot be used here", name[1:]), true
		}
		if name == varNow {
			return Time(host.Now()), true
		}
		return types.String(host.UUID()), true
	}
	v, ok := a.vars.Resolve(name)
	if !ok {
		return nil, false
	}
	return v, true
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }
