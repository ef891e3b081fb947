package sandbox

import (
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-sourcemap/sourcemap"
	"github.com/grafana/sobek"
	"github.com/grafana/sobek/ast"
	"github.com/grafana/sobek/file"
	"github.com/grafana/sobek/parser"
)

// moduleName names the author's code in stack frames. It is not a path.
const moduleName = "code"

// A Program is a compiled code step. It is bound to no interpreter and may be run many times, one after the other.
type Program struct {
	module *sobek.SourceTextModuleRecord
	source string
	// original is the source map of compiled code, read with the first error.
	original func() *sourcemap.Consumer
}

// Compile parses and compiles source, an ES module with a default export. An error is an *[Error] of [KindSyntax], or of
// [KindTimeout] or [KindMemory] for source that is made to be slow to compile.
func (e *Engine) Compile(source string, limits Limits) (*Program, error) {
	limits = limits.withDefaults()
	if len(source) > limits.Source {
		return nil, errorf(KindSyntax, "the code is larger than %d bytes", limits.Source)
	}
	if !utf8.ValidString(source) {
		return nil, errorf(KindSyntax, "the code is not valid UTF-8")
	}
	p := newProgram(source)
	if at := tooNested(source); at >= 0 {
		return nil, p.at(errorf(KindSyntax, "brackets are nested more than %d levels deep", MaxNesting), at+1)
	}
	g := &guard{limits: limits}
	var module *sobek.SourceTextModuleRecord
	err := g.run(func() (err error) {
		module, err = p.compile()
		return err
	})
	if err != nil {
		return nil, err
	}
	p.module = module
	return p, nil
}

func newProgram(source string) *Program {
	p := &Program{source: source}
	p.original = sync.OnceValue(p.readMap)
	return p
}

func (p *Program) compile() (m *sobek.SourceTextModuleRecord, err error) {
	// Source maps must stay off: with them the engine's parser opens the file that a comment of the source names.
	tree, err := parser.ParseFile(nil, moduleName, p.source, 0, parser.IsModule, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, p.syntax(err)
	}
	if err := p.checkModule(tree); err != nil {
		return nil, err
	}
	defer func() {
		// The engine panics for a few forms of export that it does not know.
		if x := recover(); x != nil {
			m, err = nil, errorf(KindSyntax, "the code uses a form of export that is not supported")
		}
	}()
	m, err = sobek.ModuleFromAST(tree, refuseImport)
	if err != nil {
		return nil, p.syntax(err)
	}
	if err := m.Link(); err != nil {
		return nil, p.syntax(err)
	}
	return m, nil
}

// tooNested is the index of the bracket that opens one level too many, or -1. The engine parses nested source by
// recursion. Brackets in texts and comments count too: telling them apart would take a parser.
func tooNested(source string) int {
	level := 0
	for i := range len(source) {
		switch source[i] {
		case '(', '[', '{':
			if level++; level > MaxNesting {
				return i
			}
		case ')', ']', '}':
			level = max(level-1, 0)
		}
	}
	return -1
}

// checkModule refuses imports, and source without a default export, naming the place.
func (p *Program) checkModule(tree *ast.Program) error {
	hasDefault := false
	for _, statement := range tree.Body {
		switch s := statement.(type) {
		case *ast.ImportDeclaration:
			return p.at(errorf(KindSyntax, "import is not available in a code step"), int(s.Idx))
		case *ast.ExportDeclaration:
			if s.FromClause != nil {
				return p.at(errorf(KindSyntax, "export … from is not available in a code step"), int(s.Idx0()))
			}
			hasDefault = hasDefault || s.IsDefault || exportsDefault(s.NamedExports)
		}
	}
	if !hasDefault {
		return errorf(KindSyntax, "the code has no default export: write export default (input) => output")
	}
	return nil
}

func exportsDefault(named *ast.NamedExports) bool {
	if named == nil {
		return false
	}
	for _, spec := range named.ExportsList {
		if spec.Alias == "default" {
			return true
		}
	}
	return false
}

func refuseImport(any, string) (sobek.ModuleRecord, error) {
	return nil, errors.New("import is not available in a code step")
}

// syntax turns an error of the parser or compiler into an *Error with its place.
func (p *Program) syntax(err error) error {
	var list parser.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		e := errorf(KindSyntax, "%s", list[0].Message)
		e.Line, e.Column = p.place(list[0].Position)
		return e
	}
	var se *sobek.CompilerSyntaxError
	if errors.As(err, &se) {
		e := errorf(KindSyntax, "%s", se.Message)
		if se.File != nil {
			e.Line, e.Column = p.place(se.File.Position(se.Offset))
		}
		return e
	}
	return errorf(KindSyntax, "%s", err.Error())
}

// at sets the place of e to idx, a position of the syntax tree (an offset from 1).
func (p *Program) at(e *Error, idx int) *Error {
	offset := min(max(idx-1, 0), len(p.source))
	start := strings.LastIndexByte(p.source[:offset], '\n') + 1
	e.Line, e.Column = p.place(file.Position{Line: 1 + strings.Count(p.source[:start], "\n"), Column: 1 + offset - start})
	return e
}

// place turns a position of the engine, whose columns count bytes, into line and column in characters, in the author's
// source where the code carries a source map.
func (p *Program) place(pos file.Position) (line, column int) {
	if pos.Line <= 0 {
		return 0, 0
	}
	if line, column, ok := p.mapped(pos); ok {
		return line, column
	}
	rest := p.source
	for range pos.Line - 1 {
		_, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return pos.Line, pos.Column
		}
		rest = after
	}
	bytes := min(max(pos.Column-1, 0), len(rest))
	return pos.Line, 1 + utf8.RuneCountInString(rest[:bytes])
}

// mapPrefix begins the comment with which compiled code carries its source map.
const mapPrefix = "\n//# sourceMappingURL=data:application/json;base64,"

// readMap gives the source map at the end of the code, nil if there is none or it is broken. Whoever wrote the code
// wrote the map, so all it can do is misplace that author's errors.
func (p *Program) readMap() (m *sourcemap.Consumer) {
	_, encoded, ok := strings.Cut(p.source, mapPrefix)
	if !ok {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	m, err = sourcemap.Parse("", data)
	if err != nil {
		return nil
	}
	return m
}

// mapped finds a position of the engine in the source map.
func (p *Program) mapped(pos file.Position) (line, column int, ok bool) {
	m := p.original()
	if m == nil {
		return 0, 0, false
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	_, _, line, column, ok = m.Source(pos.Line, pos.Column-1)
	return line, column + 1, ok
}
