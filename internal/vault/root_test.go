package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

func TestWrongRootChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	if err := w.vault.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "keystore.db")
	sum := func() [32]byte {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b)
	}
	before, right := sum(), w.root
	n := &attempts{t: t, what: "wrong root key"}
	for bit := range 8 * RootSize {
		w.root = bytes.Clone(right)
		w.root[bit/8] ^= 1 << (bit % 8)
		v, err := w.tryOpen()
		n.refused("one bit of the root key changed", err)
		if err == nil {
			_ = v.Close()
		} else if !errors.Is(err, ErrWrongRoot) {
			t.Fatalf("%v, want ErrWrongRoot", err)
		}
	}
	for _, size := range []int{0, 16, 31, 33, 64} {
		w.root = make([]byte, size)
		_, err := w.tryOpen()
		n.refused("a root key of another length", err)
	}
	if sum() != before {
		t.Error("a wrong root key changed the keystore")
	}
	w.root = right
	w.open()
	w.lease(w.dispatch(a))
	n.report(260)
}

func TestRootRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	authority := w.vault.Authority()
	before := w.storedValues()
	next := bytes.Repeat([]byte{9}, RootSize)
	if err := w.vault.RotateRoot(t.Context(), secret.New(next)); err != nil {
		t.Fatal(err)
	}
	w.lease(w.dispatch(a))
	w.tenant("made after the rotation")
	n := &attempts{t: t, what: "root rotation"}
	for i, s := range w.storedValues() {
		if i < 6 && bytes.Equal(s.sealed, before[i].sealed) { // root check, four seeds, first customer key
			t.Errorf("%s was not wrapped again", s.name)
		}
		if i < 6 {
			n.refused(before[i].name+" of the old root key", s.open(before[i].sealed))
		}
	}
	if err := w.vault.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := w.tryOpen()
	n.refused("the old root key", err)
	w.root = next
	w.open()
	if w.vault.Authority() != authority {
		t.Error("the rotation changed the authority")
	}
	w.lease(w.dispatch(a))
	mustVerify(t, w)
	n.report(7)
}

func TestOneVaultAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.tryOpen(); !errors.Is(err, keystore.ErrInUse) {
		t.Errorf("a second vault on the same keystore: %v, want ErrInUse", err)
	}
}

func TestCloseWipesKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := secret.New(bytes.Repeat([]byte{3}, RootSize))
	v, err := Open(t.Context(), Config{Dir: t.TempDir() + "/k", Temporary: true, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(root.Reveal(), make([]byte, RootSize)) {
		t.Error("Open left the root key in memory")
	}
	blind, head := w.vault.blind, w.vault.root.head
	for _, x := range []*Vault{v, w.vault} {
		if err := errors.Join(x.Close(), x.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{"blind-index key": blind, "head key": head} {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("Close left the %s in memory", name)
		}
	}
	if seed, err := w.vault.operator.Seed(); err == nil && len(seed) != 0 {
		t.Error("Close left the operator's seed in memory")
	}
}

func TestRootFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "root.key")
	made, err := LoadRoot(RootOptions{File: path})
	if err != nil || made.Len() != RootSize {
		t.Fatalf("%d bytes, %v", made.Len(), err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	again, err := LoadRoot(RootOptions{File: path})
	if err != nil || !again.Equal(made) {
		t.Errorf("the file gives another key: %v", err)
	}
	n := &attempts{t: t, what: "root file"}
	for _, mode := range []os.FileMode{0o604, 0o640, 0o660, 0o666, 0o700, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadRoot(RootOptions{File: path})
		n.refused("mode "+mode.String(), err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, make([]byte, 31), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = LoadRoot(RootOptions{File: path})
	n.refused("31 bytes", err)
	_, err = LoadRoot(RootOptions{File: filepath.Dir(path)})
	n.refused("a directory", err)
	_, err = LoadRoot(RootOptions{})
	n.refused("nothing", err)
	_, err = LoadRoot(RootOptions{File: path, Environment: "X"})
	n.refused("two ways at once", err)
	n.report(10)
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.kdf")
	load := func(p string) (secret.Value, error) {
		return LoadRoot(RootOptions{Passphrase: secret.New([]byte(p)), ParameterFile: path})
	}
	made, err := load("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	again, err := load("correct horse battery")
	if err != nil || !again.Equal(made) {
		t.Errorf("the same passphrase gives another key: %v", err)
	}
	other, err := load("correct horse batterz")
	if err != nil || other.Equal(made) {
		t.Errorf("another passphrase gives the same key: %v", err)
	}
	good, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(good), "argon2id v=19 m=65536 t=3 p=4 salt=") {
		t.Fatalf("parameters %q, %v", good, err)
	}
	n := &attempts{t: t, what: "passphrase"}
	_, err = load("short")
	n.refused("a short passphrase", err)
	_, err = LoadRoot(RootOptions{Passphrase: secret.New([]byte("correct horse battery"))})
	n.refused("no file for the parameters", err)
	for _, bad := range []string{
		"", "argon2id", strings.Replace(string(good), "m=65536", "m=8", 1), strings.Replace(string(good), "m=65536", "m=4294967295", 1),
		strings.Replace(string(good), "t=3", "t=1", 1), strings.Replace(string(good), "t=3", "t=1000000", 1), strings.Replace(string(good), "p=4", "p=0", 1),
		strings.Replace(string(good), "argon2id", "argon2i", 1), string(good[:len(good)-8]) + "\n", strings.Repeat("x", 5000),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := load("correct horse battery")
		n.refused("parameters "+bad[:min(len(bad), 40)], err)
	}
	n.report(12)
}

const helperVariable = "BULKHEAD_TEST_ROOT_KEY"

// TestEnvironmentHelper is the process of [TestEnvironmentIsScrubbed].
func TestEnvironmentHelper(t *testing.T) {
	if os.Getenv("BULKHEAD_TEST_HELPER") == "" {
		t.Skip("only as a child process")
	}
	v, err := LoadRoot(RootOptions{Environment: helperVariable})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("sum %x", sha256.Sum256(v.Reveal()))
	environ, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		t.Skip("no /proc")
	}
	t.Logf("environ %q", environ)
	if _, set := os.LookupEnv(helperVariable); set {
		t.Error("the variable is still set")
	}
}

func TestEnvironmentIsScrubbed(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0xa5, 0x17}, RootSize/2)
	sum := sha256.Sum256(key)
	for name, text := range map[string]string{"hex": hex.EncodeToString(key), "base64": base64.StdEncoding.EncodeToString(key)} {
		c := exec.Command(os.Args[0], "-test.run=^TestEnvironmentHelper$", "-test.v")
		c.Env = append(os.Environ(), "BULKHEAD_TEST_HELPER=1", helperVariable+"="+text, "BULKHEAD_AFTER=kept")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if !strings.Contains(string(out), hex.EncodeToString(sum[:])) {
			t.Errorf("%s: another key was read:\n%s", name, out)
		}
		if strings.Contains(string(out), text) || !strings.Contains(string(out), "BULKHEAD_AFTER=kept") {
			t.Errorf("%s: /proc/self/environ still shows the key, or no longer the rest", name)
		}
	}
	if _, err := LoadRoot(RootOptions{Environment: "BULKHEAD_NOT_SET"}); err == nil {
		t.Error("a variable that is not set gives a key")
	}
}
