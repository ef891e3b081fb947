package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Schedule is when a flow with a schedule or a poll starts next.
type Schedule struct {
	Customer      id.Customer
	Instance      id.Instance
	Flow          string
	Kind          string // schedule or poll; KindDeploy
	Cron          string // or Every
	Timezone      string // IANA name
	Every         time.Duration
	Jitter        time.Duration // each start is delayed by up to this
	Plan          PlanState     // of NextRun
	NextRun       time.Time     // when Plan says that there is one
	LastRun       time.Time     // zero: it has not run
	LastExecution id.Execution  // that it started last
	Revision      uint64        // counts changes
}

// PlanState says whether a schedule has a next run.
type PlanState int8

// The states of a plan.
const (
	Unplanned PlanState = iota // its times have to be found out
	Planned
	Unplannable // its times are no times, until the instance changes
)

// nextRun is the column of a plan: a time, 0 for none yet and -1 for never.
func (s *Schedule) nextRun() int64 {
	switch s.Plan {
	case Planned:
		return micros(s.NextRun)
	case Unplannable:
		return -1
	default:
		return 0
	}
}

// PutSchedule makes the schedule of a flow, or has the times of the one that it has found
// out again: what it says about them stays until then.
func (c CustomerTx) PutSchedule(i id.Instance, flow, kind string) error {
	return c.tx.send(`
		INSERT INTO schedule (customer_id, instance_id, flow, kind, shard, next_run)
		VALUES ($1, $2, $3, $4, $5, 0)
		ON CONFLICT (customer_id, instance_id, flow) DO UPDATE
		SET kind = excluded.kind, next_run = 0, revision = schedule.revision + 1`,
		c.id[:], i[:], flow, kind, int64(ShardOf(c.id)))
}

// KindDeploy is the kind of a schedule that runs once: when its instance is enabled first.
// It stays when it has run, so that the flow does not run again.
const KindDeploy = "deploy"

// PutDeployRun has the flow with a deploy trigger run at a time, or for the zero time when
// [CustomerTx.ArmDeployRuns] says so, unless it has run already.
func (c CustomerTx) PutDeployRun(i id.Instance, flow string, at time.Time) error {
	return c.putRun(i, flow, at, `WHERE schedule.kind <> 'deploy' OR schedule.last_run = 0`)
}

// PutRun has a flow that keeps a subscription as it should be run once more, at a time or, for
// the zero time, when [CustomerTx.ArmDeployRuns] says so.
func (c CustomerTx) PutRun(i id.Instance, flow string, at time.Time) error {
	return c.putRun(i, flow, at, "")
}

// putRun plans one run of a flow, over the schedule that it has where the condition holds.
func (c CustomerTx) putRun(i id.Instance, flow string, at time.Time, condition string) error {
	s := Schedule{Plan: Unplannable, NextRun: at}
	if !at.IsZero() {
		s.Plan = Planned
	}
	return c.tx.send(`
		INSERT INTO schedule (customer_id, instance_id, flow, kind, shard, next_run)
		VALUES ($1, $2, $3, 'deploy', $4, $5)
		ON CONFLICT (customer_id, instance_id, flow) DO UPDATE
		SET kind = 'deploy', next_run = excluded.next_run, last_run = 0, revision = schedule.revision + 1
		`+condition,
		c.id[:], i[:], flow, int64(ShardOf(c.id)), s.nextRun())
}

// ArmDeployRuns has the deploy flows of an instance that have not run yet run at a time, and
// those that keep a subscription as it should be, whose time may be over, whether they have run
// or not.
func (c CustomerTx) ArmDeployRuns(i id.Instance, at time.Time) error {
	return c.tx.send(`
		UPDATE schedule
		SET next_run = $3, last_run = 0, revision = revision + 1
		WHERE customer_id = $1 AND instance_id = $2 AND kind = 'deploy' AND (last_run = 0 OR flow LIKE '%$subscribe')`,
		c.id[:], i[:], micros(at))
}

// UnplanSchedules has the times of all schedules of the customer found out again.
func (c CustomerTx) UnplanSchedules() error {
	return c.tx.send(`UPDATE schedule SET next_run = 0, revision = revision + 1 WHERE customer_id = $1 AND kind <> 'deploy'`, c.id[:])
}

// DeleteSchedule forgets the schedule of a flow.
func (c CustomerTx) DeleteSchedule(i id.Instance, flow string) error {
	return c.tx.send(`DELETE FROM schedule WHERE customer_id = $1 AND instance_id = $2 AND flow = $3`, c.id[:], i[:], flow)
}

