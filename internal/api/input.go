package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Limits of what is said about an input.
const (
	maxInputProblems = 20
	maxInputText     = 100 // bytes of a name or an expected value
)

// inputError is an input that does not match its flow's schema. Its text names places and
// what was expected there, never a value that was sent.
type inputError string

// Error implements error.
func (e inputError) Error() string { return string(e) }

// checkInput refuses an event whose body does not match the schema of its flow's input.
func (s *Server) checkInput(ctx context.Context, c id.Customer, i id.Instance, flow string, event []byte) error {
	schema, err := s.engine.InputSchema(ctx, c, i, flow)
	if err != nil || len(schema) == 0 {
		return err
	}
	select {
	case s.checks <- struct{}{}:
		defer func() { <-s.checks }()
	case <-ctx.Done():
		return fmt.Errorf("check input: %w", context.Cause(ctx))
	}
	return matchInput(schema, event)
}

// matchInput checks the body of an event against a JSON Schema (2020-12). A schema that
// cannot be used accepts nothing. An event without a body is checked as null.
func matchInput(schema, event []byte) error {
	w := &work{left: maxInputWork, price: 1}
	compiled, err := w.compile(schema)
	if err != nil {
		return inputError("the schema of the flow's input cannot be used: " + err.Error())
	}
	fields := map[string]json.RawMessage{} // not a struct, which would take Body for body
	if err := json.Unmarshal(event, &fields); err != nil {
		return errors.Join(errRequest, err)
	}
	var body any
	if raw, ok := fields["body"]; ok {
		if body, err = parseInput(raw); err != nil {
			return errors.Join(errRequest, err)
		}
	}
	w.price = 1 + depthOf(body)/depthUnit
	err = w.guard(func() error { return compiled.Validate(body) })
	if err == nil {
		return nil
	}
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return describeInput(invalid, body)
	}
	return err
}

// noLoader refuses references to other documents: a schema reads no file and no address.
type noLoader struct{}

// Load implements [jsonschema.URLLoader].
func (noLoader) Load(string) (any, error) {
	return nil, errors.New("it refers to another document")
}

// compile compiles a schema of an input, whose checks spend.
func (w *work) compile(schema []byte) (*jsonschema.Schema, error) {
	doc, err := parseInput(schema)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(doc); err != nil {
		return nil, err
	}
	const name = "input:///schema"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(w.pattern)
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return nil, err
	}
	w.meter(compiled, map[*jsonschema.Schema]bool{})
	return compiled, nil
}

// parseInput reads JSON with numbers as int64 or float64: the checks compute with
// fractions, whose size an exponent must not set.
func parseInput(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return bounded(v)
}

func bounded(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case map[string]any:
		for k, x := range v {
			if v[k], err = bounded(x); err != nil {
				return nil, err
			}
		}
	case []any:
		for n, x := range v {
			if v[n], err = bounded(x); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// describeInput says everything that is wrong with a body.
func describeInput(e *jsonschema.ValidationError, body any) inputError {
	var all []string
	collectInput(e, body, &all)
	slices.Sort(all)
	all = slices.Compact(all)
	if n := len(all) - maxInputProblems; n > 0 {
		all = append(all[:maxInputProblems], fmt.Sprintf("and %d more", n))
	}
	return inputError(strings.Join(all, "; "))
}

func collectInput(e *jsonschema.ValidationError, body any, all *[]string) {
	place := inputPlace(e.InstanceLocation, body)
	switch k := e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.AllOf, *kind.Reference:
		for _, cause := range e.Causes {
			collectInput(cause, body, all)
		}
	case *kind.Required:
		for _, name := range k.Missing {
			*all = append(*all, place+inputName(name)+": missing")
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			*all = append(*all, place+inputName(name)+": not allowed")
		}
	default:
		*all = append(*all, place+": "+expected(e.ErrorKind))
	}
}

// expected says what a check wanted, without what it got.
func expected(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "want " + strings.Join(k.Want, " or ") + ", got " + k.Got
	case *kind.Enum:
		return "want one of " + shown(k.Want)
	case *kind.Const:
		return "want " + shown(k.Want)
	case *kind.Format:
		return "want the format " + short(k.Want)
	case *kind.Pattern:
		return "want a match of " + short(k.Want)
	case *kind.Minimum:
		return "want at least " + rational(k.Want)
	case *kind.Maximum:
		return "want at most " + rational(k.Want)
	case *kind.ExclusiveMinimum:
		return "want more than " + rational(k.Want)
	case *kind.ExclusiveMaximum:
		return "want less than " + rational(k.Want)
	case *kind.MultipleOf:
		return "want a multiple of " + rational(k.Want)
	case *kind.MinLength:
		return wantCount("at least", k.Want, "character", k.Got)
	case *kind.MaxLength:
		return wantCount("at most", k.Want, "character", k.Got)
	case *kind.MinItems:
		return wantCount("at least", k.Want, "item", k.Got)
	case *kind.MaxItems:
		return wantCount("at most", k.Want, "item", k.Got)
	case *kind.AnyOf:
		return "matches none of the alternatives"
	case *kind.OneOf:
		return "want a match of exactly one of the alternatives"
	case *kind.FalseSchema:
		return "not allowed"
	}
	if path := k.KeywordPath(); len(path) > 0 {
		return "does not match " + short(path[0])
	}
	return "does not match"
}

// wantCount says how many of what are wanted, at least or at most.
func wantCount(bound string, want int, what string, got int) string {
	if want != 1 {
		what += "s"
	}
	return fmt.Sprintf("want %s %d %s, got %d", bound, want, what, got)
}

// inputPlace writes a place as expressions do.
func inputPlace(location []string, body any) string {
	var b strings.Builder
	b.WriteString("body")
	for _, token := range location {
		switch v := body.(type) {
		case []any:
			b.WriteString("[" + token + "]")
			if n, err := strconv.Atoi(token); err == nil && n >= 0 && n < len(v) {
				body = v[n]
			}
		case map[string]any:
			b.WriteString(inputName(token))
			body = v[token]
		}
	}
	return b.String()
}

func inputName(name string) string {
	plain := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	if plain {
		return "." + short(name)
	}
	return "[" + strconv.Quote(short(name)) + "]"
}

func shown(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "another value"
	}
	return short(strings.Trim(strings.ReplaceAll(string(b), `","`, `", "`), "[]"))
}

func short(s string) string {
	if len(s) <= maxInputText {
		return s
	}
	return strings.ToValidUTF8(s[:maxInputText], "") + "…"
}

func rational(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}
