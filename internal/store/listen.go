package store

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Listener says for which events a wait is.
type Listener struct {
	Scope [32]byte // blind index of whose events, and of which trigger
	Shape string   // the places of an event that Key is made of, as a JSON list
	Key   [32]byte // blind index of what must stand there
}

// PutListener registers a wait for an event, as [CustomerTx.PutWait] does others.
func (c CustomerTx) PutListener(e id.Execution, w *wire.Wait, l *Listener) error {
	return c.tx.send(`
		INSERT INTO wait (customer_id, execution_id, path, kind, at, key_hash, scope_hash, shape)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (customer_id, execution_id, path) DO UPDATE
		SET kind = excluded.kind, at = excluded.at, key_hash = excluded.key_hash, child_id = NULL, open = TRUE,
			scope_hash = excluded.scope_hash, shape = excluded.shape
		WHERE wait.at <> excluded.at OR wait.kind <> excluded.kind OR wait.key_hash <> excluded.key_hash`,
		c.id[:], e[:], w.Path, int64(w.Kind), micros(w.At), l.Key[:], l.Scope[:], l.Shape)
}

// Shapes lists the shapes that the open waits of a scope have, each once, in order, and at most
// limit of them. It looks at one wait of each.
func (c Customer) Shapes(scope [32]byte, limit int) (list []string, err error) {
	for last := ""; len(list) < limit; list = append(list, last) {
		err := c.q.row(`
			SELECT shape
			FROM wait
			WHERE scope_hash = $1 AND open = TRUE AND shape > $2 AND customer_id = $3
			ORDER BY shape
			LIMIT 1`,
			[]any{scope[:], last, c.id[:]}, &last)
		if isNotFound(err) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Listening lists the open waits for events with a key, of executions that have not ended, in
// order of execution and path.
func (c Customer) Listening(key [32]byte, limit int) ([]Wait, error) {
	var list []Wait
	err := c.q.rows(`
		SELECT w.execution_id, w.path, w.kind, w.at, x.day
		FROM wait AS w
		JOIN execution AS x ON x.customer_id = w.customer_id AND x.execution_id = w.execution_id
		WHERE w.key_hash = $1 AND w.open = TRUE AND w.customer_id = $2 AND w.kind = $3 AND x.finished = 0
		ORDER BY w.execution_id, w.path
		LIMIT $4`,
		[]any{key[:], c.id[:], int64(wire.WaitEvent), int64(limit)}, func(r scanner) error {
			w := Wait{Customer: c.id}
			err := r.Scan(fixed{w.Execution[:]}, &w.Path, &w.Kind, moment{&w.At}, &w.Day)
			list = append(list, w)
			return err
		})
	return list, err
}

// CloseWaits ends every open wait of an execution that will not go on.
func (c CustomerTx) CloseWaits(e id.Execution) error {
	return c.tx.send(`
		UPDATE wait
		SET open = FALSE
		WHERE customer_id = $1 AND execution_id = $2 AND open = TRUE`,
		c.id[:], e[:])
}
