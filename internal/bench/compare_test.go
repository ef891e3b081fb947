package bench

import (
	"strings"
	"testing"
)

// TestGrown tells of what grew by more than a fifth, on a machine as fast as the other or
// slower, and of nothing else.
func TestGrown(t *testing.T) {
	t.Parallel()
	old := []Figure{{Name: "order-16", Sum: 100, Unit: 1000, Processor: map[string]float64{"server": 60, "egress": 40, "load": 20}}}
	for name, c := range map[string]struct {
		now  Figure
		want string
	}{
		"same":          {Figure{Name: "order-16", Sum: 110, Unit: 1000, Processor: map[string]float64{"server": 70, "egress": 40}}, ""},
		"server":        {Figure{Name: "order-16", Sum: 116, Unit: 1000, Processor: map[string]float64{"server": 76, "egress": 40}}, "server"},
		"slower":        {Figure{Name: "order-16", Sum: 230, Unit: 2000, Processor: map[string]float64{"server": 140, "egress": 90}}, ""},
		"slower, grown": {Figure{Name: "order-16", Sum: 230, Unit: 2000, Processor: map[string]float64{"server": 130, "egress": 100}}, "egress"},
		"everything":    {Figure{Name: "order-16", Sum: 130, Unit: 1000, Processor: map[string]float64{"server": 70, "egress": 47, "vault": 4, "bus": 5}}, "everything"},
		"the load":      {Figure{Name: "order-16", Sum: 100, Unit: 1000, Processor: map[string]float64{"load": 90}}, ""},
		"another":       {Figure{Name: "order-64", Sum: 900, Unit: 1000}, ""},
	} {
		got := strings.Join(grown(old, []Figure{c.now}), "; ")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want something about %q", name, got, c.want)
		}
	}
}
