package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// issueAt makes an issue at a node of the tree.
func (c *compiler) issueAt(id int64, length int, message string) Issue {
	r, ok := c.tree.SourceInfo().GetOffsetRange(id)
	if !ok {
		return Issue{Length: len(c.src), Message: message}
	}
	return c.issue(c.byteOffset(int(r.Start)), length, message)
}

// issue makes an issue within the bounds of the source.
func (c *compiler) issue(at, length int, message string) Issue {
	at = max(0, min(at, len(c.src)))
	return Issue{Offset: at, Length: min(max(length, 1), len(c.src)-at), Message: message}
}

// issueOf makes an issue that spans a whole subtree.
func (c *compiler) issueOf(e ast.Expr) Issue {
	start, stop := -1, -1
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(n ast.Expr) {
		r, ok := c.tree.SourceInfo().GetOffsetRange(n.ID())
		if !ok {
			return
		}
		from, to := int(r.Start), int(r.Stop)
		switch n.Kind() {
		case ast.SelectKind:
			to += utf8.RuneCountInString(n.AsSelect().FieldName())
		case ast.CallKind: // the place of a call is its parenthesis
			if !n.AsCall().IsMemberFunction() {
				from -= c.nameBefore(from, displayName(n.AsCall().FunctionName()))
			}
		}
		if start < 0 || from < start {
			start = from
		}
		stop = max(stop, to)
	}))
	if start < 0 {
		return Issue{Length: len(c.src)}
	}
	from, to := balance(c.src, c.byteOffset(start), c.byteOffset(stop))
	return c.issue(from, to-from, "")
}

// nameBefore is the length of name where it stands right before an offset in code points.
func (c *compiler) nameBefore(at int, name string) int {
	if strings.HasSuffix(c.src[:c.byteOffset(at)], name) {
		return len(name)
	}
	return 0
}

// balance widens a span to the brackets that it cuts.
func balance(src string, from, to int) (int, int) {
	depth := 0
	for i := from; i < len(src) && (i < to || depth > 0); i++ {
		switch src[i] {
		case '"', '\'':
			end, ok := literalEnd(src, i)
			if !ok {
				return from, to
			}
			i = end - 1
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth < 0 { // it was opened before the span
				open := strings.LastIndexAny(src[:from], "([{")
				if open < 0 {
					return from, to
				}
				from, depth = open, 0
			}
		}
		to = max(to, i+1)
	}
	return from, to
}

// fieldIssue makes an issue at the name of a field, which stands behind the node's own place.
func (c *compiler) fieldIssue(e ast.Expr, name string) Issue {
	issue := c.issueAt(e.ID(), 1, "")
	if at := strings.Index(c.src[issue.Offset:], name); at >= 0 && strings.Trim(c.src[issue.Offset:issue.Offset+at], " \t\r\n.?[\"'") == "" {
		return c.issue(issue.Offset+at, len(name), "")
	}
	return issue
}

// byteOffset converts an offset in code points, as CEL counts, to bytes.
func (c *compiler) byteOffset(runes int) int {
	at := 0
	for range runes {
		_, n := utf8.DecodeRuneInString(c.src[at:])
		at += n
	}
	return at
}

// translate turns what cel-go reports into issues in the words of this language. Of syntax
// errors only the first counts: the others follow from it.
func (c *compiler) translate(errs *common.Errors) []Issue {
	var out []Issue
	for _, e := range errs.GetErrors() {
		at := 0
		if col := e.Location.Column(); col >= 0 {
			at = c.lineOffset(e.Location.Line()) + col
		}
		if c.tree == nil && !isMacroError(e.Message) {
			return []Issue{c.syntaxIssue(c.byteOffset(at), strings.TrimPrefix(e.Message, "Syntax error: "))}
		}
		out = append(out, c.checkIssue(c.byteOffset(at), e))
	}
	return out
}

// isMacroError reports whether the parser complains about a macro's arguments or about a size,
// not about syntax.
func isMacroError(msg string) bool {
	for _, part := range []string{"argument", "math.", "recursion", "count exceeds", "size exceeds"} {
		if strings.Contains(msg, part) {
			return true
		}
	}
	return false
}

// lineOffset is where a line, counted from 1, starts, in code points.
func (c *compiler) lineOffset(line int) int {
	n := 0
	for _, r := range c.src {
		if line <= 1 {
			break
		}
		n++
		if r == '\n' {
			line--
		}
	}
	return n
}

