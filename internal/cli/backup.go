package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/bulkheadhq/bulkhead/internal/backup"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// maxKeyFile bounds files of recipients and identities, in bytes.
const maxKeyFile = 1 << 20

type backupCommand struct {
	State          string        `env:"BULKHEAD_STATE" placeholder:"DIR" help:"State directory of the platform, which may run. Default: that of up."`
	To             string        `required:"" placeholder:"FILE" help:"Archive to write."`
	Recipient      []string      `sep:"," placeholder:"age1…" help:"Who can decrypt it (age-keygen makes a pair); repeatable."`
	RecipientsFile []string      `placeholder:"FILE" help:"File with a recipient on each line; repeatable."`
	Keystore       bool          `help:"Write the keystore instead of database and blobs. It belongs elsewhere, and has a short life."`
	Life           time.Duration `default:"168h" help:"How long a keystore archive may be restored: for as long, it can bring back what is deleted."`
	Database       string        `env:"BULKHEAD_DATABASE" placeholder:"URL" help:"The PostgreSQL database of the platform; without it, the SQLite database in the state directory."`
	Force          bool          `help:"Overwrite the file."`
	JSON           bool          `name:"json" help:"Print JSON."`
}

// Run implements the command.
func (b *backupCommand) Run(c *console) error {
	to, err := readRecipients(b.Recipient, b.RecipientsFile)
	if err != nil {
		return err
	}
	if b.Life <= 0 {
		return usage("--life %v: want a time such as 168h", b.Life)
	}
	if b.State, err = stateDirectory(b.State, usualState); err != nil {
		return err
	}
	version, _ := programVersion()
	source := backup.Source{Kind: backup.Database, Dir: filepath.Join(b.State, "server"), URL: b.Database, Version: version, Now: now()}
	if b.Keystore {
		source.Kind, source.Dir, source.URL, source.Life = backup.Keystore, filepath.Join(b.State, "vault"), "", b.Life
		if source.Parameters, err = passphraseParameters(b.State); err != nil {
			return err
		}
	}
	if _, err := os.Stat(source.Dir); err != nil {
		return usage("%s is not the state directory of a platform: %w", b.State, err)
	}
	var m *backup.Manifest
	err = backup.Create(b.To, to, backup.Overwrite(b.Force), func(w io.Writer) (err error) {
		m, err = backup.Read(c.ctx, w, source)
		return err
	})
	if errors.Is(err, backup.ErrExists) {
		return usage("%w: name another file, or --force to overwrite it", err)
	}
	if errors.Is(err, store.ErrNoDatabase) && b.Database == "" {
		return usage("%w: if it is in PostgreSQL, name it with --database or BULKHEAD_DATABASE", err)
	}
	if err != nil {
		return err
	}
	if b.JSON {
		return writeJSON(c.Out, m)
	}
	fmt.Fprintf(c.Out, "%s: %s\n", b.To, contents(m))
	b.advise(c, m)
	return nil
}

