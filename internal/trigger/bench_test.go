package trigger

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// BenchmarkDoor accepts webhooks of 1 KiB, without the network: the handler, the vault's part
// where there is one, the seal, and the commit that concurrent requests share.
func BenchmarkDoor(b *testing.B) {
	body := append(append([]byte(`{"id":1,"text":"`), bytes.Repeat([]byte("x"), 1000)...), `"}`...)
	for name, v := range map[string]flow.Verify{
		"none": {None: true},
		"hmac": {HMAC: &flow.VerifyHMAC{Header: "X-Sig", Algorithm: "sha256", Secrets: secrets("s")}},
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, store.Options{})
			n := r.deploy(webhook(flow.Webhook{Verify: v}), `{"s":"k"}`)
			path := r.hookURL(n)[len(r.url):]
			signature := hex.EncodeToString(sign("k", string(body)))
			b.SetParallelism(32)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					q := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
					q.Header.Set("Content-Type", "application/json")
					q.Header.Set("X-Sig", signature)
					w := httptest.NewRecorder()
					if r.door.ServeHTTP(w, q); w.Code != http.StatusAccepted {
						b.Errorf("status %d: %s", w.Code, w.Body)
						return
					}
				}
			})
			b.StopTimer()
			r.mu.Lock()
			b.ReportMetric(float64(r.calls[lease.OpMac])/float64(b.N), "calls/op")
			r.mu.Unlock()
		})
	}
}

// BenchmarkEvent makes an event from a request of 1 KiB.
func BenchmarkEvent(b *testing.B) {
	body := append(append([]byte(`{"id":1,"text":"`), bytes.Repeat([]byte("x"), 1000)...), `"}`...)
	b.ReportAllocs()
	for b.Loop() {
		q := httptest.NewRequest(http.MethodPost, "/hooks/x", bytes.NewReader(body))
		q.Header.Set("Content-Type", "application/json")
		got, err := ReadRequest(q)
		if err != nil {
			b.Fatal(err)
		}
		got.Event(&Envelope{Source: "s", Type: "t"})
	}
}
