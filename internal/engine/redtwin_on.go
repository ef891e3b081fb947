//go:build redtwin

package engine

// countsAll holds every interruption against the execution, whoever's it was.
const countsAll = true
