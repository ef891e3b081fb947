package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Format is the version of the archive's layout.
const Format = 1

// KeystoreLife is how long a keystore archive may be restored unless it says otherwise:
// for as long, what was destroyed can be brought back by who holds the archive and the root key.
const KeystoreLife = 7 * 24 * time.Hour

// Kind says what is in an archive.
type Kind string

// The values of [Kind].
const (
	Database Kind = "database" // database and blobs
	Keystore Kind = "keystore" // wrapped keys and sealed credentials
)

// Engine is what wrote the database of an archive.
type Engine string

// The values of [Engine].
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Names of the members of an archive.
const (
	headName     = "BACKUP"
	sumsName     = "SHA256SUMS"
	manifestName = "MANIFEST"
	dumpName     = "database.pgdump"
	kdfName      = "passphrase.kdf"
	blobsName    = "blobs"
)

// MaxParameters is the most bytes of a passphrase's parameters.
const MaxParameters = 1024

// maxManifest bounds BACKUP and MANIFEST, in bytes.
const maxManifest = 64 << 10

// Head is what is known of an archive before its content.
type Head struct {
	Format   int       `json:"format"`
	Kind     Kind      `json:"kind"`
	Version  string    `json:"version"` // of the program that wrote it
	Engine   Engine    `json:"engine"`
	Schema   int64     `json:"schema"`              // number of the newest migration
	Schemas  string    `json:"pg_schema,omitempty"` // PostgreSQL's schema that holds the tables
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // a keystore's; zero: never
	RootKey  string    `json:"root_key"`         // for people: that it is not here
	Contents string    `json:"contents"`         // for people
}

// Manifest is the end of an archive: its head with totals.
type Manifest struct {
	Head
	Totals  map[string]int64 `json:"totals,omitempty"` // rows by what they are
	Blobs   int64            `json:"blobs"`
	Expired int64            `json:"expired_blobs"` // named by rows, gone while they were copied: their day was over
	Missing int64            `json:"missing_blobs"` // named by rows and not there, though their day is not over
	Bytes   int64            `json:"bytes"`         // of all parts
	Sums    string           `json:"sums"`          // SHA-256 of SHA256SUMS, in hex
}

// Errors of this package, to be compared with errors.Is.
var (
	// ErrDamaged: the archive is not what was written, or its end is missing.
	ErrDamaged = errors.New("the archive is damaged or incomplete: nothing was restored; use another copy")
	// ErrKind: it is the other archive.
	ErrKind = errors.New("it is another kind of archive")
	// ErrNewer: a newer release wrote it.
	ErrNewer = errors.New("a newer release wrote this archive")
	// ErrExpired: a keystore archive whose life is over.
	ErrExpired = errors.New("the life of this keystore archive is over")
	// ErrExists: there is something already.
	ErrExists = errors.New("is there already")
	// ErrRunning: the platform runs.
	ErrRunning = errors.New("the platform is running")
)

func marshal(v any) []byte {
	b, _ := json.MarshalIndent(v, "", "  ") // texts, numbers and times always encode
	return append(b, '\n')
}

func (h *Head) describe() {
	h.RootKey = "not in this archive, and nothing here opens without it: keep a copy of it apart from all archives"
	switch h.Kind {
	case Database:
		h.Contents = "database and blobs of Bulkhead; ciphertext of customers and plain metadata. The keys are in a keystore archive"
	case Keystore:
		h.Contents = "keystore of Bulkhead; wrapped keys and sealed credentials. Destroy this archive when it expires: until then it can bring back what was deleted"
	}
}

// check refuses an archive that is not wanted or not known.
func (h *Head) check(want Kind, schema int64) error {
	switch {
	case h.Format > Format:
		return fmt.Errorf("%w (format %d, this release knows %d): restore with release %s or later", ErrNewer, h.Format, Format, h.Version)
	case h.Format != Format || h.Kind != Database && h.Kind != Keystore || h.Engine != SQLite && h.Engine != Postgres:
		return fmt.Errorf("%w: unknown format", ErrDamaged)
	case h.Kind != want && h.Kind == Keystore:
		return fmt.Errorf("%w: this is a keystore; restore it with --keystore", ErrKind)
	case h.Kind != want:
		return fmt.Errorf("%w: this is a database; restore it without --keystore", ErrKind)
	case h.Schema > schema:
		return fmt.Errorf("%w (schema %d, this release knows %d): restore with release %s or later", ErrNewer, h.Schema, schema, h.Version)
	}
	return nil
}
