package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Who follows an instance sees what an execution says that was retried, however old it is.
func TestRetriedExecutionsAreFollowedAgain(t *testing.T) {
	t.Parallel()
	at := time.Now()
	var x [4]id.Execution
	for i := range x {
		x[i] = id.NewExecution(at)
		x[i][5] = byte(i)
	}
	list := func(items ...api.Execution) []api.Execution { return items }
	running := func(i int, retries uint32) api.Execution { return api.Execution{ID: x[i], Retries: retries} }
	ended := func(i int, retries uint32) api.Execution {
		return api.Execution{ID: x[i], Retries: retries, Finished: at}
	}
	all := following{}
	for n, c := range []struct {
		found []api.Execution
		want  []int
	}{
		{list(ended(0, 0), running(1, 0)), []int{0, 1}},
		{list(ended(0, 0), running(1, 0)), []int{1}},
		{list(ended(0, 0), ended(1, 0)), []int{1}},                  // its last lines
		{list(ended(0, 0), ended(1, 0)), nil},                       // nothing comes any more
		{list(running(0, 1), ended(1, 0)), []int{0}},                // it was retried
		{list(ended(0, 1), ended(1, 0)), []int{0}},                  // and has ended
		{list(ended(0, 2), ended(1, 0)), []int{0}},                  // again, between two looks
		{list(ended(1, 0), running(3, 0), running(3, 0)), []int{3}}, // listed twice
		{list(running(2, 4)), []int{2, 3}},                          // an old one that was not listed; 3 ended meanwhile
	} {
		var got []int
		for _, f := range all.take(c.found) {
			for i := range x {
				if x[i] == f.id {
					got = append(got, i)
				}
			}
			f.ended = f.done
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("look %d:\n%s", n, diff)
		}
	}
}
