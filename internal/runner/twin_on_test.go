//go:build redtwin

package runner

// twin reports whether the checks of ownership are off.
const twin = true
