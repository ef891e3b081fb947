package egress

import (
	"net"
	"strconv"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// flowRecord is a Flow as it travels to the server that keeps it.
func flowRecord(f Flow, node id.Node) *wire.FlowRecord {
	m := &wire.FlowRecord{
		Request: f.Request, Time: time.Now(), Customer: f.Customer, Instance: f.Instance, Execution: f.Execution, Connection: f.Connection,
		Node: node, Done: f.Phase == End, Method: f.Method,
		Host:   f.Scheme + "://" + net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))),
		Status: uint32(f.Status), Sent: uint64(max(f.BytesOut, 0)), Received: uint64(max(f.BytesIn, 0)),
		Duration: f.Duration, Verdict: verdict(f), Scrubbed: uint32(f.ScrubHits),
	}
	if f.Addr.IsValid() {
		m.Address = f.Addr.String()
	}
	return m
}

// verdict is the word of [wire.FlowRecord] for what became of a request.
func verdict(f Flow) string {
	switch {
	case f.Fault == Limit:
		return "limit"
	case f.Verdict == Denied:
		return "denied"
	case f.Verdict == Failed:
		return "failed"
	default:
		return "ok"
	}
}
