package worker

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestOrderToERP(t *testing.T) {
	t.Parallel()
	h := newHost(t, parseFile(t, "testdata/order-to-erp.yaml"))
	h.config = `{"min_total": 50}`
	h.egress = func(r *wire.Request) *wire.Response {
		if r.Slot == "shop" {
			return jsonAnswer(200, `{"lines":[{"sku":"a","qty":2,"price":19.90},{"sku":"b","qty":0,"price":1},{"sku":"c","qty":1,"price":30}]}`)
		}
		return jsonAnswer(201, `{"id":"inv-`+string(r.Body[len(r.Body)-3:len(r.Body)-2])+`"}`)
	}
	got := h.once("order-paid", `{"body":{"id":4711}}`)
	want := outcomeOf{Status: wire.StatusCompleted, Output: `{"sent":["inv-1","inv-2"],"total":69.8}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	sent := h.sent()
	if len(sent) != 3 || sent[0].Path != "/orders/4711" || sent[0].IdempotencyKey != "" || sent[1].IdempotencyKey == "" {
		t.Errorf("requests: %+v", sent)
	}
}
