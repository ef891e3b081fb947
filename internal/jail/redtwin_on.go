//go:build redtwin

package jail

import (
	"os"
	"slices"
	"strings"
)

// off tells whether the test that started this program switched a layer off, with the argument off=name,name.
func off(layer string) bool {
	for _, argument := range os.Args {
		if names, found := strings.CutPrefix(argument, "off="); found {
			return slices.Contains(strings.Split(names, ","), layer)
		}
	}
	return false
}
