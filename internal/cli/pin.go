package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// maxPins is the largest file of known authorities, in bytes.
const maxPins = 1 << 20

// fingerprint is how people compare an authority.
func fingerprint(authority seal.VerifyKey) string {
	sum := sha256.Sum256(authority[:])
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// pins are the authorities of the platforms that this user has entered secrets to, by
// address: what was seen first is expected from then on.
type pins struct {
	file   string
	server string
	given  string // a fingerprint that was given; then the file plays no part
	c      *console
}

// pinsFile is where they are kept.
func pinsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", usage("there is no directory for what is known of platforms: set HOME, or give --authority: %w", err)
	}
	return filepath.Join(dir, "bulkhead", "authorities.json"), nil
}

// check accepts an authority that is the given or the known one, or the first of its platform.
func (p *pins) check(authority seal.VerifyKey) error {
	shown := fingerprint(authority)
	if p.given != "" {
		if p.given != shown {
			return &fail{exitFailed, fmt.Errorf("%s shows the authority %s, not %s that was given with --authority: nothing secret was sent", p.server, shown, p.given)}
		}
		return nil
	}
	if p.file == "" {
		var err error
		if p.file, err = pinsFile(); err != nil {
			return err
		}
	}
	known, err := p.load()
	if err != nil {
		return err
	}
	switch was := known[p.server]; was {
	case shown:
		return nil
	case "":
		known[p.server] = shown
		if err := p.save(known); err != nil {
			return fmt.Errorf("remember the authority of %s: %w", p.server, err)
		}
		fmt.Fprintf(p.c.Err, "First secret for %s: the authority of its vault is %s.\nCompare it with what bulkhead status shows on its own machine. Another one will be refused from now on.\n", p.server, shown)
		return nil
	default:
		return &fail{exitFailed, fmt.Errorf("%s shows the authority %s, but was %s before: nothing secret was sent.\n"+
			"          Either somebody is between you and its vault, or the platform was set up anew with another keystore.\n"+
			"          Compare it with what bulkhead status shows on its own machine; then take its line out of %s", p.server, shown, was, p.file)}
	}
}

func (p *pins) load() (map[string]string, error) {
	known := map[string]string{}
	b, err := readFile(p.file, maxPins)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &known); err != nil {
		return nil, usage("%s is damaged: %w", p.file, err)
	}
	return known, nil
}

// save puts a file that is whole in the place of the one before.
func (p *pins) save(known map[string]string) error {
	var b bytes.Buffer
	if err := writeJSON(&b, known); err != nil {
		return err
	}
	dir := filepath.Dir(p.file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".authorities-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), p.file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
