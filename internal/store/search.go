package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// ExecutionInfo is what lists show of an execution: metadata.
type ExecutionInfo struct {
	Execution
	Name    string // of the integration
	Version uint32
	Retries uint32
}

// ExecutionQuery says which executions are found. Zero fields mean any.
type ExecutionQuery struct {
	Customer id.Customer
	Instance id.Instance
	Flow     string
	Status   Status
	Label    [32]byte // index of a value; needs a customer
	From     time.Time
	Until    time.Time
	Test     *bool
	Before   id.Execution // newest first: the page goes on below it
	After    id.Execution // oldest first, when Oldest is set
	Oldest   bool
}

func (q *ExecutionQuery) filter(o id.Org) *filter {
	f := &filter{}
	f.and("c.organization_id = $%d", o[:])
	if !q.Customer.IsZero() {
		f.and("x.customer_id = $%d", q.Customer[:])
	}
	if !q.Instance.IsZero() {
		f.and("x.instance_id = $%d", q.Instance[:])
	}
	if q.Flow != "" {
		f.and("x.flow = $%d", q.Flow)
	}
	if q.Status != "" {
		f.and("x.status = $%d", string(q.Status))
	}
	if q.Label != [32]byte{} {
		f.and("EXISTS (SELECT 1 FROM label l WHERE l.customer_id = x.customer_id AND l.execution_id = x.execution_id AND l.value_hash = $%d)", q.Label[:])
	}
	if !q.From.IsZero() {
		f.and("x.accepted >= $%d", micros(q.From))
	}
	if !q.Until.IsZero() {
		f.and("x.accepted < $%d", micros(q.Until))
	}
	if q.Test != nil {
		f.and("x.test = $%d", *q.Test)
	}
	if !q.Before.IsZero() {
		f.and("x.execution_id < $%d", q.Before[:])
	}
	if !q.After.IsZero() {
		f.and("x.execution_id > $%d", q.After[:])
	}
	return f
}

// Executions finds executions, the newest first unless the query says otherwise.
func (o Org) Executions(q *ExecutionQuery, limit int) ([]ExecutionInfo, error) {
	order := "DESC"
	if q.Oldest {
		order = "ASC"
	}
	return o.executions(q.filter(o.id), order, limit)
}

// Execution reads the metadata of an execution.
func (o Org) Execution(x id.Execution) (*ExecutionInfo, error) {
	f := &filter{}
	f.and("c.organization_id = $%d", o.id[:])
	f.and("x.execution_id = $%d", x[:])
	list, err := o.executions(f, "ASC", 1)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

func (o Org) executions(f *filter, order string, limit int) ([]ExecutionInfo, error) {
	var list []ExecutionInfo
	err := o.q.rows(`
		SELECT x.customer_id, x.execution_id, x.instance_id, x.digest, x.flow, x.trigger_kind, x.event_id, x.status,
			x.interruptions, x.last_seq, x.test, x.accepted, x.first_started, x.finished, x.expires, x.day, x.error_type,
			x.error_step, x.root_id, x.parent_id, x.parent_path, x.cause, x.cause_id, x.retries, COALESCE(g.name, ''),
			COALESCE((SELECT MAX(v.version) FROM integration_version v WHERE v.integration_id = i.integration_id AND v.digest = x.digest), 0)
		FROM execution x
		JOIN customer c ON c.customer_id = x.customer_id
		LEFT JOIN instance i ON i.customer_id = x.customer_id AND i.instance_id = x.instance_id
		LEFT JOIN integration g ON g.integration_id = i.integration_id
		WHERE x.deleted = 0 AND `+f.String()+`
		ORDER BY x.execution_id `+order+`
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x ExecutionInfo
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.ID[:]}, fixed{x.Instance[:]}, fixed{x.Digest[:]}, &x.Flow, &x.Trigger,
				fixed{x.Event[:]}, &x.Status, &x.Interruptions, &x.LastSeq, &x.Test, moment{&x.Accepted}, moment{&x.Started},
				moment{&x.Finished}, moment{&x.Expires}, &x.Day, &x.ErrorType, &x.ErrorStep, fixed{x.Root[:]}, fixed{x.Parent[:]},
				&x.ParentPath, &x.Cause, fixed{x.CauseID[:]}, &x.Retries, &x.Name, &x.Version)
			if err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}
