//go:build redtwin

package redtwin

import (
	"os"
	"slices"
	"strings"
)

// Off reports whether the test that started this program switched a defence off, with the argument off=name,name.
func Off(name string) bool {
	for _, argument := range os.Args {
		if names, found := strings.CutPrefix(argument, "off="); found {
			return slices.Contains(strings.Split(names, ","), name)
		}
	}
	return false
}
