package vault

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// RootOptions say where the root key comes from. Exactly one of File, Passphrase
// and Environment must be set.
type RootOptions struct {
	// File is the path of the root key, made with mode 0600 when it does not exist.
	File string
	// Passphrase is turned into the root key by Argon2id (RFC 9106) with the
	// parameters kept in ParameterFile, which hold no secret and are made at first use.
	Passphrase    secret.Value
	ParameterFile string
	// Environment is the name of a variable that holds the root key in hex or base64.
	// The variable is removed, from the memory of the process too where that can be done.
	Environment string
}

const (
	// MinPassphrase is the least length of a passphrase in bytes.
	MinPassphrase = 12
	rootFileMode  = 0o600
	maxParameters = 1024
)

// errRootOptions is wrapped by errors about the options themselves.
var errRootOptions = errors.New("give the root key as a file, a passphrase or an environment variable, and in one way only")

// LoadRoot reads or makes the root key. It is for the supervisor, which passes the
// key to the vault by pipe and then destroys it.
func LoadRoot(o RootOptions) (secret.Value, error) {
	ways := 0
	for _, set := range []bool{o.File != "", o.Passphrase.Len() > 0, o.Environment != ""} {
		if set {
			ways++
		}
	}
	var v secret.Value
	err := errRootOptions
	switch {
	case ways != 1:
	case o.File != "":
		v, err = rootFromFile(o.File)
	case o.Environment != "":
		v, err = rootFromEnvironment(o.Environment)
	default:
		v, err = rootFromPassphrase(o.Passphrase, o.ParameterFile)
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("load root key: %w", err)
	}
	return v, nil
}

func rootFromFile(path string) (secret.Value, error) {
	b, err := readPrivate(path, RootSize)
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, RootSize)
		_, _ = rand.Read(b) // never fails since Go 1.24
		err = writePrivate(path, b)
	}
	if err != nil {
		return secret.Value{}, err
	}
	defer clear(b)
	if len(b) != RootSize {
		return secret.Value{}, fmt.Errorf("%s holds %d bytes, a root key has %d", path, len(b), RootSize)
	}
	return secret.New(b), nil
}

// readPrivate reads a file of at most limit bytes, and one byte more to tell that it
// is longer. It refuses what others can read or write.
func readPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&^rootFileMode != 0 {
		return nil, fmt.Errorf("others may read %s (mode %o): if nobody did, run chmod 600 on it", path, st.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// writePrivate makes a file that did not exist, whole or not at all.
func writePrivate(path string, b []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".root-") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path) // fails when another process made it meanwhile
}

func rootFromEnvironment(name string) (secret.Value, error) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return secret.Value{}, fmt.Errorf("the environment variable %s is not set", name)
	}
	if err := errors.Join(os.Unsetenv(name), scrubEnvironment(name)); err != nil {
		return secret.Value{}, fmt.Errorf("remove the environment variable %s: %w", name, err)
	}
	v, err := ParseRoot(secret.New([]byte(text)))
	if err != nil {
		return secret.Value{}, fmt.Errorf("the environment variable %s: %w", name, err)
	}
	return v, nil
}

// errRootText is a root key that cannot be read.
var errRootText = fmt.Errorf("the root key is not %d bytes in hex or base64", RootSize)

// ParseRoot reads a root key that was written in hex or base64.
func ParseRoot(given secret.Value) (secret.Value, error) {
	text := strings.TrimSpace(string(given.Reveal()))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawURLEncoding.DecodeString} {
		if b, err := decode(text); err == nil && len(b) == RootSize {
			defer clear(b)
			return secret.New(b), nil
		}
	}
	return secret.Value{}, errRootText
}

// kdf are the parameters of Argon2id. Memory is in KiB.
type kdf struct {
	memory, passes uint32
	lanes          uint8
	salt           []byte
}

// The parameters of new files (RFC 9106 section 4, second choice), and the bounds of
// those that are accepted: a file that asks for less was not written by us, one that
// asks for more would stop the machine.
const (
	kdfMemory, kdfPasses, kdfLanes = 64 << 10, 3, 4
	minKDFMemory, minKDFPasses     = 19 << 10, 2
	maxKDFMemory, maxKDFPasses     = 1 << 20, 16
	kdfSalt                        = 16
	kdfFormat                      = "argon2id v=19 m=%d t=%d p=%d salt=%x\n"
)

func rootFromPassphrase(p secret.Value, path string) (secret.Value, error) {
	if p.Len() < MinPassphrase {
		return secret.Value{}, fmt.Errorf("the passphrase has under %d bytes", MinPassphrase)
	}
	if path == "" {
		return secret.Value{}, errors.New("no file for the passphrase's parameters")
	}
	k, err := readKDF(path)
	if errors.Is(err, fs.ErrNotExist) {
		k = kdf{kdfMemory, kdfPasses, kdfLanes, make([]byte, kdfSalt)}
		_, _ = rand.Read(k.salt) // never fails since Go 1.24
		err = writePrivate(path, fmt.Appendf(nil, kdfFormat, k.memory, k.passes, k.lanes, k.salt))
	}
	if err != nil {
		return secret.Value{}, err
	}
	b := argon2.IDKey(p.Reveal(), k.salt, k.passes, k.memory, k.lanes, RootSize)
	defer clear(b)
	return secret.New(b), nil
}

func readKDF(path string) (k kdf, err error) {
	b, err := readPrivate(path, maxParameters)
	if err != nil {
		return k, err
	}
	n, err := fmt.Sscanf(string(b), kdfFormat, &k.memory, &k.passes, &k.lanes, &k.salt)
	if err != nil || n != 4 || len(k.salt) != kdfSalt || k.lanes == 0 ||
		k.memory < minKDFMemory || k.memory > maxKDFMemory || k.passes < minKDFPasses || k.passes > maxKDFPasses {
		return k, fmt.Errorf("%s does not hold parameters of a passphrase: restore it from a backup", path)
	}
	return k, nil
}
