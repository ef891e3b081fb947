package sandbox

import "time"

// Fixed limits, the same for every run.
const (
	// MaxMessage is the size of an error message in bytes; a longer one is cut.
	MaxMessage = 4 << 10
	// MaxFrames is the number of stack frames kept.
	MaxFrames = 16
	// MaxDepth is how deeply input and result may be nested.
	MaxDepth = 1000
	// MaxNesting is how deeply brackets of the source may be nested.
	MaxNesting = 1000
	// MaxLine is the size of one line of the console in bytes; a longer one is cut.
	MaxLine = 8 << 10
	// MaxString is the largest string, in characters, that one call of repeat, padStart, padEnd or join may make.
	MaxString = 16 << 20
	// MaxElements is the largest array, or array-like object, that one call of an Array method may walk.
	MaxElements = 8 << 20
	// MaxArguments is the largest list of arguments that apply, Reflect.apply and Reflect.construct may spread.
	MaxArguments = 64 << 10
	// Grace is how long after an interrupt the engine may take to stop before it is abandoned.
	Grace = 100 * time.Millisecond
)

// Limits bound one run. A zero field takes its default.
type Limits struct {
	// Time is wall time for compiling, and again for running. Default 5 s.
	Time time.Duration
	// Memory is what the run may add to the heap and the stacks of the process, in bytes. Default 48 MiB, which leaves
	// room in the jail's default of 64 MiB.
	Memory int64
	// CallDepth is how deeply functions may call each other. Default 1,000. Unwinding deep calls through built-ins (a
	// callback in a callback) takes the engine time that grows with the square of the depth.
	CallDepth int
	// Source, Input and Output are sizes in bytes. Defaults 512 KiB, 3 MiB and 3 MiB, which fit a frame.
	Source, Input, Output int
	// LogLines and LogBytes bound the console. Defaults 200 lines and 64 KiB.
	LogLines, LogBytes int

	// grace is Grace, for tests that must not depend on how busy the machine is.
	grace time.Duration
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.Time, 5*time.Second)
	orDefault(&l.Memory, 48<<20)
	orDefault(&l.CallDepth, 1000)
	orDefault(&l.Source, 512<<10)
	orDefault(&l.Input, 3<<20)
	orDefault(&l.Output, 3<<20)
	orDefault(&l.LogLines, 200)
	orDefault(&l.LogBytes, 64<<10)
	orDefault(&l.grace, Grace)
	return l
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
