package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Link is a connect link: who has its secret may connect one customer to one connector,
// once. The secret is not stored.
type Link struct {
	ID               id.Link
	Organization     id.Org
	Customer         id.Customer
	Hash             [32]byte // SHA-256 of the secret
	Connector        string
	ConnectorVersion string
	ConnectorDigest  [32]byte
	Template         id.Template   // zero: the organization has no client for it
	Connection       id.Connection // to be connected again; zero: a new one
	Replaces         id.Connection // that was revoked: what used it uses the new one; zero: none
	Name             string        // of the connection
	Methods          []string      // auth methods that are offered; none: all
	Vars             map[string]string
	Shared           Shared   // with whom a new connection of the organization itself is shared
	SharedProof      [32]byte // of Shared, as connect makes it with the secret; zero: it is not shared
	ReturnURL        string   // checked against the organization's list when the link was made
	CreatedBy        string
	Created          time.Time
	Expires          time.Time
	Used             time.Time     // when a connection began to be made with it
	Made             id.Connection // that one
	Entered          [32]byte      // by which form, as connect knows it; zero: by none
	Connected        time.Time     // when that was done
}

// PutLink stores a new link.
func (o OrgTx) PutLink(l *Link) error {
	return o.tx.send(`
		INSERT INTO connect_link (link_id, organization_id, customer_id, hash, connector, connector_version, connector_digest, template_id,
			connection_id, replaces_id, name, methods, vars, return_url, created_by, created, expires, shared, shared_proof)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		l.ID[:], o.id[:], l.Customer[:], l.Hash[:], l.Connector, l.ConnectorVersion, l.ConnectorDigest[:], optional(l.Template[:]),
		optional(l.Connection[:]), optional(l.Replaces[:]), l.Name, jsonList(l.Methods), jsonObject(l.Vars), l.ReturnURL, l.CreatedBy, micros(l.Created), micros(l.Expires),
		jsonObject(l.Shared), optional(l.SharedProof[:]))
}

// RevokeLink ends a link that was not used.
func (o OrgTx) RevokeLink(l id.Link, now time.Time) error {
	n, err := o.tx.exec(`
		UPDATE connect_link
		SET deleted = $3
		WHERE organization_id = $1 AND link_id = $2 AND deleted = 0`,
		o.id[:], l[:], micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// RevokeLinksOf ends the links that were not used: of a connector, of a customer, or all
// when both are zero; not those that replace a connection that was revoked. It returns how
// many.
func (o OrgTx) RevokeLinksOf(connector string, c id.Customer, now time.Time) (int, error) {
	n, err := o.tx.exec(`
		UPDATE connect_link
		SET deleted = $4
		WHERE organization_id = $1 AND (connector = $2 OR $2 = '') AND (customer_id = $3 OR $3 = $5) AND deleted = 0 AND used = 0 AND expires > $4
			AND replaces_id IS NULL`,
		o.id[:], connector, c[:], micros(now), make([]byte, len(c)))
	return int(n), err
}

const linkColumns = `link_id, organization_id, customer_id, hash, connector, connector_version, connector_digest, template_id, connection_id,
			replaces_id, name, methods, vars, return_url, created_by, created, expires, used, made_id, entered_hash, connected, shared, shared_proof`

func scanLink(x *Link) []any {
	return []any{
		fixed{x.ID[:]},
		fixed{x.Organization[:]},
		fixed{x.Customer[:]},
		fixed{x.Hash[:]},
		&x.Connector, &x.ConnectorVersion,
		fixed{x.ConnectorDigest[:]},
		fixed{x.Template[:]},
		fixed{x.Connection[:]},
		fixed{x.Replaces[:]},
		&x.Name,
		jsonText{&x.Methods},
		jsonText{&x.Vars},
		&x.ReturnURL, &x.CreatedBy,
		moment{&x.Created},
		moment{&x.Expires},
		moment{&x.Used},
		fixed{x.Made[:]},
		fixed{x.Entered[:]},
		moment{&x.Connected},
		jsonText{&x.Shared},
		fixed{x.SharedProof[:]},
	}
}

// LinkByHash finds a link, of any organization, by the hash of its secret. One that was
// revoked is [ErrNotFound]; one that was used or has expired is returned.
func (s System) LinkByHash(hash [32]byte) (*Link, error) {
	x := &Link{}
	err := s.q.row(`
		SELECT `+linkColumns+`
		FROM connect_link
		WHERE hash = $1 AND deleted = 0`,
		[]any{hash[:]}, scanLink(x)...)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Link finds a link by its id, of any organization. One that was revoked is [ErrNotFound].
func (s System) Link(l id.Link) (*Link, error) {
	x := &Link{}
	err := s.q.row(`
		SELECT `+linkColumns+`
		FROM connect_link
		WHERE link_id = $1 AND deleted = 0`,
		[]any{l[:]}, scanLink(x)...)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Links lists links that were not revoked in the order of their ids, after one; of all
// customers, or of one.
func (o Org) Links(of id.Customer, after id.Link, limit int) ([]Link, error) {
	var f filter
	f.and("organization_id = $%d", o.id[:])
	f.and("link_id > $%d", after[:])
	if !of.IsZero() {
		f.and("customer_id = $%d", of[:])
	}
	var list []Link
	err := o.q.rows(`
		SELECT `+linkColumns+`
		FROM connect_link
		WHERE deleted = 0 AND `+f.String()+`
		ORDER BY link_id
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x Link
			if err := r.Scan(scanLink(&x)...); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// ClaimLink marks a link as used by a connection, and by which form ([Link].Entered). A link
// that was used, revoked or has expired is [ErrNotFound]: of any number of requests one
// succeeds.
func (s SystemTx) ClaimLink(l id.Link, made id.Connection, entered [32]byte, now time.Time) error {
	n, err := s.tx.exec(`
		UPDATE connect_link
		SET used = $2, made_id = $3, entered_hash = $4
		WHERE link_id = $1 AND deleted = 0 AND used = 0 AND expires > $2`,
		l[:], micros(now), made[:], optional(entered[:]))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// ReleaseLink makes a link usable again after a claim that came to nothing.
func (s SystemTx) ReleaseLink(l id.Link, made id.Connection) error {
	return s.tx.send(`UPDATE connect_link SET used = 0, made_id = NULL, entered_hash = NULL WHERE link_id = $1 AND made_id = $2`, l[:], made[:])
}

// LinkConnected notes that what a link was claimed for is done. When that is known, or the link is claimed for something else
// or for nothing, it is [ErrNotFound].
func (s SystemTx) LinkConnected(l id.Link, made id.Connection, now time.Time) error {
	n, err := s.tx.exec(`UPDATE connect_link SET connected = $3 WHERE link_id = $1 AND made_id = $2 AND connected = 0`, l[:], made[:], micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// Claims lists links of all organizations that are used, and of which it is not noted that they have connected, in the order of
// their ids, after one.
func (s System) Claims(after id.Link, limit int) ([]Link, error) {
	var list []Link
	err := s.q.rows(`
		SELECT `+linkColumns+`
		FROM connect_link
		WHERE link_id > $1 AND used > 0 AND connected = 0 AND deleted = 0
		ORDER BY link_id
		LIMIT $2`,
		[]any{after[:], int64(limit)}, func(r scanner) error {
			var x Link
			if err := r.Scan(scanLink(&x)...); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// Visit is a browser that was sent to a provider and has not come back.
type Visit struct {
	State        [32]byte // SHA-256 of the state
	Browser      [32]byte // SHA-256 of the cookie of the browser that was sent
	Link         id.Link
	Organization id.Org
	Customer     id.Customer
	Connection   id.Connection
	Template     id.Template
	Method       string
	Vars         map[string]string
	Scopes       []string
	OtherAccount bool // another account than before is welcome
	Created      time.Time
	Expires      time.Time
}

// PutVisit stores a visit.
func (s SystemTx) PutVisit(v *Visit) error {
	return s.tx.send(`
		INSERT INTO connect_visit (state_hash, browser_hash, link_id, organization_id, customer_id, connection_id, template_id, method, vars, scopes,
			other_account, created, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		v.State[:], v.Browser[:], v.Link[:], v.Organization[:], v.Customer[:], v.Connection[:], optional(v.Template[:]), v.Method, jsonObject(v.Vars),
		jsonList(v.Scopes), v.OtherAccount, micros(v.Created), micros(v.Expires))
}

const visitColumns = `state_hash, browser_hash, link_id, organization_id, customer_id, connection_id, template_id, method, vars, scopes,
			other_account, created, expires`

func scanVisit(v *Visit) []any {
	return []any{
		fixed{v.State[:]},
		fixed{v.Browser[:]},
		fixed{v.Link[:]},
		fixed{v.Organization[:]},
		fixed{v.Customer[:]},
		fixed{v.Connection[:]},
		fixed{v.Template[:]},
		&v.Method,
		jsonText{&v.Vars},
		jsonText{&v.Scopes},
		&v.OtherAccount,
		moment{&v.Created},
		moment{&v.Expires},
	}
}

// Visit finds the visit of a state that was not used and has not expired.
func (s System) Visit(state [32]byte, now time.Time) (*Visit, error) {
	v := &Visit{}
	err := s.q.row(`
		SELECT `+visitColumns+`
		FROM connect_visit
		WHERE state_hash = $1 AND used = 0 AND expires > $2`,
		[]any{state[:], micros(now)}, scanVisit(v)...)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// UsedVisit finds the visit of a state that a browser has used, until it would have expired.
func (s System) UsedVisit(state, browser [32]byte, now time.Time) (*Visit, error) {
	v := &Visit{}
	err := s.q.row(`
		SELECT `+visitColumns+`
		FROM connect_visit
		WHERE state_hash = $1 AND browser_hash = $2 AND used > 0 AND expires > $3`,
		[]any{state[:], browser[:], micros(now)}, scanVisit(v)...)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// UseVisit takes a visit. It works once; a used or expired one is [ErrNotFound].
func (s SystemTx) UseVisit(state [32]byte, now time.Time) error {
	n, err := s.tx.exec(`UPDATE connect_visit SET used = $2 WHERE state_hash = $1 AND used = 0 AND expires > $2`, state[:], micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// PurgeVisits deletes visits that expired before a time.
func (s SystemTx) PurgeVisits(before time.Time) error {
	return s.tx.send(`DELETE FROM connect_visit WHERE expires < $1`, micros(before))
}
