package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// maxReadPage is the largest page of a read in bytes, before it is sealed.
	maxReadPage = 240 << 10
	// maxReadValue is the largest value that stands in a page itself; of a larger one the page has the size.
	maxReadValue = 160 << 10
	// maxReads is how many reads a worker serves at once, each in memory of up to MaxLoad and its copies.
	maxReads = 4
	// readWait bounds the making of one page.
	readWait = 15 * time.Second
	// maxPermits is how many reads a worker remembers to be permitted.
	maxPermits = 1024
)

var (
	// errStored means that what is stored does not open, or is not what it should be.
	errStored = errors.New("what is stored cannot be read")
	// errPermit means that the lease does not allow a read.
	errPermit = errors.New("the lease does not permit this read")
	// errNothing means that there is nothing of that kind.
	errNothing = errors.New("there is nothing of this kind")
)

// permit is a read that a lease allows until a time.
type permit struct {
	lease.Read
	expires time.Time
}

// permits remembers the read of a lease. The caller holds mu.
func (in *instance) permits(l *lease.Worker) {
	if in.reads == nil || len(in.reads) >= maxPermits {
		in.reads = map[id.View]permit{}
	}
	in.reads[l.Read.View] = permit{*l.Read, l.Expires}
}

// permitted finds the permission for exactly this read.
func (in *instance) permitted(m *wire.Read) (*lease.Read, error) {
	in.mu.Lock()
	p, ok := in.reads[m.View]
	in.mu.Unlock()
	if !ok || !time.Now().Before(p.expires) || p.Execution != m.Execution || p.Kind != m.Kind || m.Customer != in.customer ||
		m.Instance != in.instance || m.Definition != in.digest || m.ConfigVersion != in.configVersion {
		return nil, errPermit
	}
	return &p.Read, nil
}

// read makes a page beside the executions that run.
func (s *server) read(f wire.Frame) error {
	m := &wire.Read{}
	if err := f.Parse(m); err != nil {
		return err
	}
	if s.reads.Add(1) > maxReads {
		s.reads.Add(-1)
		s.write(&wire.ReadPage{View: m.View, Error: wire.ReadUnavailable})
		return nil
	}
	s.wg.Go(func() {
		defer s.reads.Add(-1)
		s.write(s.answerRead(m))
	})
	return nil
}

// answerRead makes the page, or says why there is none.
func (s *server) answerRead(m *wire.Read) *wire.ReadPage {
	page, err := s.makePage(m)
	if err == nil {
		return page
	}
	code := wire.ReadBroken
	switch {
	case errors.Is(err, errPermit):
		code = wire.ReadRefused
	case errors.Is(err, errNothing):
		code = wire.ReadInvalid
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errLate):
		code = wire.ReadUnavailable
	}
	s.log.Error("read not answered", "execution", m.Execution.String(), "kind", m.Kind.String(), "code", code)
	return &wire.ReadPage{View: m.View, Error: code}
}

// reader makes one page. It opens what a lease permits, masks it, and forgets it.
type reader struct {
	m     *wire.Read
	class wire.Class
	x     *execution // that nobody runs: it opens entries and blobs
	mask  *masker
	given expr.Value // the config values as they are stored, secrets included
}

