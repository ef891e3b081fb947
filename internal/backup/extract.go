package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of what is extracted.
const (
	maxParts    = 1 << 32
	maxDatabase = 1 << 44
	maxBlob     = blob.MaxSize + 4*blob.MaxChunks + 64 // with its table of chunks
)

// extractor checks an archive while it writes its parts into a directory.
type extractor struct {
	Manifest
	root  *os.Root
	parts uint64
	main  int       // databases, dumps and keystores: exactly one
	lines hash.Hash // of the sums as they should be
	day   string    // the directory of blobs made last
}

// extract decrypts an archive into an empty directory and checks all of it. The directory
// is of no use when it fails.
func extract(r io.Reader, with []age.Identity, dir string, accept func(*Head) error) (*Manifest, error) {
	plain, err := age.Decrypt(r, with...)
	if none, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, fmt.Errorf("decrypt archive: no identity given opens it, or its header is damaged: %w", none)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt archive: %w: %w", ErrDamaged, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("extract archive: %w", err)
	}
	defer root.Close()
	x := &extractor{root: root, lines: sha256.New()}
	if err := x.run(plain, accept); err != nil {
		return nil, fmt.Errorf("extract archive: %w", err)
	}
	unix.Sync() // all files at once: there may be a million of them
	return &x.Manifest, nil
}

func (x *extractor) run(plain io.Reader, accept func(*Head) error) error {
	t := tar.NewReader(plain)
	head, err := readSmall(t, headName)
	if err != nil {
		return err
	}
	var first Head
	if err := json.Unmarshal(head, &first); err != nil {
		return damage(err)
	}
	if err := accept(&first); err != nil {
		return err
	}
	if err := x.all(t, &first); err != nil {
		return err
	}
	if !bytes.Equal(marshal(&x.Head), head) {
		return fmt.Errorf("%w: its head and its end disagree", ErrDamaged)
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	// Reading to the end is what makes age check the last chunk.
	rest, err := io.Copy(onlyZero{}, plain)
	if err != nil {
		return damage(err)
	}
	if rest > 1<<20 {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	return nil
}

// onlyZero takes the padding of a tar stream.
type onlyZero struct{}

// Write implements io.Writer.
func (onlyZero) Write(b []byte) (int, error) {
	for _, c := range b {
		if c != 0 {
			return 0, errors.New("something follows its end")
		}
	}
	return len(b), nil
}

// damage is an error of reading the archive; one of the disk that is written keeps its own words.
func damage(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// all extracts the parts, up to and with the manifest.
func (x *extractor) all(t *tar.Reader, first *Head) error {
	for {
		h, err := t.Next()
		if err != nil {
			return damage(err)
		}
		if h.Typeflag != tar.TypeReg || sparse(h) {
			return fmt.Errorf("%w: %q is no file", ErrDamaged, h.Name)
		}
		if h.Name == sumsName {
			return x.finish(t)
		}
		if x.parts++; x.parts > maxParts {
			return fmt.Errorf("%w: too many parts", ErrDamaged)
		}
		limit, err := x.place(h.Name, first)
		if err != nil {
			return err
		}
		if h.Size > limit {
			return fmt.Errorf("%w: %s is too large", ErrDamaged, h.Name)
		}
		if err := x.part(t, h.Name); err != nil {
			return err
		}
	}
}

// place checks the name of a part and makes its directory. Whatever is not expected is refused.
func (x *extractor) place(name string, first *Head) (limit int64, err error) {
	switch {
	case first.Kind == Keystore && name == keystore.FileName,
		first.Kind == Database && first.Engine == SQLite && name == store.FileName,
		first.Kind == Database && first.Engine == Postgres && name == dumpName:
		if x.main++; x.main > 1 {
			break
		}
		return maxDatabase, nil
	case first.Kind == Keystore && x.main == 1 && name == kdfName:
		return MaxParameters, nil
	case first.Kind == Database && x.main == 1:
		day, file, ok := blobName(name)
		if !ok {
			break
		}
		dir := path.Join(blobsName, strconv.FormatUint(uint64(day), 10))
		if dir != x.day {
			if err := x.root.MkdirAll(dir, 0o700); err != nil {
				return 0, err
			}
			x.day = dir
		}
		if name != blobsName+"/"+blob.Path(day, file) {
			break // another spelling of the same name
		}
		return maxBlob, nil
	}
	return 0, fmt.Errorf("%w: unexpected part %q", ErrDamaged, name)
}

func blobName(name string) (day uint32, b id.Blob, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != blobsName {
		return 0, b, false
	}
	d, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return 0, b, false
	}
	if err := b.UnmarshalText([]byte(parts[2])); err != nil {
		return 0, b, false
	}
	return uint32(d), b, true
}

func (x *extractor) part(t *tar.Reader, name string) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), t)
	x.Bytes += n
	if err := errors.Join(err, f.Close()); err != nil {
		return damage(err)
	}
	if strings.HasPrefix(name, blobsName+"/") {
		x.Blobs++
	}
	_, err = x.lines.Write(sumLine(h, name))
	return err
}

// finish checks the sums, of which the stream is at the content, and the manifest.
func (x *extractor) finish(t *tar.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, t); err != nil {
		return damage(err)
	}
	want := hex.EncodeToString(x.lines.Sum(nil))
	if hex.EncodeToString(h.Sum(nil)) != want {
		return fmt.Errorf("%w: its parts are not those that were written", ErrDamaged)
	}
	b, err := readSmall(t, manifestName)
	if err != nil {
		return err
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return damage(err)
	}
	if m.Sums != want || m.Bytes != x.Bytes || m.Blobs != x.Blobs || x.main != 1 {
		return fmt.Errorf("%w: its parts are not those that were written", ErrDamaged)
	}
	x.Manifest = m
	return nil
}

// sparse reports whether a member is a file with holes, of which a few bytes would fill a
// disk: no archive of ours has one.
func sparse(h *tar.Header) bool {
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// readSmall reads the next member, which must have a name.
func readSmall(t *tar.Reader, name string) ([]byte, error) {
	h, err := t.Next()
	if err != nil {
		return nil, damage(err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg || sparse(h) || h.Size > maxManifest {
		return nil, fmt.Errorf("%w: %q instead of %s", ErrDamaged, h.Name, name)
	}
	b, err := io.ReadAll(t)
	if err != nil {
		return nil, damage(err)
	}
	return b, nil
}
