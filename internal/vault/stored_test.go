package vault

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
	_ "modernc.org/sqlite"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// thief reads and writes the keystore's file past the vault, also while it is open.
type thief struct {
	tb testing.TB
	db *sql.DB
}

func (w *world) thief() *thief {
	w.tb.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "keystore.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() { _ = db.Close() })
	return &thief{w.tb, db}
}

func (t *thief) exec(q string, args ...any) {
	t.tb.Helper()
	if _, err := t.db.ExecContext(context.Background(), q, args...); err != nil {
		t.tb.Fatal(err)
	}
}

// table is a copy of all rows of a table.
type table struct {
	name string
	rows [][]any
}

func (t *thief) copy(name string) table {
	t.tb.Helper()
	r, err := t.db.QueryContext(context.Background(), "SELECT * FROM "+name)
	if err != nil {
		t.tb.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	columns, _ := r.Columns()
	all := table{name: name}
	for r.Next() {
		row, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := r.Scan(to...); err != nil {
			t.tb.Fatal(err)
		}
		all.rows = append(all.rows, row)
	}
	return all
}

// putBack replaces the rows of a table by a copy.
func (t *thief) putBack(all table) {
	t.tb.Helper()
	t.exec("DELETE FROM " + all.name)
	for _, row := range all.rows {
		row = append([]any(nil), row...)
		for i := range row { // an empty value is read as none, and no column may be NULL
			if b, ok := row[i].([]byte); row[i] == nil || ok && b == nil {
				row[i] = []byte{}
			}
		}
		marks := strings.TrimSuffix(strings.Repeat("?,", len(row)), ",")
		t.exec("INSERT INTO "+all.name+" VALUES ("+marks+")", row...)
	}
}

// stored is one sealed value of the keystore and the way it is opened at its place.
type stored struct {
	name   string
	sealed []byte
	open   func([]byte) error
}

// storedValues are all sealed values of the keystore.
func (w *world) storedValues() (all []stored) {
	w.tb.Helper()
	t, v := w.thief(), w.vault
	at := func(a func() []tink.AEAD, place []byte) func([]byte) error {
		return func(b []byte) (err error) {
			for _, k := range a() {
				if _, err = openRow(k, b, place); err == nil {
					return nil
				}
			}
			return err
		}
	}
	root := func() []tink.AEAD { return []tink.AEAD{v.root.wrap} }
	customer := func(c id.Customer) func() []tink.AEAD {
		return func() (keys []tink.AEAD) {
			for n := range v.store.Version(1, c).Number {
				k, err := v.customerKey(context.Background(), keyID{c, n + 1})
				if err != nil {
					w.tb.Fatal(err)
				}
				keys = append(keys, k)
			}
			return keys
		}
	}
	for _, r := range t.copy("root").rows {
		all = append(all, stored{"root", r[1].([]byte), at(root, rootPlace())})
	}
	for _, r := range t.copy("seed").rows {
		all = append(all, stored{"seed " + r[0].(string), r[1].([]byte), at(root, seedPlace(r[0].(string)))})
	}
	for _, r := range t.copy("customer_key").rows {
		k := keyID{id.Customer(r[0].([]byte)), uint64(r[1].(int64))}
		all = append(all, stored{fmt.Sprintf("customer key %s v%d", k.customer, k.version), r[2].([]byte), func(b []byte) error {
			_, err := v.root.unwrapKeyset(b, k)
			return err
		}})
	}
	for _, r := range t.copy("payload_pair").rows {
		c, d := id.Customer(r[0].([]byte)), lease.Day(r[1].(int64))
		all = append(all, stored{fmt.Sprintf("payload %s %d", c, d), r[3].([]byte), at(customer(c), place(c, tablePayload, dayRow(d), 0))})
	}
	for _, r := range t.copy("instance_key").rows {
		i, c := r[0].([]byte), id.Customer(r[1].([]byte))
		all = append(all, stored{"instance " + id.Instance(i).String(), r[3].([]byte), at(customer(c), place(c, tableInstance, i, 0))})
	}
	for _, r := range t.copy("credential").rows {
		n, c := r[0].([]byte), id.Customer(r[1].([]byte))
		all = append(all, stored{"credential " + id.Connection(n).String(), r[4].([]byte), at(customer(c), place(c, tableConnection, n, uint64(r[2].(int64))))})
	}
	return all
}

// crowd fills a vault: two tenants, each with two of everything, and rotated keys.
func (w *world) crowd() (a, b *tenant) {
	w.tb.Helper()
	a, b = w.tenant("token of A"), w.tenant("token of B")
	for _, t := range []*tenant{a, b} {
		w.saveConnection(bearer(t.customer, id.NewConnection(w.clock.now()), "first "+t.token))
		w.payloadKey(t.customer, t.day+1)
		w.saveInstance(t.customer, id.NewInstance(w.clock.now()), `{"old":1}`)
		if _, err := w.vault.Rotate(w.tb.Context(), t.customer); err != nil {
			w.tb.Fatal(err)
		}
		w.saveConnection(bearer(t.customer, id.NewConnection(w.clock.now()), "second "+t.token))
		w.payloadKey(t.customer, t.day+2)
		w.saveInstance(t.customer, id.NewInstance(w.clock.now()), `{"new":1}`)
	}
	return a, b
}

func TestIntegrityOfEveryStoredByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crowd()
	tried, opened := 0, 0
	for _, s := range w.storedValues() {
		if err := s.open(s.sealed); err != nil {
			t.Fatalf("%s does not open at its own place: %v", s.name, err)
		}
		for i := range s.sealed {
			for bit := range 8 {
				b := bytes.Clone(s.sealed)
				b[i] ^= 1 << bit
				tried++
				if s.open(b) == nil {
					opened++
				}
			}
		}
		for n := range s.sealed {
			tried++
			if s.open(s.sealed[:n]) == nil {
				opened++
			}
		}
	}
	t.Logf("integrity: %d corruptions of stored values tried, %d opened", tried, opened)
	if tried < 10_000 || opened != 0 {
		t.Errorf("%d of %d corrupted values opened, want 0 of at least 10000", opened, tried)
	}
}

func TestMovedCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crowd()
	all := w.storedValues()
	tried, opened := 0, 0
	for i, from := range all {
		for j, to := range all {
			if i == j {
				continue
			}
			tried++
			if to.open(from.sealed) == nil {
				opened++
				t.Logf("%s opens in the place of %s", from.name, to.name)
			}
		}
	}
	t.Logf("moved: %d of %d values to each other's places (rows, customers, columns, versions), %d opened", tried, len(all), opened)
	if len(all) < 25 || opened != 0 {
		t.Errorf("%d of %d moved values opened, want 0; %d values", opened, tried, len(all))
	}
}

func TestMovedRowsGiveNoLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.crowd()
	th := w.thief()
	tried, granted := 0, 0
	for _, name := range []string{"credential", "instance_key", "payload_pair", "customer_key"} {
		before := th.copy(name)
		for i := range before.rows {
			for j := range before.rows {
				from, to := before.rows[i], before.rows[j]
				last := len(to) - 1
				if i == j {
					continue
				}
				after := table{name: name, rows: append([][]any(nil), before.rows...)}
				moved := append([]any(nil), to...)
				moved[last] = from[last]
				if name != "customer_key" {
					moved[last-1] = from[last-1] // the version of the key that sealed it
				}
				after.rows[j] = moved
				th.putBack(after)
				forget(w.vault)
				for _, tenant := range []*tenant{a, b} {
					if !w.uses(tenant, name, to) {
						continue
					}
					tried++
					if _, err := w.tryLease(w.dispatch(tenant)); err == nil {
						granted++
					}
				}
			}
		}
		th.putBack(before)
		forget(w.vault)
	}
	w.lease(w.dispatch(a))
	t.Logf("moved rows: %d leases asked for that use one, %d granted", tried, granted)
	if tried < 30 || granted != 0 {
		t.Errorf("%d of %d leases granted from moved rows, want 0 of at least 30", granted, tried)
	}
}

// uses reports whether a lease of the tenant needs the row.
func (w *world) uses(t *tenant, name string, row []any) bool {
	switch name {
	case "credential":
		return id.Connection(row[0].([]byte)) == t.connection
	case "instance_key":
		return id.Instance(row[0].([]byte)) == t.instance
	case "payload_pair":
		return id.Customer(row[0].([]byte)) == t.customer && lease.Day(row[1].(int64)) == t.day
	default: // the first version sealed what the tenants use
		return id.Customer(row[0].([]byte)) == t.customer && row[1].(int64) == 1
	}
}

// forget empties the cache of customer keys, as a restart does.
func forget(v *Vault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.cached)
}

// forms are the encodings in which a secret is looked for.
func forms(secret []byte) map[string][]byte {
	all := map[string][]byte{"raw": secret, "hex": []byte(hex.EncodeToString(secret)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(secret)))}
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			s := e.EncodeToString(padded)
			all[fmt.Sprintf("%s+%d", name, shift)] = []byte(s[(shift*8+5)/6 : len(s)-2])
		}
	}
	return all
}