func (c *compiler) tooLarge() Issue {
	return Issue{Length: len(c.src), Message: "the expression is too large or too deeply nested", Suggestion: "split it into steps"}
}

// planIssue is about what only planning finds: literals that are not what they must be.
func (c *compiler) planIssue(err error) Issue {
	issue := Issue{Length: len(c.src), Message: err.Error()}
	if _, why, ok := strings.Cut(err.Error(), "error parsing regexp: "); ok {
		issue.Message = "this regular expression is not valid: " + why
	} else if strings.Contains(err.Error(), "program size") {
		issue.Message = "this regular expression is too large"
	}
	return issue
}

// syntaxIssue words a syntax error by the word that stands where it was found.
func (c *compiler) syntaxIssue(at int, text string) Issue {
	token := wordAt(c.src, at)
	issue := c.issue(at, len(token), "")
	if token == "" {
		issue.Length = 0
	}
	want, expects := strings.CutPrefix(text, "expected ")
	switch {
	case strings.HasPrefix(text, "unterminated"):
		issue.Message = "this string has no end"
		issue.Length = len(c.src) - issue.Offset
		return issue
	case strings.HasPrefix(text, "unable to unescape"), strings.HasPrefix(text, "invalid unicode"):
		issue.Message, issue.Suggestion = "this string has an unknown escape", `a backslash is written \\`
		return issue
	case strings.HasPrefix(text, "invalid int"), strings.HasPrefix(text, "invalid double"):
		issue.Message, issue.Suggestion = "this number is too large to be written so", `decimal("…") keeps all digits`
		return issue
	case strings.HasPrefix(text, "invalid uint"):
		issue.Message, issue.Suggestion = "there are no unsigned numbers here", "write it without the u"
		return issue
	case strings.HasPrefix(text, "reserved identifier"):
		issue.Message = token + " is a reserved word"
	case expects:
		want, _, _ = strings.Cut(strings.TrimPrefix(want, "identifier after "), " in ")
		want = strings.Trim(want, "'")
		if want == "." {
			want = "a name after ."
		}
		issue.Message = want + " is missing"
		if token == "" {
			issue.Message += " at the end"
		} else {
			issue.Message += " before " + token
		}
	case token == "":
		issue.Message = "the expression ends where a value is expected"
	default:
		issue.Message = "unexpected " + shorten(token)
	}
	issue.Suggestion = wordHint(token)
	if before := strings.Fields(c.src[:issue.Offset]); issue.Suggestion == "" && len(before) > 0 {
		issue.Suggestion = wordHint(before[len(before)-1])
	}
	return issue
}

// wordAt is the word, the quoted text or the sign at an offset.
func wordAt(src string, at int) string {
	if at < 0 || at >= len(src) {
		return ""
	}
	s := src[at:]
	if s[0] == '"' || s[0] == '\'' {
		if end, ok := literalEnd(src, at); ok {
			return src[at:end]
		}
	}
	n := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || !isIdentByte(byte(r)) })
	switch {
	case n < 0:
		return s
	case n > 0:
		return s[:n]
	}
	_, n = utf8.DecodeRuneInString(s)
	return s[:n]
}

// wordHint says how words of other languages are written here.
func wordHint(word string) string {
	switch strings.ToLower(word) {
	case "=":
		return "equality is written =="
	case "&", "|":
		return "and is written &&, or is written ||"
	case "“", "”", "‘", "’", "„":
		return `strings stand in straight quotes: "…" or '…'`
	case "and":
		return "and is written &&"
	case "or":
		return "or is written ||"
	case "not":
		return "not is written !"
	case "is", "eq", "equals":
		return "equality is written =="
	case "if", "then", "else":
		return "a choice is written condition ? a : b"
	}
	return ""
}

func between(s, before, after string) string {
	_, s, ok := strings.Cut(s, before)
	if !ok {
		return ""
	}
	s, _, _ = strings.Cut(s, after)
	return s
}