func (s *server) makePage(m *wire.Read) (page *wire.ReadPage, err error) {
	p, err := s.in.permitted(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, readWait)
	defer cancel()
	r := &reader{m: m, class: p.Class}
	r.x = newExecution(s, &wire.UnitExecution{Execution: m.Execution, Day: m.Day, EventID: m.EventID, Flow: m.Flow})
	r.x.reading = true
	defer r.x.cancel(errClosed)
	defer func() {
		r.x.recovered(recover(), "", &err)
	}()
	if m.Day != 0 {
		if r.x.day = s.in.day(lease.Day(m.Day)); r.x.day == nil {
			return nil, errPermit
		}
	}
	if len(m.Config) == 0 {
		return nil, errStored // nobody would know what to mask
	}
	if r.given, err = s.in.givenConfig(m.Config, m.ConfigVersion); err != nil {
		return nil, errStored
	}
	r.mask = newMasker(s.in.definition, r.given, r.class)
	plain, next, err := r.content(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Seal(p.Key, lease.PurposeView, lease.ReadPlace(m.View, m.Instance, m.Execution, m.Kind, m.Cursor), plain)
	if err != nil {
		return nil, fmt.Errorf("seal page: %w", err)
	}
	return &wire.ReadPage{View: m.View, Next: next, Sealed: sealed}, nil
}

// content is the plain page. What is for the server only is not masked: it holds nothing that a viewer chooses.
func (r *reader) content(ctx context.Context) (plain []byte, next uint64, err error) {
	switch r.m.Kind {
	case wire.ReadReply:
		if r.class != wire.ClassServer || len(r.m.Rows) != 1 || r.m.Rows[0].Kind != wire.EntryReply {
			return nil, 0, errNothing
		}
		plain, err = r.x.openEntry(&r.m.Rows[0].Entry)
		return plain, 0, err
	case wire.ReadResolve:
		if r.class != wire.ClassServer {
			return nil, 0, errPermit
		}
		plain, err = r.resolve(ctx)
		return plain, 0, err
	case wire.ReadConfig:
		plain, err = r.config()
		return plain, 0, err
	}
	if r.x.day == nil || r.m.Execution.IsZero() {
		return nil, 0, errNothing
	}
	return r.rows(ctx)
}

// rows makes items of as many rows as fit into a page, at least one.
func (r *reader) rows(ctx context.Context) ([]byte, uint64, error) {
	b := append(make([]byte, 0, 4096), `{"items":[`...)
	attempt := uint32(0)
	for i := range r.m.Rows {
		row := &r.m.Rows[i]
		items, err := r.items(ctx, row, &attempt)
		if err != nil {
			return nil, 0, err
		}
		start := len(b)
		for n := range items {
			j, err := json.Marshal(&items[n])
			if err != nil {
				return nil, 0, fmt.Errorf("encode page: %w", err)
			}
			if b[len(b)-1] != '[' {
				b = append(b, ',')
			}
			b = append(b, j...)
		}
		if len(b) > maxReadPage && i > 0 {
			b = append(b[:start], `]}`...)
			return b, uint64(r.m.Rows[i-1].Seq), nil
		}
	}
	return append(b, `]}`...), 0, nil
}

// items are what one row shows.
func (r *reader) items(ctx context.Context, row *wire.Sealed, attempt *uint32) ([]wire.Item, error) {
	switch r.m.Kind {
	case wire.ReadEvent:
		plain, err := r.event(ctx, row.Body)
		if r.x.derived() {
			plain = []byte(`"` + masked + `"`)
		}
		return r.one("event", row, plain, err)
	case wire.ReadOutput:
		plain, err := r.x.day.opener.Open(nil, lease.OutputPlace(r.x.in.customer, r.m.Execution, row.Status), row.Body)
		kind := "output"
		if row.Status != wire.StatusCompleted {
			kind = "error"
		}
		return r.one(kind, row, plain, err)
	case wire.ReadLabels:
		plain, err := r.x.day.opener.Open(nil, lease.LabelPlace(r.x.in.customer, r.m.Execution, row.Path), row.Body)
		if err == nil {
			plain, err = json.Marshal(string(plain))
		}
		return r.one("label", row, plain, err)
	case wire.ReadLogs:
		return r.logs(row)
	case wire.ReadStep:
		return r.entry(ctx, row, attempt)
	}
	return nil, errNothing
}

// one is an item of a JSON value: itself, a range of it, or its size. A faulty row is an error of what is stored.
func (r *reader) one(kind string, row *wire.Sealed, plain []byte, err error) ([]wire.Item, error) {
	if err != nil {
		return nil, readError(err)
	}
	if plain, err = r.mask.json(plain); err != nil {
		return nil, err
	}
	item := wire.Item{Kind: kind, Path: row.Path, Seq: row.Seq}
	size := uint64(len(plain))
	switch {
	case r.m.Length > 0:
		from := min(r.m.Offset, size)
		n := min(r.m.Length, size-from, maxReadValue)
		item.Size, item.Offset, item.Data = size, from, plain[from:from+n]
	case size > maxReadValue:
		item.Size = size
	default:
		item.Value = plain
	}
	return []wire.Item{item}, nil
}

// readError keeps what says why a read ended, and hides the rest.
func readError(err error) error {
	if f, ok := err.(*fault); ok && f.Type == typeTimeout { //nolint:errorlint // never wrapped
		return fmt.Errorf("%w: %s", errLate, f.Message)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errNothing) {
		return err
	}
	return errStored
}

// event opens the event, wherever its JSON is.
func (r *reader) event(ctx context.Context, sealed []byte) ([]byte, error) {
	plain, err := r.x.day.opener.Open(nil, lease.EventPlace(r.x.in.customer, r.m.EventID, lease.Day(r.m.Day)), sealed)
	if err != nil {
		return nil, err
	}
	ref, err := wire.ParseEventRef(plain)
	if err != nil || ref == nil {
		return plain, err
	}
	give, err := r.x.s.room.take(ctx, int64(min(ref.Size, MaxLoad)))
	if err != nil {
		return nil, err
	}
	defer give()
	return r.x.loadBlob(ctx, ref)
}

// entry is an item of a journal entry. What only the platform needs has no value: the token of a callback is among it.
func (r *reader) entry(ctx context.Context, row *wire.Sealed, attempt *uint32) ([]wire.Item, error) {
	switch row.Kind {
	case wire.EntryResult:
		v, err := r.x.pastResult(ctx, &row.Entry)
		return r.result(row, v, err)
	case wire.EntryFault:
		plain, err := r.x.openEntry(&row.Entry)
		return r.one("fault", row, plain, err)
	case wire.EntryAttempt:
		*attempt++
		plain, err := r.x.openEntry(&row.Entry)
		var one try
		if err == nil {
			err = json.Unmarshal(plain, &one)
		}
		items, err := r.one("attempt", row, one.Error, err)
		if err == nil {
			items[0].Attempt = *attempt
		}
		return items, err
	case wire.EntryClock:
		plain, err := r.x.openEntry(&row.Entry)
		if err == nil && len(plain) != 8 {
			err = errStored
		}
		if err == nil {
			at := time.UnixMicro(int64(binary.BigEndian.Uint64(plain))).UTC()
			plain, err = json.Marshal(at)
		}
		return r.one("clock", row, plain, err)
	case wire.EntryIntent:
		return []wire.Item{{Kind: "intent", Path: row.Path, Seq: row.Seq}}, nil
	case wire.EntryCheckpoint:
		if !isRound(row.Path) {
			return nil, nil // the mark of a loop
		}
		v, err := r.x.pastRound(ctx, &row.Entry)
		if f, ok := caught(err); ok {
			return r.one("fault", row, f.appendJSON(), nil)
		}
		return r.result(row, v, err)
	}
	return nil, errNothing
}

// result is an item of what a step or a round of a loop gave.
func (r *reader) result(row *wire.Sealed, v expr.Value, err error) ([]wire.Item, error) {
	if err != nil {
		return nil, readError(err)
	}
	if r.x.derived() {
		return r.one("result", row, []byte(`"`+masked+`"`), nil)
	}
	if v == nil {
		v = expr.Null()
	}
	plain, err := appendJSON(nil, v)
	return r.one("result", row, plain, err)
}

// logs are the lines of one row.
func (r *reader) logs(row *wire.Sealed) ([]wire.Item, error) {
	if row.Kind != wire.EntryLog {
		return nil, errNothing
	}
	plain, err := r.x.openEntry(&row.Entry)
	var page wire.LogPage
	if err == nil {
		err = wire.ParseBody(plain, &page)
	}
	if err != nil {
		return nil, readError(err)
	}
	items := make([]wire.Item, 0, len(page.Lines))
	for i := range page.Lines {
		line, err := json.Marshal(&page.Lines[i])
		if err != nil {
			return nil, errStored
		}
		one, err := r.one("log", row, line, nil)
		if err != nil {
			return nil, err
		}
		items = append(items, one...)
	}
	return items, nil
}

// config shows the config values: a secret as set or not, and to a customer nothing of what only the organization sees.
func (r *reader) config() ([]byte, error) {
	c := wire.Content{Items: []wire.Item{}}
	size := 0
	for i := range r.x.in.definition.Config {
		v := &r.x.in.definition.Config[i]
		value, set := expr.Lookup(r.given, v.Name)
		set = set && expr.Kind(value) != expr.KindNull
		item := wire.Item{Kind: "config", Path: v.Name}
		switch {
		case hidden(v, r.class) && !isSecret(v):
			continue
		case !set && isSecret(v):
			item.Value = []byte("null")
		case isSecret(v):
			item.Value = []byte(`"` + masked + `"`)
		default:
			plain, err := r.configValue(v, value, set)
			if err != nil {
				return nil, err
			}
			if size += len(plain); size > maxReadValue {
				item.Size = uint64(len(plain))
			} else {
				item.Value = plain
			}
		}
		c.Items = append(c.Items, item)
	}
	return json.Marshal(&c)
}
