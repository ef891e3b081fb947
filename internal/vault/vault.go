package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Config is what a vault needs to start.
type Config struct {
	// Dir is the directory of the keystore, see [keystore.Config].
	Dir string
	// Temporary gives up durability against a power failure, for a directory that is
	// deleted at the end.
	Temporary bool
	// Root is the root key of [RootSize] bytes. Open takes it over and destroys it.
	Root secret.Value
	// Key opens what servers seal to the vault. Nil: Open makes one, see [Vault.Key].
	Key *seal.PrivateKey
	// NewRun says that other processes start anew: identities certified before are
	// retired, but for those of Live.
	NewRun bool
	// Live are the processes that run on from before.
	Live []id.Node
	// IdentityLife is how long certificates last. 0: [IdentityLife].
	IdentityLife time.Duration
	// LeaseRequests and LeaseBytes are the budget of an egress lease. 0, or more than these: [LeaseRequests], [LeaseBytes].
	LeaseRequests, LeaseBytes uint64
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Log gets refusals and changes. Nil: nothing is logged.
	Log *slog.Logger
}

// Vault is an open vault.
type Vault struct {
	store *keystore.Store
	now   func() time.Time
	log   *slog.Logger
	key   *seal.PrivateKey
	life  time.Duration // of identities
	// requests and bytes are the budget of a lease.
	requests, bytes uint64
	born            time.Time // calls from before could be repeated ones

	authority *seal.SignKey
	blind     []byte
	tickets   []byte // key of the MACs of tickets
	operator  nkeys.KeyPair
	account   nkeys.KeyPair

	operatorJWT string
	accountJWT  string

	macs     *macs
	rotating sync.Mutex // one exchange of the root key at a time

	mu      sync.RWMutex // guards what follows
	root    *rootKeys
	next    *rootKeys // while the root key is exchanged
	cached  map[keyID]tink.AEAD
	members map[id.Node]*member
}

// rootCheck is what the check value of the root key holds.
const rootCheck = "bulkhead root check v1"

// The names of the seeds.
const (
	seedAuthority = "authority"
	seedBlind     = "blind-index"
	seedOperator  = "nats-operator"
	seedAccount   = "nats-account"
)

