package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
)

// ChunkSize is the number of plain bytes in every chunk of a stream but the last,
// which may have fewer.
const ChunkSize = 256 << 10

// StreamKey seals one stream, such as a blob, in chunks (the STREAM construction of
// Hoang, Reyhanitabar, Rogaway and Vizár, as in age): each chunk's nonce holds its
// index and whether it is the last, so that a stream can be neither reordered nor
// cut nor continued. A key seals one stream only. It is safe for concurrent use.
type StreamKey struct {
	gcm cipher.AEAD
	raw [KeySize]byte
}

// RandomStreamKey makes the key of a new stream.
func RandomStreamKey() (*StreamKey, error) {
	var b [KeySize]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return NewStreamKey(b[:])
}

// NewStreamKey reads the 32 bytes given by [StreamKey.Bytes].
func NewStreamKey(b []byte) (*StreamKey, error) {
	g, err := newGCM(b)
	if err != nil {
		return nil, err
	}
	k := &StreamKey{gcm: g}
	copy(k.raw[:], b)
	return k, nil
}

// Bytes is the key itself, for a sealed reference to the stream.
func (k *StreamKey) Bytes() []byte { return k.raw[:] }

// String keeps the key out of printed structs.
func (*StreamKey) String() string { return "[stream key]" }

// Seal appends a sealed chunk to dst. The associated data names the stream.
func (k *StreamKey) Seal(dst, ad, plain []byte, index uint32, last bool) []byte {
	nonce := chunkNonce(index, last)
	return k.gcm.Seal(append(dst, version), nonce[:], plain, ad)
}

// Open appends the plain chunk to dst. A chunk that is not the index-th of the
// stream, or not the last as claimed, is [ErrOpen].
func (k *StreamKey) Open(dst, ad, sealed []byte, index uint32, last bool) ([]byte, error) {
	if len(sealed) < 1+tagSize || sealed[0] != version {
		return nil, ErrOpen
	}
	nonce := chunkNonce(index, last)
	out, err := k.gcm.Open(dst, nonce[:], sealed[1:], ad)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

func chunkNonce(index uint32, last bool) (nonce [nonceSize]byte) {
	binary.BigEndian.PutUint32(nonce[7:], index)
	if last {
		nonce[nonceSize-1] = 1
	}
	return nonce
}