// hits counts in how many forms the secrets are in any file of the keystore or in the log.
func (w *world) hits(secrets map[string][]byte) (looked, found int) {
	w.tb.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(files) < 3 {
		w.tb.Fatalf("files of the keystore: %v, %v", files, err)
	}
	places := map[string][]byte{"log": w.log.Bytes()}
	for _, f := range files {
		if places[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			w.tb.Fatal(err)
		}
	}
	for name, s := range secrets {
		for form, b := range forms(s) {
			for place, text := range places {
				looked++
				if bytes.Contains(text, b) {
					found++
					w.tb.Logf("%s as %s is in %s", name, form, place)
				}
			}
		}
	}
	return looked, found
}

func TestConfidential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("canary-token-0KpW7tRz")
	secrets := map[string][]byte{"config": []byte("canary-config-93hXbQ"), "bearer token": []byte(a.token)}
	w.saveInstance(a.customer, a.instance, `{"k":"canary-config-93hXbQ"}`)
	a.config.Version++
	for _, kind := range []lease.Kind{lease.KindBasic, lease.KindHeader, lease.KindQuery} {
		r := bearer(a.customer, id.NewConnection(w.clock.now()), "")
		r.Kind, r.Fields = kind, nil
		names, _, _ := fieldsOf(kind)
		for _, n := range names {
			secrets[string(kind)+" "+n] = []byte("canary-" + string(kind) + "-" + n + "-5uTq")
			r.Fields = append(r.Fields, lease.Field{Name: n, Secret: secrets[string(kind)+" "+n]})
		}
		r.Binding = lease.Binding{Scheme: "https", Host: "canary-host-7yLm.example", BasePath: "/canary-base-2vNc", Methods: []string{"CANARYMETHOD8X"}, Paths: []string{"/canary-path-4dFs/{id}"}}
		secrets["host"], secrets["base path"], secrets["method"], secrets["path"] = []byte("canary-host-7yLm"), []byte("canary-base-2vNc"), []byte("CANARYMETHOD8X"), []byte("canary-path-4dFs")
		w.saveConnection(r)
	}
	l := w.lease(w.dispatch(a))
	secrets["instance key"], secrets["idempotency key"], secrets["payload key"], secrets["channel key"] = l.worker.InstanceKey, l.worker.IdempotencyKey, l.worker.Payload[0].Private, l.worker.Channel
	secrets["authority"], secrets["blind-index key"], secrets["head key"], secrets["root"] = w.vault.authority.Seed(), w.vault.blind, w.vault.root.head, w.root
	for name, pair := range map[string]interface{ Seed() ([]byte, error) }{"operator": w.vault.operator, "account": w.vault.account} {
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = seed
	}
	_ = w.try(lease.OpConnection, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection, Record: []byte(a.token)}, nil)
	looked, found := w.hits(secrets)
	t.Logf("confidential: %d secrets looked for in %d ways, %d found", len(secrets), looked, found)
	if looked < 500 || found != 0 {
		t.Errorf("%d of %d looks found a secret, want 0", found, looked)
	}
}

func TestDestroyedCiphertextIsInNoFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	old := w.storedValues()
	w.saveConnection(bearer(a.customer, a.connection, "next token"))
	w.call(lease.OpInstanceDelete, &lease.InstanceCall{Customer: a.customer, Instance: a.instance}, nil)
	w.clock.add(4 * 24 * time.Hour)
	w.server = w.enroll("server", "")
	if n, err := w.vault.Sweep(t.Context()); err != nil || n != 1 {
		t.Fatalf("Sweep = %d, %v, want 1 pair destroyed", n, err)
	}
	secrets := map[string][]byte{}
	for _, s := range old {
		if strings.HasPrefix(s.name, "payload") || strings.HasPrefix(s.name, "instance") || strings.HasPrefix(s.name, "credential") {
			secrets[s.name] = s.sealed
		}
	}
	looked, found := w.hits(secrets)
	if len(secrets) != 3 || found != 0 {
		t.Errorf("%d of %d looks found one of %d destroyed ciphertexts, want 0 of 3", found, looked, len(secrets))
	}
	w.call(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection}, nil)
	for _, s := range w.storedValues() {
		if strings.HasPrefix(s.name, "credential") {
			t.Errorf("%s is still there", s.name)
		}
	}
}
