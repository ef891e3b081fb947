//go:build redtwin

package connect

import (
	"os"
	"slices"
	"strings"
)

// off tells whether the test that started this program switched a defence off, with
// the argument off=name,name.
func off(d defence) bool {
	for _, argument := range os.Args {
		if names, found := strings.CutPrefix(argument, "off="); found {
			return slices.Contains(strings.Split(names, ","), string(d))
		}
	}
	return false
}
