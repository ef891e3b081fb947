package store

import "time"

// Connector is a version of a connector that the organization has published itself.
type Connector struct {
	Name    string
	Version string
	Digest  [32]byte
	Tier    string
	Title   string
	Cases   int // of its tests, all of which hold
	// Retrieved is the date of the vendor's copy that it was compared with or made of, or empty.
	Retrieved string
	CreatedBy string
	Created   time.Time
}

// PutConnector publishes a version with its manifest in canonical JSON. It reports false where the version is there
// already: it stays as it is.
func (o OrgTx) PutConnector(c *Connector, manifest []byte, now time.Time) (published bool, err error) {
	n, err := o.tx.exec(`
		INSERT INTO connector (organization_id, name, version, digest, tier, title, manifest, cases, retrieved, created_by, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (organization_id, name, version) DO NOTHING`,
		o.id[:], c.Name, c.Version, c.Digest[:], c.Tier, c.Title, string(manifest), int64(c.Cases), c.Retrieved, c.CreatedBy, micros(now))
	return n > 0, err
}

const connectorColumns = `name, version, digest, tier, title, cases, retrieved, created_by, created`

func scanConnector(x *Connector) []any {
	return []any{&x.Name, &x.Version, fixed{x.Digest[:]}, &x.Tier, &x.Title, &x.Cases, &x.Retrieved, &x.CreatedBy, moment{&x.Created}}
}

// Connectors lists the versions of the organization's own connectors, by name; of all, or of one name.
func (o Org) Connectors(name string) ([]Connector, error) {
	var list []Connector
	err := o.q.rows(`
		SELECT `+connectorColumns+`
		FROM connector
		WHERE organization_id = $1 AND ($2 = '' OR name = $2)
		ORDER BY name, created, version`,
		[]any{o.id[:], name}, func(r scanner) error {
			var x Connector
			if err := r.Scan(scanConnector(&x)...); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// ConnectorManifest reads the manifest of a version, in canonical JSON.
func (o Org) ConnectorManifest(name, version string) ([]byte, error) {
	var manifest string
	err := o.q.row(`
		SELECT manifest
		FROM connector
		WHERE organization_id = $1 AND name = $2 AND version = $3`,
		[]any{o.id[:], name, version}, &manifest)
	return []byte(manifest), err
}
