package source

import (
	"fmt"
	"slices"
	"strings"
)

// Nearest returns the candidate that a person most likely meant by got, or "".
func Nearest(got string, candidates []string) string {
	best, bestDistance := "", max(2, len([]rune(got))/3+1)
	for _, c := range candidates {
		if d := distance(fold(got), fold(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// fold makes spellings that differ in case or in the separator equal.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance is the number of characters inserted, removed, replaced or swapped with their neighbour (optimal string
// alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}

// DidYouMean is the suggestion for a misspelt name, or what there is to choose from.
func DidYouMean(got string, candidates []string) string {
	if len(got) <= 100 {
		if s := Nearest(got, candidates); s != "" {
			return fmt.Sprintf("did you mean %q?", s)
		}
	}
	if len(candidates) == 0 || len(candidates) > 20 {
		return ""
	}
	return "possible here: " + strings.Join(candidates, ", ")
}

// OneOf joins names for a message: "a, b or c".
func OneOf(names []string) string {
	switch len(names) {
	case 0:
		return "nothing"
	case 1:
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(slices.Clone(names[:last]), ", ") + " or " + names[last]
}