// Open opens the vault, and makes a new one when the directory holds none. A root
// key that does not fit is [ErrWrongRoot] and changes nothing.
func Open(ctx context.Context, cfg Config) (*Vault, error) {
	defer cfg.Root.Destroy()
	v := &Vault{now: cfg.Now, log: cfg.Log, key: cfg.Key, cached: map[keyID]tink.AEAD{}, members: map[id.Node]*member{}, macs: newMacs()}
	if v.now == nil {
		v.now = time.Now
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.born, v.life = v.now(), cmp.Or(cfg.IdentityLife, IdentityLife)
	v.requests, v.bytes = min(cmp.Or(cfg.LeaseRequests, LeaseRequests), LeaseRequests), min(cmp.Or(cfg.LeaseBytes, LeaseBytes), LeaseBytes)
	var err error
	if v.root, err = deriveRoot(cfg.Root.Reveal()); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	if v.key == nil {
		if v.key, err = seal.GenerateKey(); err != nil {
			return nil, fmt.Errorf("open vault: %w", err)
		}
	}
	if v.store, err = keystore.Open(ctx, keystore.Config{Dir: cfg.Dir, Temporary: cfg.Temporary}); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	if err := v.load(ctx, &cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open vault: %w", err), v.Close())
	}
	return v, nil
}

func (v *Vault) load(ctx context.Context, cfg *Config) error {
	check, err := v.store.Root(ctx)
	switch {
	case notFound(err):
		if err := v.store.Unlock(ctx, v.root.mac); err != nil {
			return err
		}
		if err := v.store.Write(ctx, v.initialise); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		plain, err := openRow(v.root.wrap, check, rootPlace())
		if !off(rootChecked) && (err != nil || string(plain) != rootCheck) {
			return fmt.Errorf("%w: the key, file or passphrase given is not the one this keystore was made with, or the keystore is damaged; nothing was changed", ErrWrongRoot)
		}
		if err := v.store.Unlock(ctx, v.root.mac); err != nil {
			return err
		}
	}
	if err := v.loadSeeds(ctx); err != nil {
		return err
	}
	return v.loadMembers(ctx, cfg)
}

func rootPlace() []byte { return place(id.Customer{}, tableRoot, []byte{1}, 0) }

func seedPlace(name string) []byte { return place(id.Customer{}, tableSeed, []byte(name), 0) }

// initialise fills a new keystore.
func (v *Vault) initialise(tx *keystore.Tx) error {
	check, err := sealRow(v.root.wrap, []byte(rootCheck), rootPlace())
	if err != nil {
		return err
	}
	if err := tx.PutRoot(check); err != nil {
		return err
	}
	for _, name := range []string{seedAuthority, seedBlind, seedOperator, seedAccount} {
		k, err := seal.RandomKey()
		if err != nil {
			return err
		}
		sealed, err := sealRow(v.root.wrap, k.Bytes(), seedPlace(name))
		clear(k.Bytes())
		if err != nil {
			return err
		}
		if err := tx.PutSeed(name, sealed); err != nil {
			return err
		}
	}
	day := keystore.Version{Number: uint64(today(v.now()))}
	if err := tx.SetVersion(keystore.KindDay, keystore.Subject{}, day); err != nil {
		return err
	}
	return tx.Append(v.leaf(leafCreated, id.Customer{}, id.Node{}, nil))
}

func (v *Vault) seed(ctx context.Context, name string) ([]byte, error) {
	sealed, err := v.store.Seed(ctx, name)
	if err != nil {
		return nil, err
	}
	raw, err := openRow(v.rootKeys().wrap, sealed, seedPlace(name))
	if err == nil && len(raw) != seal.KeySize {
		err = seal.ErrOpen
	}
	if err != nil {
		return nil, fmt.Errorf("seed %s: %w", name, err)
	}
	return raw, nil
}

func (v *Vault) loadSeeds(ctx context.Context) (err error) {
	raw := map[string][]byte{}
	for _, name := range []string{seedAuthority, seedBlind, seedOperator, seedAccount} {
		if raw[name], err = v.seed(ctx, name); err != nil {
			return err
		}
		if name != seedBlind {
			defer clear(raw[name])
		}
	}
	v.blind = raw[seedBlind]
	if v.authority, err = seal.NewSignKey(raw[seedAuthority]); err != nil {
		return err
	}
	if v.tickets, err = ticketKey(raw[seedAuthority]); err != nil {
		return err
	}
	if v.operator, err = nkeys.FromRawSeed(nkeys.PrefixByteOperator, raw[seedOperator]); err != nil {
		return fmt.Errorf("read operator key: %w", err)
	}
	if v.account, err = nkeys.FromRawSeed(nkeys.PrefixByteAccount, raw[seedAccount]); err != nil {
		return fmt.Errorf("read account key: %w", err)
	}
	return v.signBus()
}

// Close ends the vault and wipes the keys that it can.
func (v *Vault) Close() error {
	err := v.store.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !off(keysWiped) {
		clear(v.blind)
		clear(v.tickets)
		clear(v.root.head)
		v.macs.wipe()
	}
	clear(v.cached)
	for _, k := range []nkeys.KeyPair{v.operator, v.account} {
		if k != nil {
			k.Wipe()
		}
	}
	if err != nil {
		return fmt.Errorf("close vault: %w", err)
	}
	return nil
}

// Key is the public half of the key to which servers seal what users enter.
func (v *Vault) Key() seal.PublicKey { return v.key.Public() }

// Authority is the key that certifies identities.
func (v *Vault) Authority() seal.VerifyKey { return v.authority.Public() }

// Bus is what the bus must know to trust the vault: the JWTs of the NATS operator
// and of the one account.
func (v *Vault) Bus() (operator, account string) { return v.operatorJWT, v.accountJWT }

// VerifyLog checks the whole log and returns the number of its leaves.
func (v *Vault) VerifyLog(ctx context.Context) (uint64, error) { return v.store.VerifyLog(ctx) }

// Head is the number and the hash of the newest leaf, to be kept elsewhere: a log
// that does not contain it later was put back to an earlier state.
func (v *Vault) Head() (seq uint64, hash [32]byte) { return v.store.Head() }

func (v *Vault) rootKeys() *rootKeys {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.root
}
