package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Known is what a server remembers of an execution that it has given out. With it an append
// reads nothing back, which is most of what a small one costs. It need not be right: the row
// decides, and where the two differ the row is read.
type Known struct {
	LastSeq    uint32 // before the append
	Day        uint32
	Parent     id.Execution
	ParentPath string
	Awaited    bool
}

// AdvanceKnown is [CustomerTx.Advance] for an execution of which something is known.
func (c CustomerTx) AdvanceKnown(e id.Execution, fence uint64, k *Known, entries []wire.Entry) (last, day uint32, err error) {
	if first := firstNumber(entries); k == nil || c.tx.careful || first != 0 && first != int64(k.LastSeq)+1 {
		return c.Advance(e, fence, entries)
	}
	ok, err := c.tx.expect(`
		UPDATE execution
		SET last_seq = $6, interruptions = 0, size = size + $5
		WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running' AND last_seq = $4`,
		c.id[:], e[:], int64(fence), int64(k.LastSeq), int64(SizeOf(entries)), int64(k.LastSeq)+int64(len(entries)))
	if err != nil {
		return 0, 0, err
	}
	if !ok {
		return c.Advance(e, fence, entries)
	}
	return k.LastSeq + uint32(len(entries)), k.Day, nil
}

// FinishKnown is [CustomerTx.Finish] for an execution of which something is known. The node
// that ran it is not among the results.
func (c CustomerTx) FinishKnown(e id.Execution, fence uint64, k *Known, entries []wire.Entry, f *wire.Finish, now time.Time) (*Ended, error) {
	status, _ := StatusOf(f.Status)
	if k == nil || c.tx.careful || !status.Ended() {
		return c.Finish(e, fence, entries, f, now)
	}
	last := k.LastSeq + uint32(len(entries))
	ok, err := c.tx.expect(`
		UPDATE execution
		SET last_seq = $11, interruptions = 0, lease_until = 0, status = $5, finished = $6, error_type = $7,
			error_step = $8, output = $9, size = size + $10
		WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running' AND last_seq = $4`,
		c.id[:], e[:], int64(fence), int64(k.LastSeq), string(status), micros(now), f.ErrorType, f.ErrorStep, f.Output,
		int64(SizeOf(entries)), int64(last))
	if err != nil {
		return nil, err
	}
	if !ok {
		return c.Finish(e, fence, entries, f, now)
	}
	return &Ended{
		Status: status, Fence: fence, LastSeq: last, Day: k.Day, Parent: k.Parent, ParentPath: k.ParentPath, Awaited: k.Awaited,
	}, nil
}
