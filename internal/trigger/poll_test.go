package trigger

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A poll is an execution that the clock starts; each item that it names begins once, also when
// its append comes again and when another poll names it.
func TestAnItemBeginsOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		p := &flow.Poll{Uses: "api.request", Every: value("PT5M"), Items: value("${{ result.body }}"), Key: value("${{ item.id }}")}
		n := r.deploy(&flow.Integration{Flows: []flow.Flow{{Name: "hook", Trigger: flow.Trigger{Poll: p}}}}, "{}")
		f, c := r.runner(), r.clock(time.Time{})
		begun := func() (count int) {
			err := r.store.System(t.Context()).OpenExecutions(store.ShardOf(n.customer), func(x *store.Unfinished) error {
				if x.Instance == n.id {
					count++
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return count
		}
		start := time.Now().Truncate(time.Second)
		for poll, tt := range []struct {
			started, noted []byte
			want           int
		}{{nil, []byte{1, 2}, 0}, {[]byte{1, 2, 3}, nil, 1}, {[]byte{3, 4, 5}, nil, 3}, {[]byte{1, 2, 3, 4, 5}, nil, 3}} {
			c.until(t, start.Add(time.Duration(poll)*5*time.Minute))
			var u *wire.UnitExecution
			for u == nil { // the items of the poll before are dispatched as well
				for _, x := range f.dispatch().Unit.Executions {
					if _, ok := r.tryEvent(n, x.Execution)["poll"]; ok {
						u = &x
					}
				}
			}
			m := &wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted, Output: []byte("sealed")}}
			for _, key := range tt.started {
				m.Children = append(m.Children, wire.Child{Execution: id.NewExecution(time.Now()), Flow: "hook", Event: []byte("sealed"), Path: "items", Key: [32]byte{key}})
			}
			for _, key := range tt.noted {
				m.Children = append(m.Children, wire.Child{Flow: "hook", Path: "items", Key: [32]byte{key}, Noted: true})
			}
			f.send(m)
			f.send(m) // its answer was lost
			until(t, func() bool {
				x, err := r.e.Execution(t.Context(), n.customer, u.Execution)
				return err == nil && x.Status == store.Completed
			})
			if got := begun(); got != tt.want {
				t.Errorf("poll %d: %d items began, want %d", poll, got, tt.want)
			}
		}
	})
}
