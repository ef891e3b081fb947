package bench

import (
	"fmt"
	"strings"
)

// flowName is the one flow of each integration.
const flowName = "order"

// The integrations that are measured. Each has one webhook flow. The number of the event,
// n, is in every call, so that the upstream can tell whose it is.
const (
	// orderFile is webhook → map → HTTP POST → journaled → completed.
	orderFile = `bulkhead: 1
integration: bench-order
connections:
  api: {connector: http}
flows:
  order:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: shape
        set: {n: "${{ trigger.body.n }}", order: "${{ trigger.body.id }}", total: "${{ trigger.body.qty * trigger.body.price }}", memo: "Order ${{ trigger.body.id }}"}
      - id: sent
        uses: api.request
        with: {method: POST, path: "/orders/${{ trigger.body.id }}", body: "${{ steps.shape }}"}
`
	// acceptFile does nothing but return.
	acceptFile = `bulkhead: 1
integration: bench-accept
flows:
  order:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: done
        return: {n: "${{ trigger.body.n }}"}
`
	// codeFile maps with a code step.
	codeFile = `bulkhead: 1
integration: bench-code
connections:
  api: {connector: http}
flows:
  order:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: shape
        with: {order: "${{ trigger.body }}"}
        code: |
          export default ({ order }) => {
            return { n: order.n, order: order.id, total: order.qty * order.price };
          };
      - id: sent
        uses: api.request
        with: {method: POST, path: "/orders/${{ trigger.body.id }}", body: "${{ steps.shape }}"}
`
	// loopFile calls once for each item.
	loopFile = `bulkhead: 1
integration: bench-loop
connections:
  api: {connector: http}
flows:
  order:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: lines
        for: {each: "${{ trigger.body.items }}", as: item, parallel: 20}
        steps:
          - id: sent
            uses: api.request
            with: {method: POST, path: /items, body: {n: "${{ trigger.body.n }}", item: "${{ item }}"}}
`
)

// items is the further member of an event for loopFile.
func items(n int) string {
	var b strings.Builder
	b.WriteString(`,"items":[0`)
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, ",%d", i)
	}
	b.WriteByte(']')
	return b.String()
}
