//go:build !redtwin

package redtwin

// Off reports whether a defence is switched off. In a build without the tag redtwin none can be.
func Off(string) bool { return false }
