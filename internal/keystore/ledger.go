package keystore

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Kind says what the ledger remembers a version of. Numbers are part of the format.
type Kind byte

// The kinds of ledger entries.
const (
	KindCustomer   Kind = 1 + iota // a customer's key version
	KindInstance                   // an instance's config version
	KindConnection                 // a credential record's version
	KindNode                       // a live identity
	KindDay                        // the first day whose payload pairs are not destroyed; no subject
	KindIntent                     // the version of an intent's row
	KindPending                    // a pending authorization: Gone when it was used; forgotten when it has expired
)

// Subject is the id of what has a version.
type Subject = [16]byte

// Version is what the ledger says of one subject.
type Version struct {
	Number uint64 // counts up from 1; 0 when the ledger knows nothing of the subject
	Gone   bool   // it was destroyed and must not come back
}

type entry struct {
	Kind    Kind
	Subject Subject
}

// buckets divides the ledger, so that a change costs a hash over one part and one
// over the list of parts: a Merkle tree of two levels.
const buckets = 256

// ledger holds every entry in memory, with the digest of each bucket.
type ledger struct {
	entries [buckets]map[entry]Version
	digests [buckets][32]byte
}

// bucket uses the last byte of the subject, which is random in ids.
func (e entry) bucket() int { return int(e.Subject[15]) }

func (l *ledger) get(e entry) Version { return l.entries[e.bucket()][e] }

// with is the ledger's state after changes, as the digests that differ.
func (l *ledger) with(changes map[entry]Version) (digest [32]byte, changed map[int][32]byte) {
	changed = map[int][32]byte{}
	for e := range changes {
		if b := e.bucket(); changed[b] == [32]byte{} {
			changed[b] = l.bucketDigest(b, changes)
		}
	}
	h := sha256.New()
	for b := range buckets {
		d, ok := changed[b]
		if !ok {
			d = l.digests[b]
		}
		_, _ = h.Write(d[:])
	}
	return [32]byte(h.Sum(nil)), changed
}

func (l *ledger) bucketDigest(b int, changes map[entry]Version) [32]byte {
	all := make(map[entry]Version, len(l.entries[b])+1)
	for e, v := range l.entries[b] {
		all[e] = v
	}
	for e, v := range changes {
		if e.bucket() == b {
			all[e] = v
		}
	}
	order := make([]entry, 0, len(all))
	for e, v := range all {
		if v.Number != 0 {
			order = append(order, e)
		}
	}
	slices.SortFunc(order, func(x, y entry) int {
		if x.Kind != y.Kind {
			return int(x.Kind) - int(y.Kind)
		}
		return slices.Compare(x.Subject[:], y.Subject[:])
	})
	var buf []byte
	for _, e := range order {
		v := all[e]
		gone := byte(0)
		if v.Gone {
			gone = 1
		}
		buf = append(buf, byte(e.Kind))
		buf = append(buf, e.Subject[:]...)
		buf = binary.BigEndian.AppendUint64(buf, v.Number)
		buf = append(buf, gone)
	}
	return sha256.Sum256(buf)
}

// apply makes the changes that with was asked about. A version of zero removes the entry.
func (l *ledger) apply(changes map[entry]Version, changed map[int][32]byte) {
	for e, v := range changes {
		b := e.bucket()
		if v.Number == 0 {
			delete(l.entries[b], e)
			continue
		}
		if l.entries[b] == nil {
			l.entries[b] = map[entry]Version{}
		}
		l.entries[b][e] = v
	}
	for b, d := range changed {
		l.digests[b] = d
	}
}
