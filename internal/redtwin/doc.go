// Package redtwin says which defences are switched off: none, but in a program built with the tag redtwin, for which the
// tests of defences ask with an argument. Each such test must fail there; script/redtwins checks that no release has the
// tag. Packages name their own defences.
//
// It has no authority and no state, and is safe for concurrent use.
package redtwin