// ChangeSchedule stores a schedule if its revision is still s.Revision, which it counts up.
// It reports whether it did: of two servers one does.
func (c CustomerTx) ChangeSchedule(s *Schedule) (bool, error) {
	n, err := c.tx.exec(`
		UPDATE schedule
		SET cron = $4, timezone = $5, every = $6, jitter = $7, next_run = $8, last_run = $9, last_execution_id = $10,
			revision = revision + 1
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3 AND revision = $11`,
		c.id[:], s.Instance[:], s.Flow, s.Cron, s.Timezone, s.Every.Microseconds(), s.Jitter.Microseconds(), s.nextRun(),
		micros(s.LastRun), optional(s.LastExecution[:]), int64(s.Revision))
	return n > 0, err
}

// seenAgain is how much longer an item must be remembered before that is written down: once
// a day, and not each time that it is seen.
const seenAgain = 24 * time.Hour

// SeeItem remembers an item that a poll found until a time, and reports whether it was
// remembered already.
func (c CustomerTx) SeeItem(i id.Instance, flow string, key [32]byte, e id.Execution, now, until time.Time) (bool, error) {
	var known time.Time
	err := c.q.row(`
		SELECT until
		FROM dedupe
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3 AND key_hash = $4`,
		[]any{c.id[:], i[:], flow, key[:]}, moment{&known})
	if err != nil && !isNotFound(err) {
		return false, err
	}
	seen := err == nil && known.After(now)
	if seen && until.Sub(known) < seenAgain {
		return true, nil
	}
	err = c.tx.send(`
		INSERT INTO dedupe (customer_id, instance_id, flow, key_hash, execution_id, until)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (customer_id, instance_id, flow, key_hash) DO UPDATE
		SET until = excluded.until`,
		c.id[:], i[:], flow, key[:], e[:], micros(until))
	return seen, err
}

// scheduleColumns are the columns in the order of scanSchedule.
const scheduleColumns = `customer_id, instance_id, flow, kind, cron, timezone, every, jitter, next_run, last_run, last_execution_id, revision`

func scanSchedule(r scanner) (*Schedule, error) {
	s := &Schedule{}
	var next, every, jitter int64
	err := r.Scan(fixed{s.Customer[:]}, fixed{s.Instance[:]}, &s.Flow, &s.Kind, &s.Cron, &s.Timezone, &every, &jitter, &next,
		moment{&s.LastRun}, fixed{s.LastExecution[:]}, &s.Revision)
	if err != nil {
		return nil, err
	}
	s.Every, s.Jitter = time.Duration(every)*time.Microsecond, time.Duration(jitter)*time.Microsecond
	switch {
	case next > 0:
		s.Plan, s.NextRun = Planned, fromMicros(next)
	case next < 0:
		s.Plan = Unplannable
	}
	return s, nil
}

// Schedules lists the schedules of an instance, in order of the flows' names.
func (c Customer) Schedules(i id.Instance) ([]*Schedule, error) {
	return schedules(c.q, `
		SELECT `+scheduleColumns+`
		FROM schedule
		WHERE customer_id = $1 AND instance_id = $2
		ORDER BY flow`,
		c.id[:], i[:])
}

// DueSchedules lists the schedules of a server's shards whose next run is not after until,
// the earliest first, from behind one of them on; nil: from the first. Those that cannot run
// now do not keep the others from being found.
func (s System) DueSchedules(server id.Node, until time.Time, after *Schedule, limit int) ([]*Schedule, error) {
	if after == nil {
		after = &Schedule{}
	}
	return schedules(s.q, `
		SELECT `+scheduleColumns+`
		FROM schedule
		WHERE next_run >= 1 AND next_run <= $1 AND (next_run, customer_id, instance_id, flow) > ($2, $3, $4, $5)
			AND shard IN (SELECT shard FROM shard_lease WHERE server_id = $7)
		ORDER BY next_run, customer_id, instance_id, flow
		LIMIT $6`,
		micros(until), after.nextRun(), after.Customer[:], after.Instance[:], after.Flow, int64(limit), server[:])
}

// UnplannedSchedules lists schedules of a server's shards whose times have to be found out,
// from behind one of them on; nil: from the first.
func (s System) UnplannedSchedules(server id.Node, after *Schedule, limit int) ([]*Schedule, error) {
	if after == nil {
		after = &Schedule{}
	}
	return schedules(s.q, `
		SELECT `+scheduleColumns+`
		FROM schedule
		WHERE next_run >= 0 AND next_run <= 0 AND (customer_id, instance_id, flow) > ($1, $2, $3)
			AND shard IN (SELECT shard FROM shard_lease WHERE server_id = $5)
		ORDER BY customer_id, instance_id, flow
		LIMIT $4`,
		after.Customer[:], after.Instance[:], after.Flow, int64(limit), server[:])
}

func schedules(q querier, query string, args ...any) ([]*Schedule, error) {
	var list []*Schedule
	err := q.rows(query, args, func(r scanner) error {
		s, err := scanSchedule(r)
		if err == nil {
			list = append(list, s)
		}
		return err
	})
	return list, err
}