// checkIssue is about an expression that is well formed but cannot work.
func (c *compiler) checkIssue(at int, e *common.Error) Issue {
	issue := c.issue(at, 1, e.Message)
	node := c.node(e.ExprID)
	if node != nil {
		issue = c.issueOf(node)
		issue.Message = e.Message
	}
	msg := e.Message
	switch {
	case strings.HasPrefix(msg, "undeclared reference to '"):
		c.unknownFunction(&issue, between(msg, "'", "'"))
	case strings.HasPrefix(msg, "found no matching overload for '"):
		rest := strings.TrimPrefix(msg, "found no matching overload for '")
		name, applied, _ := strings.Cut(rest, "' applied to '")
		c.noOverload(&issue, name, celNames(strings.TrimSuffix(applied, "'")))
	case strings.HasSuffix(msg, "does not support field selection"):
		issue.Message = celName(between(msg, "'", "'")) + " has no fields"
	case strings.HasPrefix(msg, "expected type '"):
		want := celName(between(msg, "expected type '", "'"))
		issue.Message = fmt.Sprintf("%s is expected here, this is %s", want, celName(between(msg, "found '", "'")))
	case strings.Contains(msg, "argument is not an identifier"), strings.Contains(msg, "argument must be a simple name"):
		issue.Message = "a name for the items is expected first"
		issue.Suggestion = "like list.map(x, x.id)"
	case strings.Contains(msg, "recursion"), strings.Contains(msg, "count exceeds"), strings.Contains(msg, "size exceeds"):
		return c.tooLarge()
	case strings.Contains(msg, "cannot be range of a comprehension"):
		issue.Message = "only lists and objects can be gone through"
	}
	return issue
}

// node finds a node of the tree.
func (c *compiler) node(id int64) (found ast.Expr) {
	if c.tree == nil {
		return nil
	}
	return findNode(c.tree.Expr(), id)
}

func findNode(root ast.Expr, id int64) (found ast.Expr) {
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(n ast.Expr) {
		if n.ID() == id {
			found = n
		}
	}))
	return found
}

func (c *compiler) unknownFunction(issue *Issue, name string) {
	if use := macroUsage(name); use != "" {
		issue.Message = name + "() is not used like this"
		issue.Suggestion = "it is used as " + use
		return
	}
	issue.Message = "there is no function " + name + "()"
	if near := nearest(name, c.functionNames()); near != "" {
		issue.Suggestion = "did you mean " + near + "()?"
	}
}

func (c *compiler) functionNames() []string {
	names := slices.Collect(maps.Keys(c.functions))
	for n := range macroUsages() {
		names = append(names, n)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.ContainsAny(n, "@_!?") })
	slices.Sort(names)
	return names
}

// noOverload says why a function or operator does not take its arguments.
func (c *compiler) noOverload(issue *Issue, name string, args []string) {
	at := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return "a value"
	}
	for i := range args {
		if args[i] == "an optional value" && strings.ContainsAny(name, "_!") {
			issue.Message = "an optional value may be absent"
			issue.Suggestion = "orElse(a.b, 0) or a.?b.orValue(0) says what then"
			return
		}
	}
	text := slices.Contains(args, "a string")
	switch name {
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		issue.Message = arithmeticWords(name, at(0), at(1))
		if slices.Contains(args, "null") {
			issue.Suggestion = "orElse(x, 0) stands in for a null"
		} else if name == operators.Add && text {
			issue.Suggestion = "string(x) makes a string of a number"
		}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		issue.Message = fmt.Sprintf("cannot order %s and %s", at(0), at(1))
	case operators.LogicalNot, operators.Conditional:
		issue.Message = "a condition must be true or false, this one is " + at(0)
	case operators.Negate:
		issue.Message = "cannot negate " + at(0)
	case operators.In:
		issue.Message = "in looks into a list or an object, not into " + at(1)
		if at(1) == "a string" {
			issue.Suggestion = "s.contains(x) looks into a string"
		}
	case operators.Index:
		issue.Message = fmt.Sprintf("%s has no item numbered by %s", at(0), at(1))
	default:
		shown := displayName(name)
		args = slices.DeleteFunc(args, func(a string) bool { return a == "a value" })
		if issue.Message = shown + "() is not used like this"; len(args) > 0 {
			issue.Message = fmt.Sprintf("%s() does not take %s here", shown, strings.Join(args, ", "))
		}
		if decl, ok := c.functions[name]; ok {
			issue.Suggestion = "it is used as " + usage(shown, decl.OverloadDecls())
		}
	}
}

func arithmeticWords(op, x, y string) string {
	switch op {
	case operators.Add:
		return fmt.Sprintf("cannot add %s and %s", x, y)
	case operators.Subtract:
		return fmt.Sprintf("cannot subtract %s from %s", y, x)
	case operators.Multiply:
		return fmt.Sprintf("cannot multiply %s by %s", x, y)
	}
	return fmt.Sprintf("cannot divide %s by %s", x, y)
}

