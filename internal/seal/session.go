package seal

import (
	"container/list"
	"crypto/cipher"
	"crypto/hpke"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A session ends after sessionLife or sessionRecords, whichever is first. A
// process that is breached later can open nothing sealed in an ended session.
const (
	sessionLife    = 10 * time.Second
	sessionRecords = 10_000
	// openSessions bounds the cache of an Opener.
	openSessions = 1024
	exportLabel  = "bulkhead session v1"
)

// sessionOverhead is what sealing adds to a record: version, encapsulation,
// nonce and tag.
const sessionOverhead = 1 + KeySize + nonceSize + tagSize

// Sealer seals many records to one public key. It is safe for concurrent use.
//
// A record is: version (1 byte), encapsulated key (32), nonce (12), ciphertext
// and tag. The nonce counts the records of the session, so none repeats.
type Sealer struct {
	to      PublicKey
	purpose string

	mu    sync.Mutex
	enc   []byte
	gcm   cipher.AEAD
	count uint64
	until time.Time
}

// NewSealer makes a Sealer to the public key. The purpose must be the Opener's.
func NewSealer(to PublicKey, purpose string) *Sealer { return &Sealer{to: to, purpose: purpose} }

// Seal appends the sealed record to dst. The time decides when a session ends.
func (s *Sealer) Seal(dst []byte, now time.Time, ad, plain []byte) ([]byte, error) {
	enc, gcm, n, err := s.next(now)
	if err != nil {
		return nil, err
	}
	dst = append(slices.Grow(dst, 1+len(enc)+nonceSize+len(plain)+gcm.Overhead()), version)
	dst = append(dst, enc...)
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, n)
	return gcm.Seal(dst, dst[at:at+nonceSize], plain, ad), nil
}

func (s *Sealer) next(now time.Time) (enc []byte, gcm cipher.AEAD, n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gcm == nil || s.count >= sessionRecords || !now.Before(s.until) {
		if err := s.renew(); err != nil {
			return nil, nil, 0, err
		}
		s.until = now.Add(sessionLife)
	}
	s.count++
	return s.enc, s.gcm, s.count, nil
}

func (s *Sealer) renew() error {
	pub, err := s.to.hpke()
	if err != nil {
		return err
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(s.purpose))
	if err != nil {
		return fmt.Errorf("encapsulate: %w", err)
	}
	key, err := sender.Export(exportLabel, KeySize)
	if err != nil {
		return fmt.Errorf("export session key: %w", err)
	}
	gcm, err := newGCM(key)
	if err != nil {
		return err
	}
	s.enc, s.gcm, s.count = enc, gcm, 0
	return nil
}

// Opener opens records of many sessions sealed to one key, and keeps the keys of
// the most recent sessions. It is safe for concurrent use.
type Opener struct {
	key     *PrivateKey
	purpose string

	mu     sync.Mutex
	gcms   map[[KeySize]byte]*list.Element
	recent *list.List // of openSession, newest first
}

type openSession struct {
	enc [KeySize]byte
	gcm cipher.AEAD
}

// NewOpener makes an Opener. The purpose must be the Sealer's.
func NewOpener(k *PrivateKey, purpose string) *Opener {
	return &Opener{key: k, purpose: purpose, gcms: map[[KeySize]byte]*list.Element{}, recent: list.New()}
}

// Open appends the plain record to dst.
func (o *Opener) Open(dst, ad, sealed []byte) ([]byte, error) {
	if len(sealed) < sessionOverhead || sealed[0] != version {
		return nil, ErrOpen
	}
	gcm, err := o.session([KeySize]byte(sealed[1 : 1+KeySize]))
	if err != nil {
		return nil, ErrOpen
	}
	body := sealed[1+KeySize:]
	out, err := gcm.Open(dst, body[:nonceSize], body[nonceSize:], ad)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

func (o *Opener) session(enc [KeySize]byte) (cipher.AEAD, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.gcms[enc]; ok {
		o.recent.MoveToFront(e)
		return e.Value.(openSession).gcm, nil
	}
	r, err := hpke.NewRecipient(enc[:], o.key.key, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(o.purpose))
	if err != nil {
		return nil, ErrOpen
	}
	key, err := r.Export(exportLabel, KeySize)
	if err != nil {
		return nil, ErrOpen
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	o.gcms[enc] = o.recent.PushFront(openSession{enc, gcm})
	if o.recent.Len() > openSessions {
		oldest := o.recent.Back()
		delete(o.gcms, o.recent.Remove(oldest).(openSession).enc)
	}
	return gcm, nil
}
