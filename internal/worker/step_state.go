package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// change is what a state step does to the present value, nil when there is none. keep leaves everything as it is.
type change func(present expr.Value) (next expr.Value, err error)

// state reads or changes a value of the instance. Changes are optimistic: when another execution was faster, the change is
// made again to what that one left.
func (x *execution) state(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	op, key, arg, err := e.stateInput(ctx, s.State)
	if err != nil {
		return nil, err
	}
	in := native([]string{"op", "key", "value"}, expr.String(op), expr.String(key), arg)
	x.view.input(e.path, in)
	return x.effect(ctx, e, s, t, expr.Hash(in), false, func(ctx context.Context) (outcome, error) {
		v, err := x.stateOp(ctx, e, op, key, arg)
		return outcome{value: v}, err
	})
}

func (e *env) stateInput(ctx context.Context, s *flow.State) (op, key string, arg expr.Value, err error) {
	var k, a *flow.Value
	switch {
	case !s.Get.IsZero():
		op, k, a = "get", &s.Get, &s.Default
	case !s.Put.IsZero():
		op, k, a = "put", &s.Put, &s.Value
	case !s.Increment.IsZero():
		op, k, a = "increment", &s.Increment, &s.By
	default:
		op, k, a = "delete", &s.Delete, &flow.Value{}
	}
	if key, err = e.text(ctx, k); err != nil {
		return "", "", nil, err
	}
	if key == "" {
		return "", "", nil, faultf(typeInvalidInput, "a state value needs a name")
	}
	if _, derived := flow.Derived(e.f.x.unit.Flow); !derived && (strings.HasPrefix(key, flow.SubscriptionState) || strings.HasPrefix(key, flow.SubscriptionSecret)) {
		return "", "", nil, faultf(typeInvalidInput, "names of state values that begin with %s or %s belong to subscriptions", flow.SubscriptionState, flow.SubscriptionSecret)
	}
	arg, err = e.value(ctx, a)
	if err == nil && op == "increment" && a.IsZero() {
		arg = expr.Int(1)
	}
	return op, key, arg, err
}

func (x *execution) stateOp(ctx context.Context, e *env, op, key string, arg expr.Value) (expr.Value, error) {
	cell := &cell{x: x, name: x.in.stateName(key), writer: x.writerMark(e.path)}
	if err := cell.get(ctx); err != nil {
		return nil, err
	}
	switch op {
	case "get":
		if cell.value == nil {
			return arg, nil
		}
		return cell.value, nil
	case "put":
		return cell.change(ctx, func(expr.Value) (expr.Value, error) { return arg, nil })
	case "increment":
		return cell.change(ctx, func(present expr.Value) (expr.Value, error) { return x.plus(ctx, present, arg) })
	}
	return cell.remove(ctx)
}

// plus adds as expressions do.
func (x *execution) plus(ctx context.Context, present, by expr.Value) (expr.Value, error) {
	if present == nil {
		present = expr.Int(0)
	}
	if expr.Kind(present) != expr.KindNumber || expr.Kind(by) != expr.KindNumber {
		return nil, faultf(typeInvalidInput, "only a number can be incremented, and only by a number")
	}
	p, err := x.in.adder()
	if err != nil {
		return nil, err
	}
	v, err := p.Eval(ctx, sum{present, by})
	if err != nil {
		return nil, expressionFault(ctx, err)
	}
	return v, nil
}

// sum gives an addition its two numbers.
type sum struct{ a, b expr.Value }

// Resolve implements expr.Vars.
func (s sum) Resolve(name string) (expr.Value, bool) {
	if name == "item" {
		return s.a, true
	}
	return s.b, name == "result"
}

// adder is the program that adds.
func (in *instance) adder() (*expr.Program, error) {
	const source = "item + result"
	if p, ok := in.programs.Load(source); ok {
		return p.(*expr.Program), nil
	}
	p, issues := expr.Compile(source, in.scope)
	if len(issues) > 0 {
		return nil, faultf(typeExpression, "%s", issues[0].String())
	}
	in.programs.Store(source, p)
	return p, nil
}

