package worker

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// compiled returns the program of an expression, compiling it the first time. A published integration has been checked, so an
// expression that does not compile here was checked with another profile.
func (in *instance) compiled(x *flow.Expr) (*expr.Program, error) {
	if p, ok := in.programs.Load(x); ok {
		return p.(*expr.Program), nil
	}
	source := x.Source
	if inner, _, raw := x.RawPath(); raw { // says how the value is put into a path, and changes nothing about it
		source = inner
	}
	p, issues := expr.Compile(source, in.scope)
	if len(issues) > 0 {
		return nil, faultf(typeExpression, "%s", issues[0].String())
	}
	in.programs.Store(x, p)
	return p, nil
}

// expression evaluates one expression; a pure reference needs no evaluator.
func (e *env) expression(ctx context.Context, x *flow.Expr) (expr.Value, error) {
	if x.Reference != nil {
		v, err := expr.ResolveReference(x.Reference, e)
		if err != nil {
			return nil, expressionFault(ctx, err)
		}
		return v, nil
	}
	p, err := e.f.x.in.compiled(x)
	if err != nil {
		return nil, err
	}
	return e.eval(ctx, p)
}

// value resolves a literal, template, expression, object or list. What was not written is null.
func (e *env) value(ctx context.Context, v *flow.Value) (expr.Value, error) {
	switch v.Kind {
	case flow.Bool:
		return expr.Bool(v.Bool), nil
	case flow.Number:
		return expr.FromNative(json.Number(v.Text)), nil
	case flow.String:
		return expr.String(v.Text), nil
	case flow.Template:
		s, err := e.template(ctx, v)
		return expr.String(s), err
	case flow.Expression:
		return e.expression(ctx, v.Parts[0].Expr)
	case flow.Object:
		vals, err := e.values(ctx, v.Items)
		if err != nil {
			return nil, err
		}
		return expr.NewObject(v.Keys, vals), nil
	case flow.List:
		vals, err := e.values(ctx, v.Items)
		if err != nil {
			return nil, err
		}
		return expr.NewList(vals), nil
	}
	return expr.Null(), nil
}

func (e *env) values(ctx context.Context, items []flow.Value) ([]expr.Value, error) {
	vals := make([]expr.Value, len(items))
	for i := range items {
		var err error
		if vals[i], err = e.value(ctx, &items[i]); err != nil {
			return nil, err
		}
	}
	return vals, nil
}

func (e *env) template(ctx context.Context, v *flow.Value) (string, error) {
	var b strings.Builder
	for i := range v.Parts {
		p := &v.Parts[i]
		if p.Expr == nil {
			b.WriteString(p.Text)
			continue
		}
		s, err := e.partText(ctx, p.Expr)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func (e *env) partText(ctx context.Context, x *flow.Expr) (string, error) {
	got, err := e.expression(ctx, x)
	if err != nil {
		return "", err
	}
	return textOf(ctx, got)
}

// text resolves a value that is a text or prints as one.
func (e *env) text(ctx context.Context, v *flow.Value) (string, error) {
	got, err := e.value(ctx, v)
	if err != nil {
		return "", err
	}
	return textOf(ctx, got)
}

// textOf is how a value prints inside a text.
func textOf(ctx context.Context, v expr.Value) (string, error) {
	s, err := expr.Text(v)
	if err != nil {
		return "", expressionFault(ctx, err)
	}
	return s, nil
}

// holds evaluates a condition; one that was not written holds.
func (e *env) holds(ctx context.Context, v *flow.Value) (bool, error) {
	if v.IsZero() {
		return true, nil
	}
	got, err := e.value(ctx, v)
	if err != nil {
		return false, err
	}
	ok, err := expr.Truth(got)
	if err != nil {
		return false, expressionFault(ctx, err)
	}
	return ok, nil
}

// length resolves a duration: an ISO 8601 text or the result of duration().
func (e *env) length(ctx context.Context, v *flow.Value) (time.Duration, error) {
	got, err := e.value(ctx, v)
	if err != nil {
		return 0, err
	}
	if d, ok := got.Value().(time.Duration); ok {
		return d, nil
	}
	s, err := expr.Text(got)
	if err != nil {
		return 0, expressionFault(ctx, err)
	}
	d, err := flow.ParseDuration(s)
	if err != nil {
		return 0, faultf(typeInvalidInput, "%s is no ISO 8601 duration such as PT1H", quote(s))
	}
	return d.Std(), nil
}

// moment resolves a time: an RFC 3339 text or a time.
func (e *env) moment(ctx context.Context, v *flow.Value) (time.Time, error) {
	got, err := e.value(ctx, v)
	if err != nil {
		return time.Time{}, err
	}
	if t, ok := got.Value().(time.Time); ok {
		return t, nil
	}
	s, err := expr.Text(got)
	if err != nil {
		return time.Time{}, expressionFault(ctx, err)
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, faultf(typeInvalidInput, "%s is no time such as 2026-01-31T12:00:00Z", quote(s))
	}
	return t, nil
}

// quote shortens and quotes a value for a message.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "…"
	}
	b, err := json.Marshal(s)
	if err != nil {
		return "it"
	}
	return string(b)
}