// passphraseParameters are what turns the passphrase into the root key, if there is one.
func passphraseParameters(state string) ([]byte, error) {
	b, err := readFile(filepath.Join(state, passphraseName), backup.MaxParameters)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// advise says what else is needed to be able to restore.
func (b *backupCommand) advise(c *console, m *backup.Manifest) {
	if m.Missing > 0 {
		fmt.Fprintln(c.Err, paint(terminal(c.Err)).in(red, "WARNING: named by the database and not on disk: "+count(m.Missing, "blob")))
	}
	text := "NOT in it: the root key, and the keystore (bulkhead backup --keystore). Nothing in it opens without both."
	if b.Keystore {
		text = "NOT in it: the root key. Nothing in it opens without that: keep a copy apart.\n" +
			"Until " + m.Expires.Format(time.RFC3339) + " it can bring back what is deleted from now on: destroy it then."
	}
	fmt.Fprintln(c.Err, paint(terminal(c.Err)).in(yellow, text))
}

// contents is a line about an archive.
func contents(m *backup.Manifest) string {
	if m.Kind == backup.Keystore {
		return fmt.Sprintf("keystore as of %s, %d bytes", m.Created.Format(time.RFC3339), m.Bytes)
	}
	total := func(what string) string { return count(m.Totals[what+"s"], what) }
	return fmt.Sprintf("%s database as of %s with %s, %s, %s, %s; %s; %d bytes", m.Engine, m.Created.Format(time.RFC3339),
		total("customer"), total("instance"), total("connection"), total("execution"), count(m.Blobs, "blob"), m.Bytes)
}

func readRecipients(texts, files []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, t := range texts {
		r, err := age.ParseRecipients(strings.NewReader(t))
		if err != nil {
			return nil, usage("--recipient %s: %w (it is the public key that age-keygen prints)", t, err)
		}
		out = append(out, r...)
	}
	for _, name := range files {
		b, err := readFile(name, maxKeyFile)
		if err != nil {
			return nil, err
		}
		r, err := age.ParseRecipients(strings.NewReader(string(b)))
		if err != nil {
			return nil, usage("--recipients-file %s: %w", name, err)
		}
		out = append(out, r...)
	}
	if len(out) == 0 {
		return nil, usage("name who can decrypt it with --recipient age1…: age-keygen makes a pair, of which the private half stays away from this machine")
	}
	return out, nil
}

type restoreCommand struct {
	State        string   `env:"BULKHEAD_STATE" placeholder:"DIR" help:"State directory to restore into. Default: that of up."`
	From         string   `required:"" placeholder:"FILE" help:"Archive to restore."`
	Identity     []string `required:"" placeholder:"FILE" help:"File with the private key (AGE-SECRET-KEY-1…); repeatable."`
	Keystore     bool     `help:"Restore the keystore instead of database and blobs."`
	Database     string   `env:"BULKHEAD_DATABASE" placeholder:"URL" help:"PostgreSQL database to restore into."`
	Replace      bool     `help:"Move aside what is there, and empty the PostgreSQL database."`
	ForceExpired bool     `help:"Restore a keystore archive whose life is over: what was deleted since it was made comes back."`
	JSON         bool     `name:"json" help:"Print JSON."`
}

// Run implements the command.
func (r *restoreCommand) Run(c *console) error {
	with, err := readIdentities(r.Identity)
	if err != nil {
		return err
	}
	state, err := stateDirectory(r.State, usualState)
	if err != nil {
		return err
	}
	f, err := os.Open(r.From)
	if err != nil {
		return usage("--from: %w", err)
	}
	defer f.Close()
	release, err := role.Lock(state)
	if err != nil {
		return err
	}
	defer release()
	if err := stopped(state); err != nil {
		return err
	}
	target := backup.Target{
		Kind: backup.Database, Dir: filepath.Join(state, "server"), URL: r.Database, Replace: backup.Overwrite(r.Replace), Late: r.ForceExpired, Now: now(),
	}
	if r.Keystore {
		target.Kind, target.Dir, target.URL = backup.Keystore, filepath.Join(state, "vault"), ""
	}
	done, err := backup.Restore(c.ctx, f, with, target)
	switch {
	case errors.Is(err, backup.ErrExists):
		return fmt.Errorf("%w (--replace moves a directory aside, and replaces the tables of a PostgreSQL database)", err)
	case errors.Is(err, backup.ErrExpired):
		return fmt.Errorf("%w (--force-expired restores it all the same)", err)
	case errors.Is(err, backup.ErrRunning):
		return fmt.Errorf("%w: stop it first", err)
	case err != nil:
		return err
	}
	if done.Parameters != "" {
		if err := os.Rename(done.Parameters, filepath.Join(state, passphraseName)); err != nil {
			return fmt.Errorf("put the passphrase's parameters in place: %w", err)
		}
	}
	if r.JSON {
		return writeJSON(c.Out, done)
	}
	fmt.Fprintf(c.Out, "restored into %s: %s\n", target.Dir, contents(&done.Manifest))
	if done.Aside != "" {
		fmt.Fprintf(c.Out, "what was there is now %s: delete it when you do not need it any more\n", done.Aside)
	}
	fmt.Fprintln(c.Err, paint(terminal(c.Err)).in(yellow, afterRestore(&done.Manifest)))
	return nil
}

// afterRestore says what is not as it was.
func afterRestore(m *backup.Manifest) string {
	at := m.Created.Format(time.RFC3339)
	if m.Kind == backup.Keystore {
		return "Credentials and keys are as of " + at + ": what was deleted since is back. Delete it again.\nStart the platform with the root key of that time."
	}
	return "What was accepted since " + at + " is lost; executions that were open then continue from there, and repeat what they did since with the same idempotency keys.\n" +
		"What was deleted since stays closed, because its keys are gone. Instances whose configuration was changed since need it entered again: they are in the state needs_config."
}

// stopped refuses a vault that runs on its own, without the lock of the state directory.
func stopped(state string) error {
	used, err := keystore.InUse(filepath.Join(state, "vault"))
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("%w in %s: stop it first", backup.ErrRunning, state)
	}
	return nil
}

func readIdentities(files []string) ([]age.Identity, error) {
	var out []age.Identity
	for _, name := range files {
		b, err := readFile(name, maxKeyFile)
		if err != nil {
			return nil, err
		}
		i, err := age.ParseIdentities(strings.NewReader(string(b)))
		clear(b)
		if err != nil {
			return nil, usage("--identity %s: %w", name, err)
		}
		out = append(out, i...)
	}
	return out, nil
}

// backupReaderCommand is started by the backup command itself.
type backupReaderCommand struct{}

// Run implements the command.
func (*backupReaderCommand) Run(c *console) error { return backup.Serve(c.ctx, c.In, c.Out) }
