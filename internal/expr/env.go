package expr

import (
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
	"cel.dev/cel-go/parser"
)

// Names that macros put into a syntax tree. None can be written in a source: @ is no part of
// an identifier.
const (
	varNow       = "@now"
	varUUID      = "@uuid"
	fnEq         = "@eq"
	fnNe         = "@ne"
	fnPlain      = "@plain"
	fnOrElse     = "@orElse"
	fnFormatArgs = "@formatArgs"
	fnJoin       = "@join"
	fnGroupBy    = "@groupBy"
	fnKeyBy      = "@keyBy"
	fnUnique     = "@uniqueBy"
	fnSortBy     = "@sortBy"
	fnMax        = "math.@max"
	fnMin        = "math.@min"
)

// base is the CEL environment that all scopes of one NewScope share. It is built once; the
// scopes add their names to its checker only.
type base struct {
	once     sync.Once
	err      error
	env      *cel.Env
	parser   *parser.Parser
	checker  *checker.Env
	standard map[string]bool // names that checker declares
	zones    zones

	mu     sync.Mutex
	scopes map[string]*checker.Env // by the names they add
}

func newBase() *base { return &base{scopes: map[string]*checker.Env{}} }

// maxScopeEnvs bounds the extended checkers that are kept.
const maxScopeEnvs = 256

// standardNames are declared in the shared checker, so that the usual scopes need no other.
// Whether one may be used is decided against the Scope.
func standardNames() []string {
	return []string{
		"trigger", "config", "steps", "item", "index", "error", "callback", "result", "cursor",
		"execution", "customer",
	}
}

// build makes the environment. The parser is cel-go's hand-written one: the generated one needs
// more than a millisecond before its first expression, and five times as long for each.
func (b *base) build() error {
	env, err := cel.NewCustomEnv(b.options()...)
	if err != nil {
		return err
	}
	b.env = env
	b.parser, err = parser.NewParser(
		parser.EnablePrattParser(true),
		parser.EnableOptionalSyntax(true),
		parser.Macros(env.Macros()...),
		parser.ExpressionSizeCodePointLimit(MaxSourceBytes),
		parser.MaxRecursionDepth(MaxSourceDepth),
		parser.MaxExpressionNodeCount(MaxSourceNodes),
	)
	if err != nil {
		return err
	}
	b.checker, err = checker.NewEnv(env.Container, env.CELTypeProvider())
	if err != nil {
		return err
	}
	for _, f := range env.Functions() {
		if err := b.checker.AddFunctions(f); err != nil {
			return err
		}
	}
	b.standard = map[string]bool{}
	for _, n := range standardNames() {
		b.standard[n] = true
	}
	return declare(b.checker, standardNames(),
		decls.NewVariable(varNow, types.TimestampType), decls.NewVariable(varUUID, types.StringType))
}

// declare adds names of unknown type: types are infer's business.
func declare(chk *checker.Env, names []string, more ...*decls.VariableDecl) error {
	for _, n := range names {
		more = append(more, decls.NewVariable(n, types.DynType))
	}
	return chk.AddIdents(more...)
}

func (b *base) ready() error {
	b.once.Do(func() {
		if err := b.build(); err != nil {
			b.err = fmt.Errorf("build expression environment: %w", err)
		}
	})
	return b.err
}

// with returns a checker that also knows the given names. The environment is ready.
func (b *base) with(names []string) (*checker.Env, error) {
	if len(names) == 0 {
		return b.checker, nil
	}
	key := strings.Join(names, " ")
	b.mu.Lock()
	defer b.mu.Unlock()
	if chk, ok := b.scopes[key]; ok {
		return chk, nil
	}
	chk, err := checker.NewEnv(b.env.Container, b.env.CELTypeProvider(), checker.ValidatedDeclarations(b.checker))
	if err == nil {
		err = declare(chk, names)
	}
	if err != nil {
		return nil, fmt.Errorf("extend expression environment: %w", err)
	}
	if len(b.scopes) >= maxScopeEnvs {
		clear(b.scopes)
	}
	b.scopes[key] = chk
	return chk, nil
}

