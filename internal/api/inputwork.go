package api

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// Limits of the check of an input. A publisher writes the schema and whoever starts the flow
// the input: neither may make the server work without end. Size bounds nothing here, because
// a schema of a few lines that refers to itself twice at each of its levels doubles the work
// with every line.
const (
	// maxInputChecks is how many inputs are checked at a time.
	maxInputChecks = 2
	// maxInputWork is what one check may cost. A step of the check counts 1 for each schema in
	// it, name that it requires, value that it lists and member of what is checked.
	maxInputWork = 500_000
	// maxInputPattern is the longest regular expression in bytes, maxInputProgram the longest
	// program of one, which repetitions make longer than its text.
	maxInputPattern = 1 << 10
	maxInputProgram = 10_000
	// depthUnit is how much deeper an input may be for one more part of the work at each step:
	// what is wrong is noted with its place.
	depthUnit = 8
	// textUnit is how many bytes of text count as one member.
	textUnit = 1 << 10
	// patternUnit is how many bytes of text times instructions of a pattern do.
	patternUnit = 128
)

// errInputWork: the check was given up.
var errInputWork = errors.New("the check of the input is more work than the server takes on: make the schema of the flow's input simpler, or the input smaller")

// work is what is left for one check. It is used by one goroutine.
type work struct {
	left  int
	price int // of everything, from the depth of the input
}

// spend takes a part of what is left. The check is left by a panic when nothing is: the
// library has no other way out. [work.guard] takes it.
func (w *work) spend(n int) {
	if w.left -= n * w.price; w.left < 0 && !off(inputsBounded) {
		panic(errInputWork)
	}
}

// guard runs a check until it is over or costs too much.
func (w *work) guard(check func() error) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errInputWork:
			err = inputError(errInputWork.Error())
		default:
			panic(p)
		}
	}()
	return check()
}

// depthOf is how deep a value is nested.
func depthOf(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			deepest = max(deepest, 1+depthOf(x))
		}
	case []any:
		for _, x := range v {
			deepest = max(deepest, 1+depthOf(x))
		}
	}
	return deepest
}

// allOf is how many values a value is, with those in it.
func allOf(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			n += allOf(x)
		}
	case []any:
		for _, x := range v {
			n += allOf(x)
		}
	}
	return n
}

// meter makes every step of a compiled schema spend. It stands where the library looks
// before it goes deeper, in the place of the format, which it checks too. What the library
// looks at before that is paid by the step above.
func (w *work) meter(s *jsonschema.Schema, seen map[*jsonschema.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	step, other := 1+len(s.Required), 1
	for _, x := range parts(s) {
		step += first(x)
	}
	for _, x := range others(s) {
		other += first(x)
	}
	format := s.Format
	s.Format = &jsonschema.Format{Validate: func(v any) error {
		w.spend(step)
		w.spend(below(s, v, other))
		if s.UniqueItems {
			w.spend(allOf(v))
		}
		if format != nil {
			return format.Validate(v)
		}
		return nil
	}}
	if format != nil {
		s.Format.Name = format.Name
	}
	for _, list := range [][]*jsonschema.Schema{parts(s), others(s)} {
		for _, x := range list {
			w.meter(x, seen)
		}
	}
	for _, x := range s.Properties {
		w.meter(x, seen)
	}
}

// first is what the library does of a schema before it comes to the format.
func first(s *jsonschema.Schema) int {
	n := 1
	if s.Enum != nil {
		for _, v := range s.Enum.Values {
			n += allOf(v)
		}
	}
	if s.Const != nil {
		n += allOf(*s.Const)
	}
	return n
}

// below is what a step costs for the members of a value: a property has its own schema, any
// other member those for all, which cost other.
func below(s *jsonschema.Schema, v any, other int) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if x := s.Properties[k]; x != nil {
				n += first(x)
			}
			if len(s.Properties) == 0 || other > 1 {
				n += other
			}
		}
	case []any:
		n = len(v) * other
	case string:
		n = len(v) / textUnit
	}
	return n
}

// parts are the schemas that a schema applies to the same value.
func parts(s *jsonschema.Schema) []*jsonschema.Schema {
	list := []*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else, s.ContentSchema}
	for _, more := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		list = append(list, more...)
	}
	for _, x := range s.DependentSchemas {
		list = append(list, x)
	}
	for _, x := range s.Dependencies {
		if x, ok := x.(*jsonschema.Schema); ok {
			list = append(list, x)
		}
	}
	return there(list)
}

// others are the schemas that a schema applies to members of the value, but for its properties.
func others(s *jsonschema.Schema) []*jsonschema.Schema {
	list := append([]*jsonschema.Schema{s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems}, s.PrefixItems...)
	for _, x := range s.PatternProperties {
		list = append(list, x)
	}
	for _, x := range []any{s.AdditionalProperties, s.AdditionalItems, s.Items} {
		switch x := x.(type) {
		case *jsonschema.Schema:
			list = append(list, x)
		case []*jsonschema.Schema:
			list = append(list, x...)
		}
	}
	return there(list)
}

func there(list []*jsonschema.Schema) []*jsonschema.Schema {
	return slices.DeleteFunc(list, func(s *jsonschema.Schema) bool { return s == nil })
}

// measured is a regular expression whose matches spend.
type measured struct {
	*regexp.Regexp
	size int // of its program
	w    *work
}

// MatchString implements [jsonschema.Regexp].
func (m *measured) MatchString(s string) bool {
	m.w.spend(1 + len(s)*m.size/patternUnit)
	return m.Regexp.MatchString(s)
}

// pattern compiles a regular expression of a schema.
func (w *work) pattern(text string) (jsonschema.Regexp, error) {
	if len(text) > maxInputPattern {
		return nil, fmt.Errorf("a pattern has %d bytes, more than %d", len(text), maxInputPattern)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxInputProgram {
		return nil, fmt.Errorf("a pattern repeats too much: %s", short(text))
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &measured{re, len(program.Inst), w}, nil
}

// checkSchema refuses what cannot be metered: other documents, those of the standard among
// them, references that are resolved while checking, and what is too large to compile.
func checkSchema(v any) error {
	if n := allOf(v); n > flow.MaxSchemaNodes {
		return fmt.Errorf("it has %d values, more than %d", n, flow.MaxSchemaNodes)
	}
	return checkReferences(v)
}

func checkReferences(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			text, isText := x.(string)
			switch {
			case isText && (k == "$dynamicRef" || k == "$recursiveRef"):
				return fmt.Errorf("%s cannot be used, write $ref", k)
			case isText && k == "$ref" && !strings.HasPrefix(text, "#"):
				return errors.New("it refers to another document")
			}
			if err := checkReferences(x); err != nil {
				return err
			}
		}
	case []any:
		for _, x := range v {
			if err := checkReferences(x); err != nil {
				return err
			}
		}
	}
	return nil
}
