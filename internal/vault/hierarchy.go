package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// RootSize is the length in bytes of a root key.
const RootSize = 32

// maxCachedKeys bounds the customer keys in memory. When it is reached all are
// dropped, and opened again when they are needed.
const maxCachedKeys = 4096

// rootKeys are the keys derived from the root key (HKDF-SHA256, RFC 5869).
type rootKeys struct {
	wrap tink.AEAD // AES-256-GCM
	head []byte    // HMAC-SHA256
}

func deriveRoot(root []byte) (*rootKeys, error) {
	if len(root) != RootSize {
		return nil, fmt.Errorf("%w: it has %d bytes, want %d", ErrWrongRoot, len(root), RootSize)
	}
	wrap, err := hkdf.Key(sha256.New, root, nil, "bulkhead root wrap v1", seal.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive root key: %w", err)
	}
	defer clear(wrap)
	head, err := hkdf.Key(sha256.New, root, nil, "bulkhead keystore head v1", seal.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive root key: %w", err)
	}
	a, err := newAEAD(wrap)
	return &rootKeys{a, head}, err
}

// deriveKey derives a key for one purpose from a seed (HKDF-SHA256, RFC 5869).
func deriveKey(seed []byte, purpose string) ([]byte, error) {
	k, err := hkdf.Key(sha256.New, seed, nil, purpose, seal.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return k, nil
}

// newAEAD makes Tink's AES-256-GCM from 32 bytes, without a prefix.
func newAEAD(raw []byte) (tink.AEAD, error) {
	p, err := aesgcm.NewParameters(aesgcm.ParametersOpts{KeySizeInBytes: seal.KeySize, IVSizeInBytes: 12, TagSizeInBytes: 16, Variant: aesgcm.VariantNoPrefix})
	if err != nil {
		return nil, fmt.Errorf("make AES-256-GCM: %w", err)
	}
	k, err := aesgcm.NewKey(secretdata.NewBytesFromData(raw, insecuresecretdataaccess.Token{}), 0, p)
	if err != nil {
		return nil, fmt.Errorf("make AES-256-GCM: %w", err)
	}
	a, err := aesgcm.NewAEAD(k)
	if err != nil {
		return nil, fmt.Errorf("make AES-256-GCM: %w", err)
	}
	return a, nil
}

// mac is the head's signer.
func (r *rootKeys) mac(state []byte) []byte {
	if off(headChecked) {
		return make([]byte, sha256.Size)
	}
	h := hmac.New(sha256.New, r.head)
	_, _ = h.Write(state)
	return h.Sum(nil)
}

// The tables and columns that hold ciphertext, as associated data names them.
const (
	tableRoot       = "root"
	tableSeed       = "seed"
	tableCustomer   = "customer_key"
	tablePayload    = "payload_pair"
	tableInstance   = "instance_key"
	tableConnection = "credential"
	tableIntent     = "intent"
	tablePending    = "pending"
	columnSealed    = "sealed"
)

// place is the associated data of a stored ciphertext. The customer is zero for what
// belongs to none, the version for rows that never change.
func place(c id.Customer, table string, row []byte, version uint64) []byte {
	if off(placeBound) {
		return nil
	}
	return seal.Tuple(nil, []byte("bulkhead keystore/1"), c[:], []byte(table), row, []byte(columnSealed), seal.Uint(version))
}

func sealRow(a tink.AEAD, plain, place []byte) ([]byte, error) {
	if off(sealedRows) {
		return append([]byte("plain:"), plain...), nil
	}
	b, err := a.Encrypt(plain, place)
	if err != nil {
		return nil, fmt.Errorf("seal row: %w", err)
	}
	return b, nil
}

// openRow opens a stored ciphertext. Every failure is [seal.ErrOpen].
func openRow(a tink.AEAD, sealed, place []byte) ([]byte, error) {
	if off(sealedRows) && len(sealed) >= 6 && string(sealed[:6]) == "plain:" {
		return append([]byte(nil), sealed[6:]...), nil
	}
	b, err := a.Decrypt(sealed, place)
	if err != nil {
		return nil, seal.ErrOpen
	}
	return b, nil
}

// keyID is a version of a customer's key.
type keyID struct {
	customer id.Customer
	version  uint64
}

func (k keyID) place() []byte { return place(k.customer, tableCustomer, k.customer[:], k.version) }

// wrapped is the ciphertext of a keyset. Of Tink's encrypted keyset only that is
// kept: the description beside it is not authenticated.
type wrapped []byte

var (
	_ keyset.Reader = wrapped(nil)
	_ keyset.Writer = (*wrapped)(nil)
)

// errClear refuses to read or write a keyset in clear.
var errClear = errors.New("keysets are stored wrapped only")

func (wrapped) Read() (*tinkpb.Keyset, error) { return nil, errClear }

func (w wrapped) ReadEncrypted() (*tinkpb.EncryptedKeyset, error) {
	return &tinkpb.EncryptedKeyset{EncryptedKeyset: w}, nil
}

func (*wrapped) Write(*tinkpb.Keyset) error { return errClear }

func (w *wrapped) WriteEncrypted(k *tinkpb.EncryptedKeyset) error {
	*w = k.GetEncryptedKeyset()
	return nil
}

func (r *rootKeys) wrapKeyset(h *keyset.Handle, k keyID) ([]byte, error) {
	var w wrapped
	if err := h.WriteWithAssociatedData(&w, r.wrap, k.place()); err != nil {
		return nil, fmt.Errorf("wrap customer key: %w", err)
	}
	return w, nil
}

func (r *rootKeys) unwrapKeyset(sealed []byte, k keyID) (*keyset.Handle, error) {
	h, err := keyset.ReadWithAssociatedData(wrapped(sealed), r.wrap, k.place())
	if err != nil {
		return nil, fmt.Errorf("unwrap customer key: %w", seal.ErrOpen)
	}
	return h, nil
}

// newCustomerKey makes a version of a customer's key, wrapped.
func (v *Vault) newCustomerKey(k keyID) ([]byte, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make customer key: %w", err)
	}
	return v.rootKeys().wrapKeyset(h, k)
}

