package expr

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// names collects the paths that the expression reads, and reports names that are not in scope.
func (c *compiler) names() (refs [][]string, unknown []Issue) {
	w := nameWalk{c: c, bound: map[string]int{}}
	w.expr(c.tree.Expr())
	return w.refs, w.issues
}

type nameWalk struct {
	c      *compiler
	bound  map[string]int // names of comprehensions around the current node
	refs   [][]string
	issues []Issue
}

func (w *nameWalk) expr(e ast.Expr) {
	if path, ok := pathOf(e); ok {
		w.path(e, path)
		return
	}
	switch e.Kind() {
	case ast.LiteralKind:
		if _, unsigned := e.AsLiteral().(types.Uint); unsigned {
			issue := w.c.issueOf(e)
			issue.Message, issue.Suggestion = "there are no unsigned numbers here", "write it without the u"
			w.issues = append(w.issues, issue)
		}
	case ast.CallKind:
		call := e.AsCall()
		switch {
		case call.IsMemberFunction() && w.isNamespace(call):
			w.namespaced(e, call.Target().AsIdent()+"."+call.FunctionName())
		case call.IsMemberFunction():
			w.expr(call.Target())
		}
		for _, a := range call.Args() {
			w.expr(a)
		}
	case ast.SelectKind:
		w.expr(e.AsSelect().Operand())
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.expr(x)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			w.expr(entry.AsMapEntry().Key())
			w.expr(entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		w.issues = append(w.issues, w.c.issueAt(e.ID(), 1, "objects are written without a type"))
		w.issues[len(w.issues)-1].Suggestion = `like {"key": value}`
	case ast.ComprehensionKind:
		f := e.AsComprehension()
		w.expr(f.IterRange())
		w.expr(f.AccuInit())
		w.bind(+1, f.AccuVar(), f.IterVar(), f.IterVar2())
		w.expr(f.LoopCondition())
		w.expr(f.LoopStep())
		w.bind(-1, f.IterVar(), f.IterVar2())
		w.expr(f.Result())
		w.bind(-1, f.AccuVar())
	}
}

func (w *nameWalk) bind(n int, names ...string) {
	for _, name := range names {
		w.bound[name] += n
	}
}

// isNamespace reports whether the target of a call is no value but the first half of a
// function's name, as in base64.encode(x).
func (w *nameWalk) isNamespace(call ast.CallExpr) bool {
	t := call.Target()
	if t.Kind() != ast.IdentKind || w.bound[t.AsIdent()] > 0 {
		return false
	}
	if _, ok := w.c.scope.Lookup(t.AsIdent()); ok {
		return false
	}
	switch t.AsIdent() {
	case "math", "strings", "base64", "optional", "lists", "cel":
		return true
	}
	return false
}

// namespaced reports a function of a namespace that does not exist.
func (w *nameWalk) namespaced(e ast.Expr, name string) {
	if _, ok := w.c.functions[name]; ok {
		return
	}
	issue := w.c.issueOf(e)
	w.c.unknownFunction(&issue, name)
	w.issues = append(w.issues, issue)
}

func (w *nameWalk) path(e ast.Expr, path []string) {
	name := path[0]
	if w.bound[name] > 0 || strings.HasPrefix(name, "@") || strings.HasPrefix(name, "#") {
		return
	}
	if _, ok := w.c.scope.Lookup(name); ok {
		w.refs = append(w.refs, path)
		return
	}
	root := e
	for root.Kind() != ast.IdentKind {
		if root.Kind() == ast.SelectKind {
			root = root.AsSelect().Operand()
		} else {
			root = root.AsCall().Args()[0]
		}
	}
	issue := w.c.issueAt(root.ID(), len(name), "there is no "+name+" here")
	names := w.c.scope.Names()
	if near := nearest(name, names); near != "" {
		issue.Suggestion = "did you mean " + near + "?"
	} else if len(names) > 0 {
		issue.Suggestion = "known here: " + strings.Join(names, ", ")
	}
	w.issues = append(w.issues, issue)
}

// pathOf returns the path that an expression is: fields by name, items as [n].
func pathOf(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return []string{strings.TrimPrefix(e.AsIdent(), ".")}, true
	case ast.SelectKind:
		s := e.AsSelect()
		path, ok := pathOf(s.Operand())
		return append(path, s.FieldName()), ok && !s.IsTestOnly()
	}
	return nil, false
}

// References returns the paths that the expression reads, sorted, each once, as they would be
// written: "steps.order.body", "trigger". Fields of loop variables are not among them.
func (p *Program) References() []string {
	out := make([]string, 0, len(p.refs))
	for _, r := range p.refs {
		out = append(out, pathText(r))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
