package flow

import (
	"fmt"
	"iter"
	"strings"
)

// Nested is one list of steps inside a step.
type Nested struct {
	Path  string // below the step, as in a document: "steps", "switch[0].steps", "fork.branches.crm", "catch.steps"
	Steps []Step
}

// Nested returns the lists of steps inside s in the order written.
func (s *Step) Nested() []Nested {
	switch {
	case s.For != nil:
		return []Nested{{"steps", s.For.Steps}}
	case s.Try != nil:
		return []Nested{{"try", s.Try.Steps}, {"catch.steps", s.Try.Catch.Steps}}
	case s.Wait != nil && s.Wait.Callback != nil:
		return []Nested{{"wait.callback.notify", s.Wait.Callback.Notify}}
	}
	var lists []Nested
	for i := range s.Switch {
		lists = append(lists, Nested{fmt.Sprintf("switch[%d].steps", i), s.Switch[i].Steps})
	}
	if s.Fork != nil {
		for i := range s.Fork.Branches {
			lists = append(lists, Nested{"fork.branches." + s.Fork.Branches[i].Name, s.Fork.Branches[i].Steps})
		}
	}
	return lists
}

// StepOf is the id of the step at a path of an execution: the last part, without what numbers it, such as a round.
func StepOf(path string) string {
	step := path[strings.LastIndexByte(path, '.')+1:]
	if n := strings.IndexAny(step, "[#"); n >= 0 {
		step = step[:n]
	}
	return step
}

// Walk yields every step of a list with its path, a step before those inside it. path is the list's own path, such
// as "flows.order-paid.steps".
func Walk(path string, steps []Step) iter.Seq2[string, *Step] {
	return func(yield func(string, *Step) bool) { walk(path, steps, yield) }
}

func walk(path string, steps []Step, yield func(string, *Step) bool) bool {
	for i := range steps {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !yield(at, &steps[i]) {
			return false
		}
		for _, n := range steps[i].Nested() {
			if !walk(at+"."+n.Path, n.Steps, yield) {
				return false
			}
		}
	}
	return true
}