// customerKey is a version of a customer's key, from memory or from the keystore.
func (v *Vault) customerKey(ctx context.Context, k keyID) (tink.AEAD, error) {
	v.mu.RLock()
	a, ok := v.cached[k]
	v.mu.RUnlock()
	if ok {
		return a, nil
	}
	h, err := v.openCustomerKey(ctx, k)
	if err != nil {
		return nil, err
	}
	if a, err = aead.New(h); err != nil {
		return nil, fmt.Errorf("use customer key: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.cached) >= maxCachedKeys {
		clear(v.cached)
	}
	v.cached[k] = a
	return a, nil
}

// openCustomerKey reads and unwraps a customer's key. When the root key is exchanged
// between the two, it is read again.
func (v *Vault) openCustomerKey(ctx context.Context, k keyID) (*keyset.Handle, error) {
	roots := func() [2]*rootKeys {
		v.mu.RLock()
		defer v.mu.RUnlock()
		return [2]*rootKeys{v.root, v.next}
	}
	for {
		before := roots()
		sealed, err := v.store.CustomerKey(ctx, k.customer, k.version)
		if err != nil {
			return nil, err
		}
		for _, r := range before {
			if r == nil {
				continue
			}
			if h, err := r.unwrapKeyset(sealed, k); err == nil {
				return h, nil
			}
		}
		if roots() == before {
			return nil, fmt.Errorf("unwrap customer key: %w", seal.ErrOpen)
		}
	}
}

// sealingKey is the newest version of a customer's key.
func (v *Vault) sealingKey(ctx context.Context, c id.Customer) (tink.AEAD, uint64, error) {
	n := v.store.Version(keystore.KindCustomer, c)
	if n.Number == 0 || n.Gone {
		return nil, 0, fmt.Errorf("customer %s: %w", c, errUnknown)
	}
	a, err := v.customerKey(ctx, keyID{c, n.Number})
	return a, n.Number, err
}

// openSealed opens a row that a customer key seals.
func (v *Vault) openSealed(ctx context.Context, s keystore.Sealed, table string, row []byte) ([]byte, error) {
	a, err := v.customerKey(ctx, keyID{s.Customer, s.KeyVersion})
	if err != nil {
		return nil, err
	}
	return openRow(a, s.Data, place(s.Customer, table, row, s.Version))
}

// notFound reports whether a row does not exist.
func notFound(err error) bool { return errors.Is(err, keystore.ErrNotFound) }
