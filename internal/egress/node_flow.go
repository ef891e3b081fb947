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
		Time: time.Now(), Customer: f.Customer, Execution: f.Execution, Connection: f.Connection,
		Node: node, Done: f.Phase == End, Method: f.Method,
		Host:   f.Scheme + "://" + net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))),
		Status: uint32(f.Status), Sent: uint64(max(f.BytesOut, 0)), Received: uint64(max(f.BytesIn, 0)),
		Duration: f.Duration, Verdict: string(f.Verdict), Scrubbed: uint32(f.ScrubHits),
	}
	if f.Fault != "" {
		m.Verdict += " " + string(f.Fault)
	}
	if f.Addr.IsValid() {
		m.Address = f.Addr.String()
	}
	return m
}
