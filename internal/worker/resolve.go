package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// isSecret reports whether nobody ever sees the value of a variable.
func isSecret(v *flow.ConfigVar) bool { return v.Type == flow.ConfigSecret }

// configValue is a value of the config as a viewer sees it: what is not set has its default.
func (r *reader) configValue(v *flow.ConfigVar, value expr.Value, set bool) ([]byte, error) {
	if !set {
		var err error
		if value, err = literal(&v.Default); err != nil {
			return nil, errStored
		}
	}
	plain, err := expr.AppendJSON(nil, value)
	if err != nil {
		return nil, errStored
	}
	return r.mask.json(plain)
}

// resolve evaluates what the server needs of the config: when flows start, and what is wrong with it. Of the values
// themselves nothing but these times leaves.
func (r *reader) resolve(ctx context.Context) ([]byte, error) {
	if len(r.m.Profile) > 0 && r.x.day != nil {
		plain, err := r.x.day.opener.Open(nil, lease.ProfilePlace(r.x.in.customer, r.x.in.instance), r.m.Profile)
		if err != nil {
			return nil, errStored
		}
		if r.x.customer, err = expr.ParseJSON(plain); err != nil {
			return nil, errStored
		}
	}
	var out wire.Resolved
	for i := range r.x.in.definition.Flows {
		f := &r.x.in.definition.Flows[i]
		e := &env{f: &frame{x: r.x}, path: f.Name}
		switch {
		case f.Trigger.Schedule != nil:
			s := e.schedule(ctx, f.Trigger.Schedule)
			s.Flow, s.Kind = f.Name, string(flow.TriggerSchedule)
			out.Schedules = append(out.Schedules, s)
		case f.Trigger.Poll != nil:
			s := e.every(ctx, &f.Trigger.Poll.Every)
			s.Flow, s.Kind = f.Name, string(flow.TriggerPoll)
			out.Schedules = append(out.Schedules, s)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	var err error
	if out.Problems, err = r.problems(); err != nil {
		return nil, err
	}
	return json.Marshal(&out)
}

// schedule resolves when a flow starts.
func (e *env) schedule(ctx context.Context, t *flow.Schedule) wire.ResolvedSchedule {
	if t.Cron.IsZero() {
		s := e.every(ctx, &t.Every)
		s.Jitter = t.Jitter.Std()
		return s
	}
	s := wire.ResolvedSchedule{Timezone: "UTC", Jitter: t.Jitter.Std()}
	var err error
	if s.Cron, err = e.text(ctx, &t.Cron); err != nil {
		return unresolved("cron", err)
	}
	if _, err := flow.ParseCron(s.Cron); err != nil {
		return unresolved("cron", errors.New("it is no cron line of five fields"))
	}
	if t.Timezone.IsZero() {
		return s
	}
	if s.Timezone, err = e.text(ctx, &t.Timezone); err != nil {
		return unresolved("timezone", err)
	}
	if !expr.KnownZone(s.Timezone) {
		return unresolved("timezone", errors.New("it is no time zone such as Europe/Berlin"))
	}
	return s
}

// every resolves an interval.
func (e *env) every(ctx context.Context, v *flow.Value) wire.ResolvedSchedule {
	d, err := e.length(ctx, v)
	if err != nil {
		return unresolved("every", errors.New("it is no ISO 8601 duration such as PT15M"))
	}
	if d < flow.MinPoll {
		return unresolved("every", fmt.Errorf("it is shorter than %v", flow.MinPoll))
	}
	return wire.ResolvedSchedule{Every: d}
}

// unresolved says which field has no use, and for a fault of an expression its type only: a message may repeat a value.
func unresolved(field string, err error) wire.ResolvedSchedule {
	why := err.Error()
	if f, ok := err.(*fault); ok { //nolint:errorlint // never wrapped
		why = "its expression faults with type " + f.Type
	}
	return wire.ResolvedSchedule{Problem: field + ": " + why}
}

// problems checks the stored config against the variables of the definition. A value that the definition does not know is
// no problem: another version had it.
func (r *reader) problems() ([]wire.ConfigProblem, error) {
	plain, err := expr.AppendJSON(nil, r.given)
	if err != nil {
		return nil, errStored
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(plain, &values); err != nil {
		return nil, errStored
	}
	for name := range values {
		if r.x.in.definition.ConfigVar(name) == nil {
			delete(values, name)
		}
	}
	var out []wire.ConfigProblem
	rest := *r.x.in.definition
	rest.Config = nil
	for i := range r.x.in.definition.Config {
		v := &r.x.in.definition.Config[i]
		if v.Type != flow.ConfigTimezone {
			rest.Config = append(rest.Config, *v)
			continue
		}
		if p := zoneProblem(v, values[v.Name]); p != "" {
			out = append(out, wire.ConfigProblem{Name: v.Name, Problem: p})
		}
		delete(values, v.Name)
	}
	_, err = rest.ConfigJSON(values)
	if err == nil {
		return out, nil
	}
	list := []error{err}
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the outermost is asked for
		list = all.Unwrap()
	}
	for _, err := range list {
		p, ok := errors.AsType[*flow.ConfigError](err)
		if !ok {
			return nil, errStored
		}
		out = append(out, wire.ConfigProblem{Name: p.Name, Problem: p.Message})
	}
	return out, nil
}

// zoneProblem is what is wrong with the value of a time zone, or nothing. The check of flow would open files, which a worker
// may not.
func zoneProblem(v *flow.ConfigVar, given json.RawMessage) string {
	if len(given) == 0 || string(given) == "null" {
		if v.Required && v.If.IsZero() && v.Default.IsZero() {
			return "a value is required"
		}
		return ""
	}
	var name string
	if err := json.Unmarshal(given, &name); err != nil || !expr.KnownZone(name) {
		return "want a time zone such as Europe/Berlin"
	}
	if len(v.Enum) > 0 && !slices.ContainsFunc(v.Enum, func(o flow.Option) bool { return o.Value == name }) {
		return "want one of the values that the variable lists"
	}
	return ""
}
