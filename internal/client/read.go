package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Reading opens what is stored of one execution, or the config of one instance, page by
// page, for one viewer. It is for one goroutine.
type Reading struct {
	client    *Client
	path      string
	execution id.Execution
	kind      wire.ReadKind
	ask       api.ReadRequest
	key       *seal.PrivateKey
	ended     bool
}

// Read begins to read what is stored of an execution: [wire.ReadEvent], ReadOutput,
// ReadStep with a path, ReadLabels or ReadLogs.
func (c *Client) Read(x id.Execution, kind wire.ReadKind, at string) (*Reading, error) {
	return c.reading(path("executions", x.String(), "read"), x, kind, at)
}

// ReadConfig begins to read the config of an instance, without its secrets.
func (c *Client) ReadConfig(i id.Instance) (*Reading, error) {
	return c.reading(path("instances", i.String(), "read"), id.Execution{}, wire.ReadConfig, "")
}

func (c *Client) reading(path string, x id.Execution, kind wire.ReadKind, at string) (*Reading, error) {
	view, key, public, err := viewer()
	if err != nil {
		return nil, err
	}
	ask := api.ReadRequest{View: view, Key: public, What: kind.String(), Path: at}
	return &Reading{client: c, path: path, execution: x, kind: kind, ask: ask, key: key}, nil
}

// Range makes the next page a range of one value that is larger than a page: the entry
// seq of a step's journal, or 0.
func (r *Reading) Range(seq uint32, offset, length uint64) {
	r.ask.Seq, r.ask.Offset, r.ask.Length, r.ask.Cursor, r.ended = seq, offset, length, 0, false
}

// Next opens the next page. more says whether another is there already; of logs, Next may
// be called again later in any case, and shows what has come meanwhile.
func (r *Reading) Next(ctx context.Context) (items []wire.Item, more bool, err error) {
	if r.ended {
		return nil, false, nil
	}
	p, err := ask[api.ReadPage](ctx, r.client, request{method: http.MethodPost, path: r.path, body: r.ask})
	if err != nil {
		return nil, false, err
	}
	if len(p.Sealed) > 0 {
		b, err := r.key.Open(lease.PurposeView, lease.ReadPlace(r.ask.View, p.Instance, r.execution, r.kind, p.Cursor), p.Sealed)
		if err != nil {
			return nil, false, fmt.Errorf("open page: %w", err)
		}
		var content wire.Content
		if err := json.Unmarshal(b, &content); err != nil {
			return nil, false, fmt.Errorf("read page: %w", err)
		}
		items = content.Items
	}
	r.ask.Cursor, r.ended = p.Next, p.Next == 0 && r.kind != wire.ReadLogs
	return items, p.More, nil
}
