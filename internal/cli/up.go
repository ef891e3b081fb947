package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
)

// rootFileName is the file of the root key within a state directory.
const rootFileName = "root.key"

// passphraseName is the file of a passphrase's parameters, which are no secret.
const passphraseName = "passphrase.kdf"

// passphraseVariable may hold the passphrase at the start.
const passphraseVariable = "BULKHEAD_PASSPHRASE"

type upCommand struct {
	State       string        `env:"BULKHEAD_STATE" placeholder:"DIR" help:"Directory of everything that is kept. Default: /var/lib/bulkhead for root, else ~/.local/state/bulkhead."`
	Listen      string        `env:"BULKHEAD_LISTEN" default:"127.0.0.1:8480" placeholder:"HOST:PORT" help:"Where webhooks, callbacks and the API are served."`
	TLSCert     string        `name:"tls-cert" env:"BULKHEAD_TLS_CERT" placeholder:"FILE" help:"Certificate chain in PEM: --listen speaks TLS. Read again on SIGHUP."`
	TLSKey      string        `name:"tls-key" env:"BULKHEAD_TLS_KEY" placeholder:"FILE" help:"Private key of the certificate, in PEM."`
	BehindProxy bool          `env:"BULKHEAD_BEHIND_PROXY" help:"Serve other machines without TLS: a proxy ends TLS before this address."`
	PublicURL   string        `name:"public-url" env:"BULKHEAD_PUBLIC_URL" placeholder:"URL" help:"What the addresses of webhooks and callbacks begin with. Default: where --listen is."`
	Database    string        `env:"BULKHEAD_DATABASE" placeholder:"URL" help:"PostgreSQL database, postgres://…; without it, SQLite in the state directory."`
	RootFile    string        `placeholder:"FILE" help:"File of the root key, made with mode 0600 when it does not exist. Default: root.key in the state directory."`
	RootEnv     string        `placeholder:"NAME" help:"Environment variable that holds the root key instead, in hex or base64."`
	Passphrase  bool          `help:"Derive the root key from a passphrase, read from BULKHEAD_PASSPHRASE or standard input."`
	AllowNet    []string      `sep:"," placeholder:"RANGE" help:"Special address ranges that may be called, such as 127.0.0.0/8."`
	Drain       time.Duration `default:"20s" help:"How long running executions get to finish at the end."`
	Metadata    time.Duration `default:"2160h" help:"How long executions are listed after their end; their payloads go by the flow's retention."`
	RequireFull bool          `help:"Refuse to start when this host lacks an added wall."`
	Sample      bool          `help:"Try it: also start a sample shop, ERP and carrier, and deploy the sample integration to two sample customers."`
	Dev         bool          `help:"For trying things out: this machine only, and the state directory is marked as such."`
}

