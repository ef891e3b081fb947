package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// addStored registers an execution whose event is in a blob.
func (h *host) addStored(flowName, event string) (id.Execution, *wire.BlobRef) {
	h.t.Helper()
	now := time.Now()
	e, ev := id.NewExecution(now), id.NewEvent(now)
	ref := h.putBlob([]byte(event), "application/json")
	h.enroll(e, ev, flowName, h.sealEvent(ev, string(wire.AppendEventRef(nil, ref))))
	return e, ref
}

func TestAnEventInABlob(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - {id: out, return: {n: "${{ trigger.body.n }}", size: "${{ size(trigger.body.text) }}"}}
`))
	text := strings.Repeat("0123456789", 1<<20)
	event := `{"method":"POST","body":{"text":"` + text + `","n":7}}`
	l := h.start()
	e, _ := h.addStored("main", event)
	if got := h.finish(l, e); got.Status != wire.StatusCompleted || got.Output != `{"n":7,"size":10485760}` {
		t.Errorf("it ends as %+v", got)
	}
	for name, spoil := range map[string]func(ref *wire.BlobRef){
		"gone": func(ref *wire.BlobRef) { delete(h.blobs, ref.Blob) },
		"cut":  func(ref *wire.BlobRef) { h.blobs[ref.Blob] = h.blobs[ref.Blob][:ref.Chunks-1] },
		"changed": func(ref *wire.BlobRef) {
			c := append([]byte(nil), h.blobs[ref.Blob][0]...)
			c[len(c)/2] ^= 1
			h.blobs[ref.Blob][0] = c
		},
	} {
		e, ref := h.addStored("main", event)
		h.mu.Lock()
		spoil(ref)
		h.mu.Unlock()
		if got := h.finish(l, e); got.Status != wire.StatusFaulted || strings.Contains(got.Output, "0123456789") {
			t.Errorf("with a blob that is %s it ends as %+v", name, got)
		}
	}
	if err := l.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}
