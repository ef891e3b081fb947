package expr

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// macros are the functions that take a piece of expression instead of its value.
func macros() []cel.Macro {
	return []cel.Macro{
		cel.GlobalMacro("now", 0, expandIdent(varNow)),
		cel.GlobalMacro("uuid", 0, expandIdent(varUUID)),
		cel.GlobalMacro("sum", 3, expandSum),
		cel.GlobalMacro("groupBy", 3, expandKeyed(fnGroupBy)),
		cel.GlobalMacro("keyBy", 3, expandKeyed(fnKeyBy)),
		cel.GlobalMacro("unique", 3, expandKeyed(fnUnique)),
		cel.ReceiverMacro("sortBy", 2, expandSortBy),
		cel.ReceiverVarArgMacro("greatest", expandExtreme(fnMax)),
		cel.ReceiverVarArgMacro("least", expandExtreme(fnMin)),
	}
}

func expandIdent(name string) cel.MacroFactory {
	return func(m cel.MacroExprFactory, _ ast.Expr, _ []ast.Expr) (ast.Expr, *cel.Error) {
		return m.NewIdent(name), nil
	}
}

// expandSum makes sum(list, x, x.price) out of sum(list.map(x, x.price)).
func expandSum(m cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	mapped, err := parser.MakeMap(m, args[0], args[1:])
	if err != nil {
		return nil, err
	}
	return m.NewCall("sum", mapped), nil
}

// expandKeyed makes groupBy(list, x, x.k) out of @groupBy(list, list.map(x, x.k)).
func expandKeyed(name string) cel.MacroFactory {
	return func(m cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		return withKeys(m, name, args[0], args[1:])
	}
}

func expandSortBy(m cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	return withKeys(m, fnSortBy, target, args)
}

// withKeys calls name with a list and what args makes of each of its items; the list is bound
// to a variable so that it is computed once.
func withKeys(m cel.MacroExprFactory, name string, list ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	const input = "@keyed"
	keys, err := parser.MakeMap(m, m.NewIdent(input), args)
	if err != nil {
		return nil, err
	}
	call := m.NewCall(name, m.NewIdent(input), keys)
	return m.NewComprehension(m.NewList(), "#unused", input, list,
		m.NewLiteral(types.False), m.NewIdent(input), call), nil
}

// expandExtreme makes math.greatest(a, b) and math.greatest(list) one call on a list.
func expandExtreme(name string) cel.MacroFactory {
	return func(m cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		if target.Kind() != ast.IdentKind || target.AsIdent() != "math" {
			return nil, nil
		}
		if len(args) == 0 {
			return nil, m.NewError(target.ID(), "math.greatest and math.least take numbers, or one list of numbers")
		}
		if len(args) == 1 && args[0].Kind() != ast.LiteralKind {
			return m.NewCall(name, args[0]), nil
		}
		return m.NewCall(name, m.NewList(args...)), nil
	}
}
