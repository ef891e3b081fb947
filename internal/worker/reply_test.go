package worker

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The sender of a synchronous webhook gets the first answer, which is in the journal by then,
// and nothing else: no progress and no page.
func TestTheSenderGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, uses: api.request, with: {method: GET, path: /x}}
      - {id: r, respond: {status: 201, body: {ok: true}}}
      - {id: s, respond: {status: 500}}`)
	key := h.viewerKey.Public()
	x := h.add("main", fmt.Sprintf(`{"body":1,"reply":{"view":%q,"key":%q}}`, h.view, base64.StdEncoding.EncodeToString(key[:])))
	h.run(x).unit.Viewer = id.View{}
	if got := h.finish(h.started(), x); got.Status != wire.StatusCompleted {
		t.Fatalf("%+v", got)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.replies) != 1 || len(h.views) != 0 || len(h.progress) != 0 {
		t.Fatalf("%d replies, %d pages, %d progress", len(h.replies), len(h.views), len(h.progress))
	}
	if m := h.replies[0]; m.Status != 201 || string(m.Body) != `{"ok":true}` {
		t.Errorf("%+v", m)
	}
	answers := 0
	for _, e := range h.runs[x].unit.Journal {
		if e.Kind == wire.EntryReply {
			answers++
		}
	}
	if answers != 1 {
		t.Errorf("%d answers in the journal", answers)
	}
}
