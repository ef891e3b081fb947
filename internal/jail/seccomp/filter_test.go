package seccomp

import (
	"encoding/binary"
	"errors"
	"testing"
)

const testArch = 0xc000003e

// run interprets a program on one call, as the kernel would.
func run(t *testing.T, program []Instruction, arch, number uint32, args ...uint64) Action {
	t.Helper()
	var data [64]byte
	binary.LittleEndian.PutUint32(data[offsetNumber:], number)
	binary.LittleEndian.PutUint32(data[offsetArch:], arch)
	for i, argument := range args {
		binary.LittleEndian.PutUint64(data[offsetArguments+8*i:], argument)
	}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
				return
			}
			pc += int(i.Jf)
		}
		switch i.Code {
		case opLoad:
			a = binary.LittleEndian.Uint32(data[i.K:])
		case opAnd:
			a &= i.K
		case opEqual:
			jump(a == i.K)
		case opAtMost:
			jump(a >= i.K)
		case opReturn:
			return Action(i.K)
		default:
			t.Fatalf("unknown instruction %#x", i.Code)
		}
	}
	t.Fatal("the program ends without an answer")
	return 0
}

func TestProgram(t *testing.T) {
	t.Parallel()
	f := Filter{
		Rules: []Rule{
			{Number: 1, Action: Allow},
			{Number: 2, Checks: []Check{Int(1, 128)}, Action: Allow},
			{Number: 2, Checks: []Check{Int(1, 129), Clear(0, 4)}, Action: Allow},
			{Number: 3, Checks: []Check{{Argument: 5, Mask: 0xff00000000ff, Value: 0x120000000034}}, Action: Allow},
			{Number: 4, Checks: []Check{Clear(2, 4)}, Action: Allow},
			{Number: 4, Action: KillProcess},
			{Number: 5, Action: Allow},
		},
		Default: Errno(1),
	}
	program, err := f.Program(testArch, 0x40000000)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		number uint32
		args   []uint64
		want   Action
	}{
		{"allowed", 1, nil, Allow},
		{"unknown", 99, nil, Errno(1)},
		{"first alternative", 2, []uint64{0, 128}, Allow},
		{"int with other high bits", 2, []uint64{0, 1<<40 | 128}, Allow},
		{"second alternative", 2, []uint64{3, 129}, Allow},
		{"second alternative, bit set", 2, []uint64{4, 129}, Errno(1)},
		{"no alternative", 2, []uint64{0, 130}, Errno(1)},
		{"both halves", 3, []uint64{0, 0, 0, 0, 0, 0x12ab_cdef_ff34}, Allow},
		{"both halves, low differs", 3, []uint64{0, 0, 0, 0, 0, 0x12ab_cdef_ff35}, Errno(1)},
		{"both halves, high differs", 3, []uint64{0, 0, 0, 0, 0, 0x1300_0000_0034}, Errno(1)},
		{"clear", 4, []uint64{0, 0, 3}, Allow},
		{"not clear falls to the next rule", 4, []uint64{0, 0, 7}, KillProcess},
		{"after rules with checks", 5, nil, Allow},
		{"foreign convention", 0x40000000, nil, KillProcess},
		{"foreign convention of an allowed call", 0x40000001, nil, KillProcess},
	} {
		if got := run(t, program, testArch, row.number, row.args...); got != row.want {
			t.Errorf("%s: got %#x, want %#x", row.name, got, row.want)
		}
	}
	if got := run(t, program, testArch+1, 1); got != KillProcess {
		t.Errorf("other architecture: got %#x, want a kill", got)
	}
}

func TestZeroFilterDenies(t *testing.T) {
	t.Parallel()
	program, err := Filter{}.Program(testArch, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, program, testArch, 0); got == Allow {
		t.Error("the zero filter allows a call")
	}
}

func TestProgramRefuses(t *testing.T) {
	t.Parallel()
	if _, err := (Filter{Rules: []Rule{{Checks: []Check{Int(6, 0)}}}}).Program(testArch, 0); err == nil {
		t.Error("a seventh argument was accepted")
	}
	if _, err := (Filter{Rules: make([]Rule, MaxInstructions)}).Program(testArch, 0); !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v, want ErrTooLong", err)
	}
}
