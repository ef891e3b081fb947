package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// NoticeKind says what a notice is about.
type NoticeKind string

// The values of [NoticeKind].
const (
	NoticeNeedsReconnect NoticeKind = "needs_reconnect"
	NoticeExpiring       NoticeKind = "expiring"
	NoticeFailing        NoticeKind = "failing"
	NoticeUnused         NoticeKind = "unused" // for 90 days
	NoticeRevoked        NoticeKind = "revoked"
	NoticeConnected      NoticeKind = "connected" // by a link
)

// ConnectionNotice is something about a connection that the organization should know.
type ConnectionNotice struct {
	ID         id.Notice
	Customer   id.Customer
	Connection id.Connection
	Kind       NoticeKind
	Reason     string // of a fixed list, or an error code of OAuth
	At         time.Time
	Seen       time.Time // zero: nobody said so
}

// Notify stores a notice of a connection of the customer, unless there is one of the same
// kind that nobody has seen. made reports whether it was stored.
func (c CustomerTx) Notify(n *ConnectionNotice) (made bool, err error) {
	rows, err := c.tx.exec(`
		INSERT INTO connection_notice (notice_id, organization_id, customer_id, connection_id, kind, reason, at)
		SELECT $1, organization_id, customer_id, $3, $4, $5, $6
		FROM customer
		WHERE customer_id = $2 AND NOT EXISTS (
			SELECT 1 FROM connection_notice o WHERE o.connection_id = $3 AND o.kind = $4 AND o.seen = 0)`,
		n.ID[:], c.id[:], n.Connection[:], string(n.Kind), n.Reason, micros(n.At))
	return rows > 0, err
}

// NoticeQuery says which notices are listed. Zero fields mean any.
type NoticeQuery struct {
	Customer id.Customer
	Unseen   bool
	After    id.Notice
}

// Notices lists notices in the order of their ids.
func (o Org) Notices(q *NoticeQuery, limit int) ([]ConnectionNotice, error) {
	var f filter
	f.and("organization_id = $%d", o.id[:])
	f.and("notice_id > $%d", q.After[:])
	if !q.Customer.IsZero() {
		f.and("customer_id = $%d", q.Customer[:])
	}
	if q.Unseen {
		f.and("seen = $%d", int64(0))
	}
	var list []ConnectionNotice
	err := o.q.rows(`
		SELECT notice_id, customer_id, connection_id, kind, reason, at, seen
		FROM connection_notice
		WHERE `+f.String()+`
		ORDER BY notice_id
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x ConnectionNotice
			err := r.Scan(fixed{x.ID[:]}, fixed{x.Customer[:]}, fixed{x.Connection[:]}, &x.Kind, &x.Reason, moment{&x.At}, moment{&x.Seen})
			list = append(list, x)
			return err
		})
	return list, err
}

// SeeNotice notes that somebody has seen a notice.
func (o OrgTx) SeeNotice(n id.Notice, now time.Time) error {
	rows, err := o.tx.exec(`
		UPDATE connection_notice
		SET seen = CASE WHEN seen = 0 THEN $3 ELSE seen END
		WHERE organization_id = $1 AND notice_id = $2`,
		o.id[:], n[:], micros(now))
	if err == nil && rows == 0 {
		err = ErrNotFound
	}
	return err
}

// UnseenNotices counts the notices that nobody has seen.
func (o Org) UnseenNotices() (int64, error) {
	var n int64
	err := o.q.row(`SELECT COUNT(*) FROM connection_notice WHERE organization_id = $1 AND seen = 0`, []any{o.id[:]}, &n)
	return n, err
}
