package seccomp

import (
	"errors"
	"fmt"
)

// Action is what the kernel does with a call: a SECCOMP_RET_* value, see seccomp(2).
type Action uint32

// The actions this project uses. Errno actions carry the error number in their low 16 bits.
const (
	Allow       Action = 0x7fff0000
	KillProcess Action = 0x80000000
	errnoBase   Action = 0x00050000
)

// Errno is the action that fails the call with the given error number without running it.
func Errno(number uint16) Action { return errnoBase | Action(number) }

// MaxInstructions is the kernel's limit on the length of one filter (BPF_MAXINSNS).
const MaxInstructions = 4096

// MaxArgument is the highest index of a system call argument.
const MaxArgument = 5

// ErrTooLong is returned for a filter of more than [MaxInstructions].
var ErrTooLong = errors.New("seccomp filter too long")

// Check compares one argument: it holds when argument&Mask == Value. Bits outside Mask are ignored, so a mask of 32 bits
// suits arguments that the kernel reads as int.
type Check struct {
	Argument int
	Mask     uint64
	Value    uint64
}

// Int is the check that the 32-bit argument equals value.
func Int(argument int, value uint32) Check {
	return Check{Argument: argument, Mask: 0xffffffff, Value: uint64(value)}
}

// Clear is the check that none of the given bits is set.
func Clear(argument int, bits uint64) Check { return Check{Argument: argument, Mask: bits} }

// Rule is one line of a filter: when the call's number is Number and all checks hold, Action is taken. Several rules may
// name the same number; the first that matches decides.
type Rule struct {
	Number uint32
	Checks []Check
	Action Action
}

// Filter is a list of rules and the action for every call that no rule matches. The zero Action kills the thread, so a
// forgotten default denies.
type Filter struct {
	Rules   []Rule
	Default Action
}

// Instruction is one classic BPF instruction (struct sock_filter).
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

const (
	opLoad   = 0x20 // BPF_LD | BPF_W | BPF_ABS
	opEqual  = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	opAtMost = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	opAnd    = 0x54 // BPF_ALU | BPF_AND | BPF_K
	opReturn = 0x06 // BPF_RET | BPF_K

	offsetNumber    = 0
	offsetArch      = 4
	offsetArguments = 16
)

// Program compiles the filter for the given architecture. foreign is the first call number that belongs to another calling
// convention of the same architecture (x32 on amd64), 0 when there is none.
//
// Each rule is a block that jumps over itself when it does not match, so no jump is longer than one block.
func (f Filter) Program(arch, foreign uint32) ([]Instruction, error) {
	program := []Instruction{
		{Code: opLoad, K: offsetArch},
		{Code: opEqual, K: arch, Jt: 1},
		{Code: opReturn, K: uint32(KillProcess)},
		{Code: opLoad, K: offsetNumber},
	}
	if foreign != 0 {
		program = append(program,
			Instruction{Code: opAtMost, K: foreign, Jf: 1},
			Instruction{Code: opReturn, K: uint32(KillProcess)})
	}
	for _, rule := range f.Rules {
		block, err := rule.block()
		if err != nil {
			return nil, err
		}
		program = append(program, block...)
	}
	program = append(program, Instruction{Code: opReturn, K: uint32(f.Default)})
	if len(program) > MaxInstructions {
		return nil, fmt.Errorf("%w: %d instructions", ErrTooLong, len(program))
	}
	return program, nil
}

func (r Rule) block() ([]Instruction, error) {
	body := []Instruction{}
	for _, check := range r.Checks {
		if check.Argument < 0 || check.Argument > MaxArgument {
			return nil, fmt.Errorf("seccomp rule for call %d: argument %d does not exist", r.Number, check.Argument)
		}
		low := uint32(offsetArguments + 8*check.Argument)
		body = append(body, compare(low, uint32(check.Mask), uint32(check.Value))...)
		body = append(body, compare(low+4, uint32(check.Mask>>32), uint32(check.Value>>32))...)
	}
	body = append(body, Instruction{Code: opReturn, K: uint32(r.Action)})
	if len(r.Checks) > 0 {
		// A failed check comes here; the next rule expects the number in the accumulator.
		body = append(body, Instruction{Code: opLoad, K: offsetNumber})
	}
	last := len(body) - 1
	for i := range body {
		if body[i].Code == opEqual {
			body[i].Jf = uint8(last - i - 1)
		}
	}
	if len(body) > 255 {
		return nil, fmt.Errorf("%w: rule for call %d", ErrTooLong, r.Number)
	}
	return append([]Instruction{{Code: opEqual, K: r.Number, Jf: uint8(len(body))}}, body...), nil
}

func compare(offset, mask, value uint32) []Instruction {
	if mask == 0 {
		return nil
	}
	out := []Instruction{{Code: opLoad, K: offset}}
	if mask != 0xffffffff {
		out = append(out, Instruction{Code: opAnd, K: mask})
	}
	return append(out, Instruction{Code: opEqual, K: value})
}
