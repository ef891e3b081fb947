package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Integration is an integration with its newest version and its draft's metadata.
type Integration struct {
	ID            id.Integration
	Name          string
	Hidden        bool     // made by test runs
	Newest        uint32   // version; 0: none is published
	Digest        [32]byte // of the newest version
	DraftRevision uint64   // 0: there is no draft
	DraftChanged  time.Time
	Created       time.Time
}

// Draft is the text of the next version of an integration.
type Draft struct {
	Integration id.Integration
	Name        string
	Source      string
	Revision    uint64
	Changed     time.Time
}

// Integrations lists integrations in the order of their ids, after one; not those of test
// runs.
func (o Org) Integrations(after id.Integration, limit int) ([]Integration, error) {
	var f filter
	f.and("g.organization_id = $%d", o.id[:])
	f.and("g.integration_id > $%d", after[:])
	f.and("g.hidden = $%d", false)
	return o.integrations(&f, limit)
}

// Integration reads an integration.
func (o Org) Integration(i id.Integration) (*Integration, error) {
	var f filter
	f.and("g.organization_id = $%d", o.id[:])
	f.and("g.integration_id = $%d", i[:])
	return o.integration(&f)
}

// IntegrationByName finds an integration by its name.
func (o Org) IntegrationByName(name string) (*Integration, error) {
	var f filter
	f.and("g.organization_id = $%d", o.id[:])
	f.and("g.name = $%d", name)
	return o.integration(&f)
}

func (o Org) integration(f *filter) (*Integration, error) {
	list, err := o.integrations(f, 1)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

func (o Org) integrations(f *filter, limit int) ([]Integration, error) {
	var list []Integration
	err := o.q.rows(`
		SELECT g.integration_id, g.name, g.hidden, COALESCE(v.version, 0), v.digest, g.draft_revision, g.draft_changed, g.created
		FROM integration g
		LEFT JOIN integration_version v ON v.integration_id = g.integration_id
			AND v.version = (SELECT MAX(n.version) FROM integration_version n WHERE n.integration_id = g.integration_id)
		WHERE g.deleted = 0 AND `+f.String()+`
		ORDER BY g.integration_id
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x Integration
			err := r.Scan(fixed{x.ID[:]}, &x.Name, &x.Hidden, &x.Newest, fixed{x.Digest[:]}, &x.DraftRevision, moment{&x.DraftChanged}, moment{&x.Created})
			if err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// VersionInfo is a published version with its name, time and source.
type VersionInfo struct {
	Version
	Name    string
	Source  string
	Created time.Time
}

// Versions lists the versions of an integration below a number, the newest first, without
// their texts. before 0 means from the newest.
func (o Org) Versions(i id.Integration, before uint32, limit int) ([]VersionInfo, error) {
	var f filter
	f.and("g.organization_id = $%d", o.id[:])
	f.and("v.integration_id = $%d", i[:])
	if before > 0 {
		f.and("v.version < $%d", int64(before))
	}
	return o.versions(&f, "''", "''", limit)
}

// VersionOf reads a version of an integration.
func (o Org) VersionOf(i id.Integration, number uint32) (*VersionInfo, error) {
	var f filter
	f.and("g.organization_id = $%d", o.id[:])
	f.and("v.integration_id = $%d", i[:])
	f.and("v.version = $%d", int64(number))
	return o.version(&f)
}

// VersionByDigest finds a version by the digest of its definition.
func (o Org) VersionByDigest(digest [32]byte) (*VersionInfo, error) {
	var f filter
	f.and("g.organization_id = $%d", o.id[:])
	f.and("v.digest = $%d", digest[:])
	return o.version(&f)
}

func (o Org) version(f *filter) (*VersionInfo, error) {
	list, err := o.versions(f, "v.definition", "v.source", 1)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

func (o Org) versions(f *filter, definition, source string, limit int) ([]VersionInfo, error) {
	var list []VersionInfo
	err := o.q.rows(`
		SELECT v.integration_id, g.name, v.version, v.digest, v.profile, v.created, `+definition+`, `+source+`
		FROM integration_version v
		JOIN integration g ON g.integration_id = v.integration_id
		WHERE g.deleted = 0 AND `+f.String()+`
		ORDER BY v.version DESC
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x VersionInfo
			err := r.Scan(fixed{x.Integration[:]}, &x.Name, &x.Number, fixed{x.Version.Digest[:]}, &x.Profile, moment{&x.Created},
				&x.Definition, &x.Source)
			if err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// SetSource keeps the file that a version was published from, unless it has one.
func (o OrgTx) SetSource(i id.Integration, number uint32, source string) error {
	if _, err := o.Integration(i); err != nil {
		return err
	}
	return o.tx.send(`
		UPDATE integration_version
		SET source = $3
		WHERE integration_id = $1 AND version = $2 AND source = ''`,
		i[:], int64(number), source)
}

// Draft reads the draft of an integration; [ErrNotFound] when it has none.
func (o Org) Draft(i id.Integration) (*Draft, error) {
	d := &Draft{}
	err := o.q.row(`
		SELECT integration_id, name, draft, draft_revision, draft_changed
		FROM integration
		WHERE organization_id = $1 AND integration_id = $2 AND draft_revision > 0 AND deleted = 0`,
		[]any{o.id[:], i[:]}, fixed{d.Integration[:]}, &d.Name, &d.Source, &d.Revision, moment{&d.Changed})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// PutDraft replaces the draft of the integration of that name, which is made when there is
// none, if its draft has the revision, 0 for none. [ErrNotFound] means that it has another.
// The revision counts up also when a draft was published or thrown away.
func (o OrgTx) PutDraft(d *Draft, revision uint64, now time.Time) error {
	return o.tx.returning(`
		INSERT INTO integration (integration_id, organization_id, name, draft, draft_revision, draft_changed, created)
		VALUES ($1, $2, $3, $4, 1, $5, $5)
		ON CONFLICT (organization_id, name) DO UPDATE
		SET draft = excluded.draft, draft_revision = integration.draft_revision + 1, draft_changed = excluded.draft_changed, deleted = 0
		WHERE integration.draft_revision = $6
		RETURNING integration_id, draft_revision, draft_changed`,
		[]any{d.Integration[:], o.id[:], d.Name, d.Source, micros(now), int64(revision)},
		fixed{d.Integration[:]}, &d.Revision, moment{&d.Changed})
}

// HideIntegration marks an integration as made by test runs: lists do not show it.
func (o OrgTx) HideIntegration(i id.Integration) error {
	return o.tx.send(`
		UPDATE integration
		SET hidden = TRUE
		WHERE organization_id = $1 AND integration_id = $2`,
		o.id[:], i[:])
}

// TestInstances lists the instances of test runs that were made before a time.
func (o Org) TestInstances(before time.Time, limit int) ([]InstanceKey, error) {
	var list []InstanceKey
	err := o.q.rows(`
		SELECT i.customer_id, i.instance_id
		FROM instance i
		JOIN integration g ON g.integration_id = i.integration_id
		WHERE g.organization_id = $1 AND g.hidden = TRUE AND i.deleted = 0 AND i.created < $2 AND substr(g.name, 1, 7) <> $4
		ORDER BY i.instance_id
		LIMIT $3`,
		[]any{o.id[:], micros(before), int64(limit), ProbePrefix}, func(r scanner) error {
			var k InstanceKey
			if err := r.Scan(fixed{k.Customer[:]}, fixed{k.Instance[:]}); err != nil {
				return err
			}
			list = append(list, k)
			return nil
		})
	return list, err
}