func (b *base) options() []cel.EnvOption {
	opts := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(replacedStandard())),
		// Version 3 adds a comparison by CEL's equality, which knows no limit.
		cel.OptionalTypes(cel.OptionalTypesVersion(2)),
		ext.Bindings(ext.BindingsVersion(0)),
		ext.Strings(ext.StringsVersion(5)),
		ext.Encoders(ext.EncodersVersion(0)), // later ones bring JSON and YAML of their own
		ext.TwoVarComprehensions(ext.TwoVarComprehensionsVersion(0)),
		cel.RegexProgramSizeLimit(MaxRegexProgram),
		cel.Macros(macros()...),
	}
	opts = append(opts, operatorDecls()...)
	for _, f := range b.functions() {
		opts = append(opts, f.declare())
	}
	return append(opts, boundedStrings()...)
}

// replacedStandard takes out of the standard library what this package defines in its own way.
func replacedStandard() *env.LibrarySubset {
	subset := env.NewLibrarySubset().AddExcludedMacros("has")
	for _, name := range []string{
		operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo,
		operators.Negate, operators.Less, operators.LessEquals, operators.Greater,
		operators.GreaterEquals, operators.Equals, operators.NotEquals, operators.In,
		operators.Conditional,
		"int", "uint", "double", "string", "type", "timestamp", "duration",
		"getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours",
		"getMilliseconds", "getMinutes", "getMonth", "getSeconds",
	} {
		subset.AddExcludedFunctions(env.NewFunction(name))
	}
	return subset
}

// function is a function of the language.
type function struct {
	name    string
	args    [][]*cel.Type // of f(a, b), one list per overload
	members [][]*cel.Type // of a.f(b), one list per overload, the receiver first
	result  *cel.Type
	unary   func(a ref.Val) ref.Val
	binary  func(a, b ref.Val) ref.Val
	many    func(args ...ref.Val) ref.Val
	// shared is set where a library of cel-go declares other overloads of the same name: then
	// the arguments' types choose, else one implementation serves all overloads.
	shared bool
}

func (f function) declare() cel.EnvOption {
	var opts []cel.FunctionOpt
	var bind []cel.OverloadOpt
	if f.shared {
		bind = append(bind, f.overloadBinding())
	} else {
		opts = append(opts, f.singleton())
	}
	for i, args := range f.args {
		opts = append(opts, cel.Overload(fmt.Sprintf("%s_%d", f.name, i), args, f.result, bind...))
	}
	for i, args := range f.members {
		opts = append(opts, cel.MemberOverload(fmt.Sprintf("%s_member_%d", f.name, i), args, f.result, bind...))
	}
	return cel.Function(f.name, opts...)
}

func (f function) singleton() cel.FunctionOpt {
	switch {
	case f.unary != nil:
		return cel.SingletonUnaryBinding(f.unary)
	case f.binary != nil:
		return cel.SingletonBinaryBinding(f.binary)
	}
	return cel.SingletonFunctionBinding(f.many)
}

func (f function) overloadBinding() cel.OverloadOpt {
	switch {
	case f.unary != nil:
		return cel.UnaryBinding(f.unary)
	case f.binary != nil:
		return cel.BinaryBinding(f.binary)
	}
	return cel.FunctionBinding(f.many)
}

