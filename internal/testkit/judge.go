package testkit

import (
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Heard is one request that an upstream has got: its idempotency key and its body.
type Heard struct{ Key, Body string }

// JudgeEffects finds effects that are missing, and repeated requests that are not repeated word
// for word under one key. Got are requests by path: each accepted event n has the effects
// /first/n and /second/n. Nothing means that all is in order.
func JudgeEffects(got map[string][]Heard, accepted []int) (wrong []string) {
	for _, n := range accepted {
		for _, effect := range []string{"first", "second"} {
			if len(got[fmt.Sprintf("/%s/%d", effect, n)]) == 0 {
				wrong = append(wrong, fmt.Sprintf("event %d: the %s effect is missing", n, effect))
			}
		}
	}
	keys := map[string]string{}
	for path, list := range got {
		for _, h := range list {
			if h.Key == "" || h != list[0] {
				wrong = append(wrong, fmt.Sprintf("%s was repeated as another request: %v", path, list))
				break
			}
		}
		if other, ok := keys[list[0].Key]; ok {
			wrong = append(wrong, fmt.Sprintf("%s and %s have one key", path, other))
		}
		keys[list[0].Key] = path
	}
	return wrong
}

// JudgeJournal finds gaps, and what only two holders of one execution can have written. Last is
// the number of the last entry by the row of the execution.
func JudgeJournal(journal []wire.Entry, last uint32) (wrong []string) {
	if int(last) != len(journal) {
		wrong = append(wrong, fmt.Sprintf("the journal has %d entries, its row counts %d", len(journal), last))
	}
	results, hashes := map[string]bool{}, map[string][16]byte{}
	for i, e := range journal {
		if e.Seq != uint32(i+1) {
			wrong = append(wrong, fmt.Sprintf("entry %d has the number %d", i+1, e.Seq))
		}
		if e.Kind != wire.EntryResult {
			continue
		}
		if results[e.Path] {
			wrong = append(wrong, fmt.Sprintf("step %s has two results: a stale fence was written", e.Path))
		}
		if h, ok := hashes[e.Path]; ok && h != e.Hash {
			wrong = append(wrong, fmt.Sprintf("step %s had two inputs", e.Path))
		}
		results[e.Path], hashes[e.Path] = true, e.Hash
	}
	return wrong
}
