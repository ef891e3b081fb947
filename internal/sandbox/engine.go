package sandbox

import (
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/grafana/sobek"
)

// An Engine compiles and runs code. It holds only what is the same for every run, so any number of goroutines may use it
// (but see the package's words on memory).
type Engine struct {
	prototypes *sobek.Program
	nothing    *sobek.Program
}

// NewEngine makes an Engine. It costs some microseconds.
func NewEngine() (*Engine, error) {
	prototypes, err := sobek.Compile("", "[Function.prototype, Object.getPrototypeOf(async () => {}), Object.getPrototypeOf(function* () {})]", true)
	if err != nil {
		return nil, err
	}
	nothing, err := sobek.Compile("", "", true)
	if err != nil {
		return nil, err
	}
	return &Engine{prototypes: prototypes, nothing: nothing}, nil
}

// A Call is what a run depends on, besides its program.
type Call struct {
	// Input is one JSON value.
	Input []byte
	// Now is the recorded time of the execution: Date does not move from it.
	Now time.Time
	// Seed makes Math.random repeatable: the same seed gives the same numbers, in every release. Different code steps of
	// one execution should have seeds that are derived by hashing.
	Seed [2]uint64
	// Limits bound the run.
	Limits Limits
}

// A Result is what a run leaves behind.
type Result struct {
	// Output is one JSON value; nil if the run failed. A function that returns undefined gives null.
	Output []byte
	// Logs is what the code wrote to its console, also when it failed.
	Logs []Log
	// Truncated says that lines of the console were dropped; the last line of Logs says how many.
	Truncated bool
}

// Run calls the default export of p with the input and waits for what it returns, in an interpreter of its own. An error
// is an *[Error]; the result's logs are valid with it.
func (e *Engine) Run(p *Program, call Call) (Result, error) {
	limits := call.Limits.withDefaults()
	console := &console{limits: limits}
	if err := checkInput(call.Input, limits, console); err != nil {
		return console.result(nil), err
	}
	r := &run{
		engine:  e,
		program: p,
		console: console,
		guard:   guard{limits: limits, rt: sobek.New(), program: p},
	}
	var output []byte
	err := r.guard.run(func() (err error) {
		output, err = r.do(call)
		return err
	})
	if err != nil {
		return console.result(nil), err
	}
	return console.result(output), nil
}

// A run is one call of one program.
type run struct {
	engine  *Engine
	program *Program
	console *console
	guard   guard
	// orphans are rejected promises that nothing handles yet.
	orphans []*sobek.Promise
	// rangeErrors is the class RangeError of the interpreter.
	rangeErrors *sobek.Object
}

// do is the whole run, on the engine's goroutine.
func (r *run) do(call Call) ([]byte, error) {
	r.prepare(call)
	input, err := r.parse(call.Input)
	if err != nil {
		return nil, err
	}
	f, err := r.load()
	if err != nil {
		return nil, err
	}
	value, err := f(sobek.Undefined(), input)
	if err != nil {
		return nil, r.guard.classify(err)
	}
	r.guard.stopped()
	value, err = r.settle(value)
	if err != nil {
		return nil, err
	}
	enc := &encoder{guard: &r.guard, limit: r.guard.limits.Output}
	output, err := enc.encode(value)
	if err != nil {
		return nil, err
	}
	r.reportOrphans()
	return output, nil
}

// prepare makes the interpreter repeatable and takes away what a code step must not have.
func (r *run) prepare(call Call) {
	rt := r.guard.rt
	// Taken before the author's code can replace it.
	r.guard.stringify = native(rt, "JSON", "stringify")
	now := call.Now.UTC()
	rt.SetTimeSource(func() time.Time { return now })
	pcg := rand.NewPCG(call.Seed[0], call.Seed[1])
	// The 53 high bits make a float64 in [0, 1): written out so that no release of Go changes the sequence.
	rt.SetRandSource(func() float64 { return float64(pcg.Uint64()>>11) / (1 << 53) })
	rt.SetMaxCallStackSize(r.guard.limits.CallDepth)
	rt.SetPromiseRejectionTracker(r.trackRejection)
	rt.SetImportModuleDynamically(func(referrer any, specifier sobek.Value, capability any) {
		rt.FinishLoadingImportModule(referrer, specifier, capability, nil, rt.NewTypeError("import() is not available in a code step"))
	})
	r.harden()
	r.installConsole()
}

// load evaluates the module and gives its default export.
func (r *run) load() (sobek.Callable, error) {
	rt, m := r.guard.rt, r.program.module
	promise := m.Evaluate(rt)
	r.guard.stopped()
	if _, err := r.await(promise, "the module"); err != nil {
		return nil, err
	}
	f, ok := sobek.AssertFunction(rt.NamespaceObjectFor(m).Get("default"))
	if !ok {
		return nil, errorf(KindSyntax, "the default export is not a function: write export default (input) => output")
	}
	return f, nil
}

// settle waits for a promise or another thenable by draining the microtask queue; other values pass.
func (r *run) settle(value sobek.Value) (sobek.Value, error) {
	object, ok := value.(*sobek.Object)
	if !ok {
		return value, nil
	}
	// Asked by type first: Export copies whole arrays and objects.
	if object.ExportType() == reflect.TypeFor[*sobek.Promise]() {
		return r.await(object.Export().(*sobek.Promise), "the promise that the code returned")
	}
	rt := r.guard.rt
	promise, resolve, _ := rt.NewPromise()
	if err := resolve(object); err != nil {
		return nil, r.guard.classify(err)
	}
	if promise.State() == sobek.PromiseStatePending {
		if _, err := rt.RunProgram(r.engine.nothing); err != nil {
			return nil, r.guard.classify(err)
		}
		r.guard.stopped()
	}
	return r.await(promise, "the value that the code returned")
}

// await gives the value of a promise after the microtask queue has run empty.
func (r *run) await(promise *sobek.Promise, what string) (sobek.Value, error) {
	switch promise.State() {
	case sobek.PromiseStateFulfilled:
		return promise.Result(), nil
	case sobek.PromiseStateRejected:
		r.forget(promise)
		return nil, r.rejection(promise.Result())
	default:
		return nil, errorf(KindResult, "%s never settles: nothing is left that could settle it, since a code step has no timers and no network", what)
	}
}

// rejection is the error of an uncaught rejection: as if its reason had been thrown.
func (r *run) rejection(reason sobek.Value) error {
	if object, ok := reason.(*sobek.Object); ok && object.ExportType().Implements(reflect.TypeFor[error]()) {
		// The engine wraps what a module's evaluation failed with.
		return r.guard.classify(object.Export().(error))
	}
	// Throwing it is the public way to the stack that an Error object recorded when it was made.
	if ex := r.guard.rt.Try(func() { panic(reason) }); ex != nil {
		return r.guard.classify(ex)
	}
	return errorf(KindThrow, "the code failed")
}

func (r *run) trackRejection(p *sobek.Promise, op sobek.PromiseRejectionOperation) {
	if op == sobek.PromiseRejectionReject {
		r.orphans = append(r.orphans, p)
		return
	}
	r.forget(p)
}

func (r *run) forget(p *sobek.Promise) {
	for i, q := range r.orphans {
		if q == p {
			r.orphans = append(r.orphans[:i], r.orphans[i+1:]...)
			return
		}
	}
}

// reportOrphans notes rejections that nothing handled: they would otherwise vanish.
func (r *run) reportOrphans() {
	for _, p := range r.orphans {
		err := r.rejection(p.Result())
		r.console.add(LevelWarn, "a promise was rejected and nothing handled it: "+err.Error())
	}
}
