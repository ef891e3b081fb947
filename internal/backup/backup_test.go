package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

var postgres testkit.Postgres

func TestMain(m *testing.M) {
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// both runs a test with the database on each engine; url is empty for SQLite.
func both(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, postgres.Database(t))
	})
}

// server is the directory of a server that runs.
type server struct {
	t        *testing.T
	dir, url string
	db       *store.Store
	blobs    *blob.Store
	org      id.Org
	customer id.Customer
}

func newServer(t *testing.T, url string) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "server"), url: url, org: id.NewOrg(time.Now()), customer: id.NewCustomer(time.Now())}
	if err := os.MkdirAll(filepath.Join(s.dir, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.open()
	s.write(func(tx *store.Tx) error {
		if err := tx.System().PutOrganization(&store.Organization{ID: s.org, Name: "acme"}, time.Now()); err != nil {
			return err
		}
		_, err := tx.System().PutCustomer(&store.CustomerRow{ID: s.customer, Organization: s.org, ExternalID: "c"}, time.Now())
		return err
	})
	return s
}

func (s *server) open() {
	s.t.Helper()
	o := store.Options{URL: s.url}
	if s.url == "" {
		o.Dir = s.dir
	}
	var err error
	if s.db, err = store.Open(context.Background(), o); err != nil {
		s.t.Fatal(err)
	}
	if s.blobs, err = blob.Open(filepath.Join(s.dir, "blobs")); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.close)
}

func (s *server) close() { _, _ = s.db.Close(), s.blobs.Close() }

func (s *server) write(fn func(*store.Tx) error) {
	s.t.Helper()
	if err := s.db.Write(context.Background(), fn); err != nil {
		s.t.Error(err)
	}
}

