package trigger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // time zones are the same on every host

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errNeedsConfig means that a worker must be asked for the times of a flow.
var errNeedsConfig = errors.New("the times depend on the config")

// timesOf are the times of a flow as far as they can be told without its config.
func timesOf(f *flow.Flow, c *store.CustomerRow) (wire.ResolvedSchedule, error) {
	r := wire.ResolvedSchedule{Flow: f.Name, Kind: string(f.Trigger.Kind())}
	var cron, zone, every flow.Value
	if s := f.Trigger.Schedule; s != nil {
		cron, zone, every, r.Jitter = s.Cron, s.Timezone, s.Every, s.Jitter.Std()
	} else {
		every = f.Trigger.Poll.Every
	}
	var err error
	if r.Cron, err = literalText(&cron, c); err != nil {
		return r, err
	}
	if r.Timezone, err = literalText(&zone, c); err != nil {
		return r, err
	}
	text, err := literalText(&every, c)
	if err != nil || text == "" {
		return r, err
	}
	d, err := flow.ParseDuration(text)
	if err != nil {
		r.Problem = "every is no duration"
	}
	r.Every = d.Std()
	return r, nil
}

// literalText is the text of a value that is a text, or made of references of customer.
func literalText(v *flow.Value, c *store.CustomerRow) (string, error) {
	switch v.Kind {
	case flow.Absent:
		return "", nil
	case flow.String:
		return v.Text, nil
	case flow.Template, flow.Expression:
	default:
		return "", errNeedsConfig
	}
	var b strings.Builder
	for i := range v.Parts {
		p := &v.Parts[i]
		if p.Expr == nil {
			b.WriteString(p.Text)
			continue
		}
		text, ok := customerText(p.Expr.Reference, c)
		if !ok {
			return "", errNeedsConfig
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// customerText is the text of a reference such as customer.timezone.
func customerText(path []string, c *store.CustomerRow) (string, bool) {
	if len(path) < 2 || path[0] != "customer" {
		return "", false
	}
	switch {
	case len(path) == 2 && path[1] == "timezone":
		return c.Timezone, true
	case len(path) == 2 && path[1] == "locale":
		return c.Locale, true
	case len(path) == 3 && path[1] == "attributes":
		var all map[string]any
		text, ok := "", json.Unmarshal(c.Attributes, &all) == nil
		if ok {
			text, ok = all[path[2]].(string)
		}
		return text, ok
	}
	return "", false
}

// plan gives a schedule its times, and its next run after now. A plan that is as it was keeps
// its rhythm; what is no plan is an error, whose text may be shown.
func plan(s *store.Schedule, r *wire.ResolvedSchedule, now time.Time) error {
	if r.Problem != "" {
		return errors.New(r.Problem)
	}
	zone := r.Timezone
	if zone == "" {
		zone = "UTC"
	}
	same := s.Cron == r.Cron && s.Timezone == zone && s.Every == r.Every
	s.Cron, s.Timezone, s.Every, s.Jitter = r.Cron, zone, r.Every, max(0, min(r.Jitter, flow.MaxJitter))
	switch {
	case s.Cron == "" && s.Every == 0:
		return errors.New("neither cron nor every is set")
	case s.Cron == "" && (s.Every < flow.MinPoll || s.Every > flow.MaxWait):
		return fmt.Errorf("every is not between %v and %v", flow.MinPoll, flow.MaxWait)
	}
	from := now
	if s.Every > 0 {
		switch {
		case same && !s.LastRun.IsZero():
			from = s.LastRun
		case s.Kind == string(flow.TriggerPoll):
			from = now.Add(-s.Every) // the first poll is at once
		}
	}
	return advance(s, from, now)
}

// advance sets the next run of a schedule: after now, in the rhythm of from. A poll that is
// due is due at once.
func advance(s *store.Schedule, from, now time.Time) error {
	var at time.Time
	if s.Cron != "" {
		c, err := flow.ParseCron(s.Cron)
		if err != nil {
			return err
		}
		if s.Timezone == "Local" {
			return errors.New("the time zone is none")
		}
		zone, err := time.LoadLocation(s.Timezone)
		if err != nil {
			return errors.New("the time zone is none")
		}
		if at, err = c.Next(now, zone); err != nil {
			return err
		}
	} else {
		at = from.Add(s.Every)
		if late := now.Sub(at); late > 0 {
			at = at.Add(late.Truncate(s.Every) + s.Every)
		}
	}
	s.Plan = store.Planned
	s.NextRun = at.UTC().Add(delay(s, s.Revision+1)).Truncate(time.Microsecond)
	return nil
}

// delay is the jitter of the run that was planned with a revision of a schedule: the same
// whoever computes it.
func delay(s *store.Schedule, revision uint64) time.Duration {
	if s.Jitter <= 0 {
		return 0
	}
	b := append(append([]byte("jitter/1"), s.Instance[:]...), s.Flow...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, revision))
	return time.Duration(binary.BigEndian.Uint64(sum[:8]) % uint64(s.Jitter)).Truncate(time.Microsecond)
}

// planned is the time that the next run of a schedule stands for, without its jitter.
func planned(s *store.Schedule) time.Time { return s.NextRun.Add(-delay(s, s.Revision)) }
