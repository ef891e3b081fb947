package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Token is a row of the token table. The token itself is not stored.
type Token struct {
	ID           id.Token
	Organization id.Org
	Name         string
	Role         string
	Hash         [32]byte // SHA-256 of the secret
	Created      time.Time
	Expires      time.Time
	Used         time.Time
}

// Token finds a token by its id, of any organization: it is what says whose a request is.
// One that was revoked is [ErrNotFound].
func (s System) Token(t id.Token) (*Token, error) {
	x := &Token{ID: t}
	err := s.q.row(`
		SELECT organization_id, name, role, hash, created, expires, used
		FROM token
		WHERE token_id = $1 AND deleted = 0`,
		[]any{t[:]}, fixed{x.Organization[:]}, &x.Name, &x.Role, fixed{x.Hash[:]}, moment{&x.Created}, moment{&x.Expires}, moment{&x.Used})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// TokenUsed notes that a token was used.
func (s SystemTx) TokenUsed(t id.Token, now time.Time) error {
	return s.tx.send(`UPDATE token SET used = $2 WHERE token_id = $1 AND used < $2`, t[:], micros(now))
}

// PutToken stores a new token.
func (o OrgTx) PutToken(t *Token) error {
	return o.tx.send(`
		INSERT INTO token (token_id, organization_id, name, role, hash, created, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.ID[:], o.id[:], t.Name, t.Role, t.Hash[:], micros(t.Created), micros(t.Expires))
}

// RevokeToken ends a token.
func (o OrgTx) RevokeToken(t id.Token, now time.Time) error {
	n, err := o.tx.exec(`
		UPDATE token
		SET deleted = $3
		WHERE organization_id = $1 AND token_id = $2 AND deleted = 0`,
		o.id[:], t[:], micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// Tokens lists the tokens that were not revoked, in the order of their ids, after one.
func (o Org) Tokens(after id.Token, limit int) ([]Token, error) {
	var list []Token
	err := o.q.rows(`
		SELECT token_id, name, role, created, expires, used
		FROM token
		WHERE organization_id = $1 AND token_id > $2 AND deleted = 0
		ORDER BY token_id
		LIMIT $3`,
		[]any{o.id[:], after[:], int64(limit)}, func(r scanner) error {
			x := Token{Organization: o.id}
			if err := r.Scan(fixed{x.ID[:]}, &x.Name, &x.Role, moment{&x.Created}, moment{&x.Expires}, moment{&x.Used}); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// EverHadToken reports whether the organization has or had a token.
func (o Org) EverHadToken() (bool, error) {
	var n int64
	err := o.q.row(`SELECT COUNT(*) FROM token WHERE organization_id = $1`, []any{o.id[:]}, &n)
	return n > 0, err
}