// put makes a blob of a day with its row, in the order of the engine.
func (s *server) put(day lease.Day, content []byte) id.Blob {
	s.t.Helper()
	b := id.NewBlob(time.Now())
	size, err := s.blobs.Append(uint32(day), b, 0, true, content)
	if err != nil {
		s.t.Error(err)
		return b
	}
	s.write(func(tx *store.Tx) error {
		return tx.Customer(s.customer).PutBlob(&store.Blob{ID: b, Day: uint32(day), Size: size.Bytes, Chunks: size.Chunks}, time.Now())
	})
	return b
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (s *server) backup(to string, i *age.X25519Identity) *Manifest {
	s.t.Helper()
	var m *Manifest
	err := Create(to, []age.Recipient{i.Recipient()}, Keep, func(w io.Writer) (err error) {
		m, err = Read(context.Background(), w, Source{Kind: Database, Dir: s.dir, URL: s.url, Version: "test", Now: time.Now()})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// reset empties the database of a server that was closed, as a new machine has it.
func (s *server) reset() {
	s.t.Helper()
	if s.url == "" {
		return
	}
	name := strings.SplitN(strings.TrimPrefix(s.url, "postgres://"), ":", 2)[0]
	if err := postgres.SQL("DROP SCHEMA "+name+" CASCADE", "CREATE SCHEMA AUTHORIZATION "+name); err != nil {
		s.t.Fatal(err)
	}
}

func today() lease.Day { return lease.DayOf(time.Now()) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestWhatIsRestoredIsWhatWasThere(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, url string) {
		s := newServer(t, url)
		content := random(300_000)
		b := s.put(today()+3, content)
		orphan := id.NewBlob(time.Now())
		if _, err := s.blobs.Append(uint32(today()+3), orphan, 0, true, content); err != nil {
			t.Fatal(err)
		}
		file, i := filepath.Join(t.TempDir(), "a.age"), newIdentity(t)
		m := s.backup(file, i)
		if m.Blobs != 1 || m.Missing != 0 || m.Totals["customers"] != 1 || m.Schema == 0 {
			t.Errorf("manifest %+v", m)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("archive has mode %v, %v", info.Mode(), err)
		}
		s.put(today()+3, content) // after the backup
		s.close()
		s.reset()
		s.dir = filepath.Join(t.TempDir(), "state", "server")
		done, err := restore(file, i, Target{Kind: Database, Dir: s.dir, URL: url, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if done.Aside != "" || done.Blobs != 1 {
			t.Errorf("restored %+v", done)
		}
		s.open()
		row, err := s.db.Customer(t.Context(), s.customer).Blob(b)
		if err != nil {
			t.Fatal(err)
		}
		got, last, err := s.blobs.Read(row.Day, b, 0)
		if err != nil || !last || !bytes.Equal(got, content) {
			t.Errorf("blob of %d bytes, %v", len(got), err)
		}
		if _, _, err := s.blobs.Read(row.Day, orphan, 0); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("a blob without a row: %v", err)
		}
		s.put(today(), content) // and it goes on
	})
}

func restore(file string, i age.Identity, t Target) (*Restored, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Restore(context.Background(), f, []age.Identity{i}, t)
}

// Every blob of a row is in the archive, whatever is written meanwhile.
func TestABackupWhileWriting(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, url string) {
		s := newServer(t, url)
		stop, written := make(chan struct{}), make(chan struct{}, 1)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						s.put(today()+1, random(2000))
						select {
						case written <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		i := newIdentity(t)
		for n := range 4 {
			<-written
			file := filepath.Join(t.TempDir(), fmt.Sprint(n))
			if m := s.backup(file, i); m.Missing != 0 || m.Blobs == 0 {
				t.Errorf("%d blobs, %d missing", m.Blobs, m.Missing)
			}
			if url != "" {
				continue // one database, one restore
			}
			dir := filepath.Join(t.TempDir(), "server")
			done, err := restore(file, i, Target{Kind: Database, Dir: dir, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			image, err := store.ImageSQLite(t.Context(), dir, filepath.Join(t.TempDir(), "copy.db"))
			if err != nil {
				t.Fatal(err)
			}
			rows := int64(0)
			err = image.Blobs(t.Context(), func(day uint32, b id.Blob) error {
				rows++
				_, err := os.Stat(filepath.Join(dir, "blobs", filepath.FromSlash(blob.Path(day, b))))
				return err
			})
			if err := errors.Join(err, image.Close()); err != nil || rows != done.Blobs {
				t.Errorf("%d rows, %d blobs, %v", rows, done.Blobs, err)
			}
		}
		close(stop)
		all.Wait()
	})
}

// A flipped byte anywhere is refused, and so is an archive that was cut or added to;
// nothing is put in place.
func TestEveryFlippedByteIsRefused(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, url string) {
		s := newServer(t, url)
		for range 3 {
			s.put(today()+3, random(90_000))
		}
		file, i := filepath.Join(t.TempDir(), "a.age"), newIdentity(t)
		s.backup(file, i)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		s.reset()
		state := t.TempDir()
		target := Target{Kind: Database, Dir: filepath.Join(state, "server"), URL: url, Now: time.Now()}
		try := func(what string, content []byte) {
			t.Helper()
			_, err := Restore(t.Context(), bytes.NewReader(content), []age.Identity{i}, target)
			if err == nil {
				t.Errorf("%s: it was restored", what)
			}
			left, err := os.ReadDir(state)
			if len(left) > 0 || err != nil {
				t.Errorf("%s: left %v, %v", what, left, err)
			}
		}
		positions := flips(good)
		for _, at := range positions {
			content := bytes.Clone(good)
			content[at] ^= 1 << mathrand.IntN(8)
			try(fmt.Sprintf("byte %d of %d", at, len(good)), content)
		}
		for _, n := range []int{0, 1, 100, len(good) / 2, len(good) - 16, len(good) - 1} {
			try(fmt.Sprintf("the first %d bytes of %d", n, len(good)), good[:n])
		}
		try("a byte more", append(bytes.Clone(good), 0))
		try("twice", append(bytes.Clone(good), good...))
		t.Logf("%d positions of %d bytes", len(positions), len(good))
		if _, err := Restore(t.Context(), bytes.NewReader(good), []age.Identity{i}, target); err != nil {
			t.Errorf("unchanged: %v", err)
		}
	})
}

// flips are every byte of the header, those around each chunk's boundary, the last, and
// random ones.
func flips(archive []byte) (at []int) {
	end := bytes.Index(archive, []byte("\n--- ")) // the MAC's line ends the header
	end += bytes.IndexByte(archive[end+1:], '\n') + 2
	for i := range end + 16 { // with the nonce
		at = append(at, i)
	}
	const chunk = 64<<10 + 16
	for edge := end + 16; edge < len(archive); edge += chunk {
		for d := -17; d <= 17; d += 17 {
			if i := edge + d; i < len(archive) {
				at = append(at, i)
			}
		}
		at = append(at, edge-1, edge)
	}
	for range 200 {
		at = append(at, mathrand.IntN(len(archive)))
	}
	return append(at, len(archive)-1, len(archive)-17)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	file, i := filepath.Join(t.TempDir(), "a.age"), newIdentity(t)
	s.backup(file, i)
	if err := Create(file, []age.Recipient{i.Recipient()}, Keep, func(io.Writer) error { t.Error("it was written"); return nil }); !errors.Is(err, ErrExists) {
		t.Errorf("over a file: %v", err)
	}
	broken := errors.New("broken")
	if err := Create(file, []age.Recipient{i.Recipient()}, Replace, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a backup that failed: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); len(left) != 1 || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, scratchPattern)); len(left) > 0 || err != nil {
		t.Errorf("copies left: %v, %v", left, err)
	}
	if _, err := restore(file, newIdentity(t), Target{Kind: Database, Dir: t.TempDir() + "/server", Now: time.Now()}); err == nil || !strings.Contains(err.Error(), "identity") {
		t.Errorf("another identity: %v", err)
	}
	if _, err := restore(file, i, Target{Kind: Keystore, Dir: t.TempDir() + "/vault", Now: time.Now()}); !errors.Is(err, ErrKind) {
		t.Errorf("as a keystore: %v", err)
	}
	if _, err := restore(file, i, Target{Kind: Database, Dir: s.dir, Now: time.Now()}); !errors.Is(err, ErrExists) {
		t.Errorf("over what is there: %v", err)
	}
	s.close()
	done, err := restore(file, i, Target{Kind: Database, Dir: s.dir, Replace: Replace, Now: time.Now()})
	if err != nil || done.Aside == "" {
		t.Fatalf("replaced: %+v, %v", done, err)
	}
	if _, err := os.Stat(filepath.Join(done.Aside, store.FileName)); err != nil {
		t.Error(err)
	}
}

// What a newer release wrote is refused with what to do, and so is an archive with parts
// that no release writes.
func TestForeignArchives(t *testing.T) {
	t.Parallel()
	i := newIdentity(t)
	schema, err := store.Schema()
	if err != nil {
		t.Fatal(err)
	}
	head := Head{Format: Format, Kind: Database, Engine: SQLite, Schema: schema, Version: "v9.9", Created: time.Now().UTC().Truncate(time.Second)}
	cases := map[string]struct {
		head  func(*Head)
		parts []string
		want  error
	}{
		"good":           {func(*Head) {}, []string{store.FileName}, nil},
		"newer schema":   {func(h *Head) { h.Schema++ }, []string{store.FileName}, ErrNewer},
		"newer format":   {func(h *Head) { h.Format++ }, []string{store.FileName}, ErrNewer},
		"postgres":       {func(h *Head) { h.Engine = Postgres }, []string{dumpName}, ErrKind},
		"no database":    {func(*Head) {}, nil, ErrDamaged},
		"two databases":  {func(*Head) {}, []string{store.FileName, store.FileName}, ErrDamaged},
		"outside":        {func(*Head) {}, []string{store.FileName, "blobs/1/../../../x"}, ErrDamaged},
		"absolute":       {func(*Head) {}, []string{"/etc/passwd"}, ErrDamaged},
		"unknown":        {func(*Head) {}, []string{store.FileName, "blobs/1/x"}, ErrDamaged},
		"another day":    {func(*Head) {}, []string{store.FileName, "blobs/01/" + id.NewBlob(time.Now()).String()}, ErrDamaged},
		"keystore in it": {func(*Head) {}, []string{store.FileName, "keystore.db"}, ErrDamaged},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sealed bytes.Buffer
			w, err := age.Encrypt(&sealed, i.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			a, err := newArchive(w, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			a.Head = head
			c.head(&a.Head)
			err = a.head()
			for _, p := range c.parts {
				err = errors.Join(err, a.part(p, 1, strings.NewReader("x")))
				if strings.HasPrefix(p, "blobs/") {
					a.Blobs++
				}
			}
			if err := errors.Join(err, a.end(), w.Close()); err != nil {
				t.Fatal(err)
			}
			_, err = Restore(t.Context(), &sealed, []age.Identity{i}, Target{Kind: Database, Dir: t.TempDir() + "/server", Now: time.Now()})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if errors.Is(err, ErrNewer) && !strings.Contains(err.Error(), "v9.9") {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// A member with holes has a few bytes in an archive and fills the disk that it is extracted to.
func TestSparseMembersAreRefused(t *testing.T) {
	t.Parallel()
	record := func(k, v string) string {
		for n := 0; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
				return s
			}
		}
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", headName) + record("GNU.sparse.realsize", "1024")
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	holes := "0\n" + strings.Repeat("\x00", 510)
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "pax", Size: int64(len(pax)), Mode: 0o600, Format: tar.FormatUSTAR}), second(w.Write([]byte(pax))),
		w.WriteHeader(&tar.Header{Name: "data", Size: int64(len(holes)), Mode: 0o600, Format: tar.FormatUSTAR}), second(w.Write([]byte(holes))), w.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	b := raw.Bytes()
	b[156] = tar.TypeXHeader
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	h, err := tar.NewReader(bytes.NewReader(b)).Next()
	if err != nil || h.Size != 1024 || h.Typeflag != tar.TypeReg {
		t.Fatalf("the test makes no sparse member: %+v, %v", h, err)
	}
	if _, err := readSmall(tar.NewReader(bytes.NewReader(b)), headName); !errors.Is(err, ErrDamaged) {
		t.Errorf("a sparse head: %v", err)
	}
	x := &extractor{lines: sha256.New()}
	if err := x.all(tar.NewReader(bytes.NewReader(b)), &Head{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a sparse part: %v", err)
	}
}

func second(_ int, err error) error { return err }
