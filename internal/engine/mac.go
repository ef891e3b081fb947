package engine

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// MAC is an HMAC-SHA256 under the blind-index key, by which this server and every other
// knows what it has made. The purpose sets it apart from every other use of the key.
func (e *Engine) MAC(ctx context.Context, purpose string, parts ...[]byte) ([32]byte, error) {
	all := append([][]byte{[]byte("mac/1"), []byte(purpose)}, parts...)
	mac, err := e.keys.index(ctx, all...)
	if err != nil {
		return mac, fmt.Errorf("make MAC: %w", err)
	}
	return mac, nil
}

// LabelIndex is how a label's value is stored, by which executions are found.
func (e *Engine) LabelIndex(ctx context.Context, c id.Customer, name, value string) ([32]byte, error) {
	index, err := e.keys.labelIndex(ctx, c, name, []byte(value))
	if err != nil {
		return index, fmt.Errorf("index label: %w", err)
	}
	return index, nil
}
