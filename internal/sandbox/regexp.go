package sandbox

import (
	"time"

	"github.com/dlclark/regexp2"
)

// BoundRegexps bounds every regular expression that the engine hands to its backtracking matcher (those with
// lookaround, backreferences or lastIndex). It is a setting of the whole process: the main of the sandbox calls it once,
// before any code runs, with a time that no run exceeds.
//
// A matcher that runs into the bound reports "no match", which would be a wrong answer; since the bound is not shorter
// than the run's own time, the run has been interrupted by then and the answer reaches no code.
func BoundRegexps(longest time.Duration) {
	regexp2.DefaultMatchTimeout = longest
}