// writerMark names the step that wrote a value, without naming the execution: a step that was interrupted after its change
// recognises it.
func (x *execution) writerMark(path string) string {
	b := derive(&x.unit.Seed, "state", path, 0)
	return hex.EncodeToString(b[:])
}

// cell is one value of the state, as it was last seen.
type cell struct {
	x       *execution
	name    [32]byte
	writer  string
	version uint64
	value   expr.Value // nil when there is none
	mine    bool       // this very step wrote it
}

func (c *cell) get(ctx context.Context) error {
	r, err := c.x.stateCall(ctx, &wire.State{Op: wire.StateGet, Name: c.name})
	if err != nil {
		return err
	}
	return c.see(r)
}

// see takes over what the server holds.
func (c *cell) see(r *wire.StateResult) error {
	c.version, c.value, c.mine = r.Version, nil, false
	if r.Version == 0 || len(r.Value) == 0 {
		return nil
	}
	plain, err := c.x.in.key.Open(nil, lease.StatePlace(c.x.in.customer, c.x.in.instance, c.name), r.Value)
	if err != nil {
		return faultf(typeUpstream, "the state value does not open")
	}
	v, err := expr.ParseJSON(plain)
	if err != nil {
		return faultf(typeUpstream, "the state value cannot be read")
	}
	value, ok := expr.Lookup(v, "v")
	if !ok {
		return faultf(typeUpstream, "the state value cannot be read")
	}
	by, _ := expr.Lookup(v, "w")
	writer, _ := expr.Str(by)
	c.value, c.mine = value, writer == c.writer
	return nil
}

// change writes what the change makes of the present value, again when that has changed meanwhile.
func (c *cell) change(ctx context.Context, next change) (expr.Value, error) {
	for range stateTries {
		if c.mine {
			return c.value, nil
		}
		v, err := next(c.value)
		if err != nil {
			return nil, err
		}
		plain, err := appendJSON(nil, native([]string{"v", "w"}, v, expr.String(c.writer)))
		if err != nil {
			return nil, err
		}
		if len(plain) > MaxInline {
			return nil, faultf(typeLimit, "a state value has at most %d bytes", MaxInline)
		}
		sealed := c.x.in.key.Seal(nil, lease.StatePlace(c.x.in.customer, c.x.in.instance, c.name), plain)
		r, err := c.x.stateCall(ctx, &wire.State{Op: wire.StatePut, Name: c.name, Version: c.version, Value: sealed})
		if err != nil {
			return nil, err
		}
		if !r.Conflict {
			return v, nil
		}
		if err := c.see(r); err != nil {
			return nil, err
		}
	}
	return nil, faultf(typeLimit, "the state value changed %d times while it was being changed", stateTries)
}

func (c *cell) remove(ctx context.Context) (expr.Value, error) {
	for range stateTries {
		if c.version == 0 {
			return expr.Null(), nil
		}
		r, err := c.x.stateCall(ctx, &wire.State{Op: wire.StateDelete, Name: c.name, Version: c.version})
		if err != nil {
			return nil, err
		}
		if !r.Conflict {
			return expr.Null(), nil
		}
		c.version = r.Version
	}
	return nil, faultf(typeLimit, "the state value changed %d times while it was being deleted", stateTries)
}

// stateCall asks the server.
func (x *execution) stateCall(ctx context.Context, m *wire.State) (*wire.StateResult, error) {
	m.Call, m.Execution, m.Fence = x.s.number.Add(1), x.unit.Execution, x.unit.Fence
	ch := x.s.states.begin(m.Call)
	defer x.s.states.end(m.Call)
	if err := x.s.out.Write(m); err != nil {
		return nil, err
	}
	r, err := receive(ctx, ch, hostWait)
	if errors.Is(err, errLate) {
		return nil, faultf(typeTimeout, "the state did not answer in time")
	}
	return r, err
}