// Run implements the command.
func (u *upCommand) Run(c *console) error {
	nets, err := readNets(u.AllowNet)
	if err != nil {
		return err
	}
	if u.Metadata < 24*time.Hour {
		return usage("--metadata %v: want a day or more", u.Metadata)
	}
	if u.Sample {
		nets = append(nets, netip.MustParsePrefix("127.0.0.1/32")) // where the sample servers are
	}
	if u.State, err = stateDirectory(u.State, map[bool]string{true: sampleState, false: usualState}[u.Sample]); err != nil {
		return err
	}
	root, err := u.root(c)
	if err != nil {
		return err
	}
	log := os.Stderr
	if u.Sample {
		if log, err = sampleLog(u.State); err != nil {
			return err
		}
		defer log.Close()
	}
	role.CleanLeftovers(filepath.Join(os.TempDir(), sessionPrefix+"*"), now())
	s, err := role.Start(c.ctx, role.Config{
		State: u.State, Root: root, Unseal: u.unseal(), Log: slog.New(slog.NewJSONHandler(log, nil)).With("role", "supervisor"),
		Database: u.Database, Listen: u.Listen, Certificate: u.TLSCert, CertificateKey: u.TLSKey, Proxied: u.BehindProxy, PublicURL: u.PublicURL,
		AllowNet: nets, Full: u.RequireFull, Dev: u.Dev, Drain: u.Drain, Metadata: u.Metadata, Stderr: log,
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	warnMissing(c, s)
	fmt.Fprintf(c.Out, "bulkhead serves at %s\n", s.URL)
	if u.PublicURL != "" {
		fmt.Fprintf(c.Out, "listening on %s\n", s.Public)
	}
	if at, err := netip.ParseAddrPort(s.Public); err == nil && at.Addr().IsUnspecified() && strings.HasSuffix(s.URL, s.Public) {
		fmt.Fprintln(c.Err, "Nobody can reach webhooks at that address: say with --public-url where they can.")
	}
	fmt.Fprintf(c.Out, "state: %s\nauthority of the vault: %s\n", u.State, fingerprint(s.Authority()))
	defer u.onHangup(c, s)()
	if err := u.showToken(c); err != nil { // bulkhead tokens create makes another
		fmt.Fprintln(c.Err, err)
	}
	if u.Sample {
		end, err := startSample(c, s, u.State)
		if err != nil {
			return err
		}
		defer end() // after the executions that call them have ended
		defer s.Stop()
	}
	return u.wait(c, s)
}

// onHangup has SIGHUP read the certificate again, where there is one; else it ends the
// program as other signals do. The function that it returns ends that.
func (u *upCommand) onHangup(c *console, s *role.Supervisor) (forget func()) {
	if u.TLSCert == "" {
		return func() {}
	}
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Ignore(syscall.SIGHUP) // takes it from the others
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangups:
				if err := s.Renew(); err != nil {
					fmt.Fprintln(c.Err, "The certificate stays as it was:", err)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(done)
	}
}

// wait serves until it is interrupted, then lets running executions finish.
func (u *upCommand) wait(c *console, s *role.Supervisor) error {
	select {
	case <-c.ctx.Done():
		fmt.Fprintf(c.Err, "\nStopping: running executions get %v to finish. A second ^C ends at once.\n", u.Drain)
		again, forget := signal.NotifyContext(context.WithoutCancel(c.ctx), os.Interrupt, syscall.SIGTERM)
		defer forget()
		defer context.AfterFunc(again, s.Kill)()
		s.Stop()
		fmt.Fprintln(c.Err, "Stopped. What was accepted and not finished goes on at the next start.")
		return nil
	case name := <-s.Ended():
		return fmt.Errorf("the role %s has ended", name)
	}
}

// showToken shows the first token of an installation on a terminal, once, and else says
// where it is.
func (u *upCommand) showToken(c *console) error {
	name := filepath.Join(u.State, "server", api.FirstTokenFile)
	// The directory is the server's, whose user may be less than this one: what it left there
	// leads nowhere else, and nobody waits for it.
	dir, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("read first token: %w", err)
	}
	defer dir.Close()
	f, err := dir.OpenFile(api.FirstTokenFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read first token: %w", err)
	}
	defer f.Close()
	if !terminal(c.Out) {
		fmt.Fprintf(c.Out, "first token, valid for a day: %s\n", name)
		return nil
	}
	token, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
	if err != nil {
		return fmt.Errorf("read first token: %w", err)
	}
	fmt.Fprintf(c.Out, "first token, valid for a day and not shown again: %s\n", oneLine(strings.TrimSpace(string(token))))
	if err := dir.Remove(api.FirstTokenFile); err != nil {
		return fmt.Errorf("remove first token: %w", err)
	}
	return nil
}

// Names of the directories where state is kept when nothing else is said.
const (
	usualState  = "bulkhead"
	sampleState = "bulkhead-sample" // of up --sample, so that a platform in use never gets sample customers
)

// stateDirectory is the directory that was given, or the one of that name among the
// usual ones of this user. Roles that run as their own users can pass through either.
func stateDirectory(given, name string) (string, error) {
	switch {
	case given != "":
	case os.Geteuid() == 0:
		given = filepath.Join("/var/lib", name)
	default:
		base := os.Getenv("XDG_STATE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", usage("give the state directory with --state: %w", err)
			}
			base = filepath.Join(home, ".local", "state")
		}
		given = filepath.Join(base, name)
	}
	dir, err := filepath.Abs(given)
	if err != nil {
		return "", usage("--state %s: %w", given, err)
	}
	return dir, nil
}