// celNames translates "string.(int, dyn)" and "(int)".
func celNames(applied string) []string {
	var out []string
	target, args, member := strings.Cut(applied, ".(")
	if !member {
		target, args = "", strings.TrimPrefix(applied, "(")
	}
	if target != "" {
		out = append(out, celName(target))
	}
	args = strings.TrimSuffix(args, ")")
	depth, start := 0, 0
	for i := 0; i <= len(args); i++ {
		switch {
		case i == len(args) || args[i] == ',' && depth == 0:
			if a := strings.TrimSpace(args[start:i]); a != "" {
				out = append(out, celName(a))
			}
			start = i + 1
		case args[i] == '(':
			depth++
		case args[i] == ')':
			depth--
		}
	}
	return out
}

func celName(t string) string {
	base, _, _ := strings.Cut(t, "(")
	switch base {
	case "int":
		return "a whole number"
	case "double", "uint":
		return "a number"
	case "string":
		return "a string"
	case "bool":
		return "a boolean"
	case "bytes":
		return "bytes"
	case "list":
		return "a list"
	case "map":
		return "an object"
	case "null", "null_type":
		return "null"
	case "google.protobuf.Timestamp", "timestamp":
		return "a time"
	case "google.protobuf.Duration", "duration":
		return "a duration"
	case "optional_type":
		return "an optional value"
	}
	return "a value"
}

// displayName is how a function is called in a source.
func displayName(name string) string {
	switch name {
	case fnGroupBy, fnKeyBy, fnSortBy, fnOrElse:
		return name[1:]
	case fnUnique:
		return "unique"
	case fnMax:
		return "math.greatest"
	case fnMin:
		return "math.least"
	case fnFormatArgs:
		return "format"
	case fnJoin:
		return "join"
	case fnEq:
		return "=="
	case fnNe:
		return "!="
	}
	return name
}

// usage lists how a function is called: "round(value), round(value, number)".
func usage(name string, overloads []*decls.OverloadDecl) string {
	if use := macroUsage(name); use != "" {
		return use
	}
	var out []string
	for _, o := range overloads {
		args := o.ArgTypes()
		words := make([]string, len(args))
		for i, a := range args {
			words[i] = celWord(a)
		}
		if o.IsMemberFunction() && len(words) > 0 {
			out = append(out, fmt.Sprintf("%s.%s(%s)", words[0], name, strings.Join(words[1:], ", ")))
		} else {
			out = append(out, fmt.Sprintf("%s(%s)", name, strings.Join(words, ", ")))
		}
	}
	return strings.Join(out, ", ")
}

func celWord(t *types.Type) string {
	switch t.Kind() {
	case types.IntKind, types.DoubleKind, types.UintKind:
		return "number"
	case types.TimestampKind:
		return "time"
	case types.DurationKind:
		return "duration"
	case types.MapKind:
		return "object"
	case types.StringKind:
		return "string"
	case types.BytesKind:
		return "bytes"
	case types.ListKind:
		return "list"
	case types.BoolKind:
		return "boolean"
	}
	return "value"
}

func macroUsage(name string) string { return macroUsages()[name] }

// macroUsages are the functions that take a piece of expression.
func macroUsages() map[string]string {
	return map[string]string{
		"has": "has(a.b)", "orElse": "orElse(a.b, default)", "now": "now()", "uuid": "uuid()",
		"join": "list.join(), list.join(\", \")",
		"map":  "list.map(x, x.id)", "filter": "list.filter(x, x.id > 0)", "all": "list.all(x, x.id > 0)",
		"exists": "list.exists(x, x.id > 0)", "exists_one": "list.exists_one(x, x.id > 0)",
		"existsOne": "list.existsOne(i, x, x.id > 0)",
		"groupBy":   "groupBy(list, x, x.key)", "keyBy": "keyBy(list, x, x.key)",
		"unique": "unique(list), unique(list, x, x.key)", "sum": "sum(list), sum(list, x, x.price)",
		"sortBy":        "list.sortBy(x, x.key)",
		"transformList": "list.transformList(i, x, x.id)", "transformMap": "object.transformMap(k, v, v + 1)",
		"transformMapEntry": "object.transformMapEntry(k, v, {k: v})",
		"optMap":            "a.?b.optMap(x, x + 1)", "optFlatMap": "a.?b.optFlatMap(x, x.?c)",
		"math.greatest": "math.greatest(a, b), math.greatest(list)", "math.least": "math.least(a, b), math.least(list)",
	}
}
