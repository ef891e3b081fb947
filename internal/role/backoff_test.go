package role

import (
	"testing"
	"time"
)

func TestRest(t *testing.T) {
	t.Parallel()
	if d := rest(1, longRest, 1); d != 0 {
		t.Errorf("the first time: %v", d)
	}
	for _, most := range []time.Duration{shortRest, longRest} {
		before := time.Duration(0)
		for ends := 2; ends < 100; ends++ {
			least, longest := rest(ends, most, 0), rest(ends, most, 1)
			if least <= 0 || longest < before || longest > most || least != longest/2 {
				t.Fatalf("after %d ends: %v to %v, before %v", ends, least, longest, before)
			}
			before = longest
		}
		if before != most {
			t.Errorf("it grows to %v, want %v", before, most)
		}
	}
}
