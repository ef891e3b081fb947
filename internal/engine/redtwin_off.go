//go:build !redtwin

package engine

// countsAll would hold every interruption against the execution, whoever's it was.
const countsAll = false
