//go:build !linux

package landlock

// ABI is 0: there is no Landlock here.
func ABI() int { return 0 }

// Restrict fails with [ErrUnsupported].
func Restrict(Ruleset) (Applied, error) { return Applied{}, ErrUnsupported }

// Scoped is false: there is no Landlock here.
func Scoped() bool { return false }
