package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// FirstTokenFile is the name of the file, in the server's own directory, that holds the
// first token of an installation until somebody takes it away. It has mode 0600.
const FirstTokenFile = "first-token"

// FirstStart finds the organization of this installation, or makes it with its customer
// internal and an administrator's token that is valid for a day, which it leaves in
// [FirstTokenFile] of the directory. It makes none when there is, or has been, any: who has
// lost theirs makes another over the server's own socket.
//
// Cut short, it goes on where it was at the next start: the file comes before the row, so
// that no token is lost.
func FirstStart(ctx context.Context, e *engine.Engine, db *store.Store, dir string, now time.Time) (id.Org, error) {
	org, err := Organization(ctx, e, db, now)
	if err != nil {
		return org, err
	}
	switch _, err := db.Org(ctx, org).CustomerByExternalID(InternalCustomer); {
	case errors.Is(err, store.ErrNotFound):
		row := &store.CustomerRow{Organization: org, ExternalID: InternalCustomer, Internal: true, Title: "The organization itself", Weight: 1}
		if _, err := e.PutCustomer(ctx, row); err != nil {
			return org, fmt.Errorf("make customer %s: %w", InternalCustomer, err)
		}
	case err != nil:
		return org, fmt.Errorf("find customer %s: %w", InternalCustomer, err)
	}
	switch had, err := db.Org(ctx, org).EverHadToken(); {
	case err != nil:
		return org, fmt.Errorf("make first token: %w", err)
	case had:
		return org, nil
	}
	t, text := makeToken("first", RoleAdmin, firstTokenLife, now)
	if err := writeToken(filepath.Join(dir, FirstTokenFile), text); err != nil {
		return org, fmt.Errorf("make first token: %w", err)
	}
	if err := db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).PutToken(t) }); err != nil {
		return org, fmt.Errorf("make first token: %w", err)
	}
	return org, nil
}

// writeToken writes a file that only its owner may read, from the start.
func writeToken(name, text string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// Organization finds the organization of this installation, or makes it.
func Organization(ctx context.Context, e *engine.Engine, db *store.Store, now time.Time) (id.Org, error) {
	o, err := db.System(ctx).Organization()
	if errors.Is(err, store.ErrNotFound) {
		o = &store.Organization{ID: id.NewOrg(now), Name: "local"}
		err = e.PutOrganization(ctx, o)
	}
	if err != nil {
		return id.Org{}, fmt.Errorf("find organization: %w", err)
	}
	return o.ID, nil
}
