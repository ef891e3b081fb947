package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Unknown counts the events of a provider's app whose account nobody has connected. It says
// nothing of the accounts.
type Unknown struct {
	Template  id.Template
	Connector string // only from [Org.Unknowns]
	Events    uint64
	Since     time.Time // the first
	Last      time.Time
}

// AddUnknown adds to the count of a template.
func (o OrgTx) AddUnknown(u *Unknown) error {
	return o.tx.send(`
		INSERT INTO app_unknown (template_id, events, since, last)
		SELECT template_id, $3, $4, $5
		FROM connection_template
		WHERE organization_id = $1 AND template_id = $2 AND deleted = 0
		ON CONFLICT (template_id) DO UPDATE
		SET events = app_unknown.events + excluded.events,
			last = CASE WHEN excluded.last > app_unknown.last THEN excluded.last ELSE app_unknown.last END`,
		o.id[:], u.Template[:], int64(u.Events), micros(u.Since), micros(u.Last))
}

// Unknowns lists the counts of the organization's templates, in order of their ids.
func (o Org) Unknowns() ([]Unknown, error) {
	var list []Unknown
	err := o.q.rows(`
		SELECT u.template_id, t.connector, u.events, u.since, u.last
		FROM app_unknown AS u
		JOIN connection_template AS t ON t.template_id = u.template_id
		WHERE t.organization_id = $1 AND t.deleted = 0
		ORDER BY u.template_id`,
		[]any{o.id[:]}, func(r scanner) error {
			var u Unknown
			err := r.Scan(fixed{u.Template[:]}, &u.Connector, &u.Events, moment{&u.Since}, moment{&u.Last})
			list = append(list, u)
			return err
		})
	return list, err
}