// root is where the root secret comes from. What a person or a variable gave is used for
// the first vault only: it is kept nowhere.
func (u *upCommand) root(c *console) (role.RootSource, error) {
	switch {
	case u.Passphrase && (u.RootEnv != "" || u.RootFile != "") || u.RootEnv != "" && u.RootFile != "":
		return nil, usage("give the root key in one way: --root-file, --root-env or --passphrase")
	case u.Passphrase:
		text, err := readPassphrase(c)
		if err != nil {
			return nil, err
		}
		p := secret.New(text)
		clear(text)
		return once(func() (secret.Value, error) {
			defer p.Destroy()
			return vault.LoadRoot(vault.RootOptions{Passphrase: p, ParameterFile: filepath.Join(u.State, passphraseName)})
		}), nil
	case u.RootEnv != "":
		return once(func() (secret.Value, error) { return vault.LoadRoot(vault.RootOptions{Environment: u.RootEnv}) }), nil
	}
	if u.RootFile == "" {
		u.RootFile = filepath.Join(u.State, rootFileName)
	}
	return func() (secret.Value, error) {
		if _, err := os.Stat(u.RootFile); errors.Is(err, fs.ErrNotExist) && hasKeystore(u.State) { // a new key would open nothing
			return secret.Value{}, fmt.Errorf("the keystore in %s is there, but not its root key %s: put the one there that it was made with,"+
				" or name it with --root-file, --root-env or --passphrase", u.State, u.RootFile)
		}
		return vault.LoadRoot(vault.RootOptions{File: u.RootFile})
	}, nil
}

// keystoreFile is where the vault keeps its keys, in its part of the state directory.
const keystoreFile = "keystore.db"

// hasKeystore reports whether a state directory holds keys, which only their root key opens.
func hasKeystore(state string) bool {
	_, err := os.Stat(filepath.Join(state, "vault", keystoreFile))
	return err == nil
}

// unseal makes the root key of what a person gives to a vault that was restarted.
func (u *upCommand) unseal() func(secret.Value) (secret.Value, error) {
	switch {
	case u.Passphrase:
		return func(given secret.Value) (secret.Value, error) {
			return vault.LoadRoot(vault.RootOptions{Passphrase: given, ParameterFile: filepath.Join(u.State, passphraseName)})
		}
	case u.RootEnv != "":
		return vault.ParseRoot
	}
	return nil // a file is at hand each time
}

// once is a source that gives its secret one time.
func once(load func() (secret.Value, error)) role.RootSource {
	used := false
	return func() (secret.Value, error) {
		if used {
			return secret.Value{}, role.ErrSealed
		}
		used = true
		return load()
	}
}

// maxPassphrase is the longest passphrase in bytes.
const maxPassphrase = 1024

// readPassphrase takes the passphrase from its variable, which is removed, or from
// standard input. The caller clears it.
func readPassphrase(c *console) ([]byte, error) {
	if text, ok := os.LookupEnv(passphraseVariable); ok {
		if err := os.Unsetenv(passphraseVariable); err != nil {
			return nil, fmt.Errorf("remove %s: %w", passphraseVariable, err)
		}
		return []byte(text), nil
	}
	fmt.Fprint(c.Err, "passphrase: ")
	b, err := readAll(c.In, "standard input", maxPassphrase)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return nil, usage("the passphrase is empty: pipe it to standard input or set %s", passphraseVariable)
	}
	return b, nil
}