// operatorDecls declares the operators with typed overloads: with dyn ones "a" + 1 would pass.
func operatorDecls() []cel.EnvOption {
	num := []*cel.Type{cel.IntType, cel.DoubleType}
	numeric := func(op string, impl func(a, b ref.Val) ref.Val, result func(a, b *cel.Type) *cel.Type, more ...cel.FunctionOpt) cel.EnvOption {
		opts := more
		for _, a := range num {
			for _, b := range num {
				opts = append(opts, cel.Overload(fmt.Sprintf("%s_%s_%s", op, a, b), []*cel.Type{a, b}, result(a, b)))
			}
		}
		return cel.Function(op, append(opts, cel.SingletonBinaryBinding(impl))...)
	}
	wider := func(a, b *cel.Type) *cel.Type {
		if a == cel.IntType {
			return b
		}
		return a
	}
	dyn := func(a, b *cel.Type) *cel.Type { return cel.DynType }
	boolean := func(a, b *cel.Type) *cel.Type { return cel.BoolType }
	pair := func(id string, a, b, r *cel.Type) cel.FunctionOpt {
		return cel.Overload(id, []*cel.Type{a, b}, r)
	}
	str, byt, ts, dur := cel.StringType, cel.BytesType, cel.TimestampType, cel.DurationType
	listA, listB := cel.ListType(cel.TypeParamType("A")), cel.ListType(cel.TypeParamType("B"))
	paramA, paramB := cel.TypeParamType("A"), cel.TypeParamType("B")
	opts := []cel.EnvOption{
		numeric(operators.Add, add, wider,
			pair("add_string", str, str, str), pair("add_bytes", byt, byt, byt),
			pair("add_list", listA, listA, listA),
			pair("add_time", ts, dur, ts), pair("add_time_2", dur, ts, ts), pair("add_dur", dur, dur, dur)),
		numeric(operators.Subtract, subtract, wider,
			pair("sub_time", ts, ts, dur), pair("sub_time_2", ts, dur, ts), pair("sub_dur", dur, dur, dur)),
		numeric(operators.Multiply, multiply, wider),
		numeric(operators.Divide, divide, dyn),
		numeric(operators.Modulo, remainder, wider),
		cel.Function(operators.Negate,
			cel.Overload("neg_int", []*cel.Type{cel.IntType}, cel.IntType),
			cel.Overload("neg_double", []*cel.Type{cel.DoubleType}, cel.DoubleType),
			cel.Overload("neg_dur", []*cel.Type{dur}, dur),
			cel.SingletonUnaryBinding(negate)),
		cel.Function(fnEq, pair("eq", paramA, paramB, cel.BoolType), cel.SingletonBinaryBinding(func(a, b ref.Val) ref.Val {
			return equalWithin(a, b, types.True, types.False)
		})),
		cel.Function(fnNe, pair("ne", paramA, paramB, cel.BoolType), cel.SingletonBinaryBinding(func(a, b ref.Val) ref.Val {
			return equalWithin(a, b, types.False, types.True)
		})),
		cel.Function(operators.In,
			pair("in_list", paramA, listB, cel.BoolType),
			pair("in_map", paramA, cel.MapType(paramB, cel.TypeParamType("C")), cel.BoolType),
			cel.SingletonBinaryBinding(contains)),
		// The evaluator has ?: built in; this only says that its branches may differ in type.
		cel.Function(operators.Conditional,
			cel.Overload("conditional", []*cel.Type{cel.BoolType, paramA, paramB}, cel.DynType)),
	}
	for op, accept := range map[string]func(int) bool{
		operators.Less:          func(c int) bool { return c < 0 },
		operators.LessEquals:    func(c int) bool { return c <= 0 },
		operators.Greater:       func(c int) bool { return c > 0 },
		operators.GreaterEquals: func(c int) bool { return c >= 0 },
	} {
		var same []cel.FunctionOpt
		for _, t := range []*cel.Type{str, cel.BoolType, byt, ts, dur} {
			same = append(same, pair(op+"_"+t.String(), t, t, cel.BoolType))
		}
		opts = append(opts, numeric(op, func(a, b ref.Val) ref.Val {
			c, err := order(a, b)
			if err != nil {
				return types.WrapErr(err)
			}
			return types.Bool(accept(c))
		}, boolean, same...))
	}
	return opts
}

// programOptions are those of every program: costs, limits, interruption.
func programOptions() []cel.ProgramOption {
	return []cel.ProgramOption{
		cel.CostTracking(coster{}),
		cel.CostLimit(MaxCost),
		cel.InterruptCheckFrequency(interruptEvery),
		cel.OptimizeRegex(interpreter.MatchesRegexOptimization),
	}
}
