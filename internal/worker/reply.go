package worker

import (
	"encoding/json"
	"sync/atomic"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// sender is who waits for the answer of a synchronous webhook: the event names a key that
// belongs to the one request. It sees that answer and nothing else, so that it needs no
// permission of its own.
type sender struct {
	view     id.View
	key      seal.PublicKey
	server   id.Node     // where it waits
	answered atomic.Bool // in this stay or in an earlier one
}

// readSender reads the field reply of an event; nil for none.
func readSender(v expr.Value) *sender {
	b, err := expr.AppendJSON(nil, v)
	if err != nil {
		return nil
	}
	var m struct {
		View   id.View
		Key    []byte
		Server id.Node
	}
	if json.Unmarshal(b, &m) != nil || len(m.Key) != seal.KeySize || m.View.IsZero() {
		return nil
	}
	return &sender{view: m.View, key: seal.PublicKey(m.Key), server: m.Server}
}

// recordReply queues the answer for the sender, so that a repeated delivery gets the same one.
// Only the first counts.
func (x *execution) recordReply(e *env, m *wire.ReplyBody) (first bool) {
	if x.sender == nil || x.sender.answered.Swap(true) {
		return false
	}
	if rec := x.journal.past(e.path); rec == nil || rec.reply == nil {
		x.record(e.f, wire.Entry{Kind: wire.EntryReply, Path: e.path}, wire.AppendBody(nil, m))
	}
	return true
}

// sendReply gives the sender its answer.
func (x *execution) sendReply(m *wire.ReplyBody) {
	r := &wire.Reply{View: x.sender.view, Execution: x.unit.Execution, Fence: x.unit.Fence, Server: x.sender.server}
	var err error
	if r.Sealed, err = seal.Seal(x.sender.key, lease.PurposeView, r.Place(), wire.AppendBody(nil, m)); err == nil {
		x.s.write(r)
	}
}
