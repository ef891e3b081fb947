package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Limits of the writer on PostgreSQL.
const (
	// answerLimit is the longest that the server may take to answer; then the connection
	// counts as lost.
	answerLimit = 30 * time.Second
	// reachLimit is how long a write waits for a server that was lost; then it fails.
	reachLimit = 10 * time.Second
	// reachPause is the pause between two attempts.
	reachPause = 100 * time.Millisecond
	// sendLimit is the most statements, and sendBytes the most bytes of arguments, that
	// are sent without having waited for the server.
	sendLimit = 512
	sendBytes = 1 << 20
)

// The statements of a transaction. Its number says after a lost connection whether it
// was committed.
const (
	beginPostgres = `BEGIN ISOLATION LEVEL READ COMMITTED`
	numberOf      = `SELECT pg_current_xact_id()::text`
	commitText    = `COMMIT`
	rollbackText  = `ROLLBACK`
)

// writerPostgres is the writer's connection to PostgreSQL. It is always in pipeline mode:
// statements of which only the success matters are sent together with the next one whose
// answer somebody waits for, or with the commit.
type writerPostgres struct {
	cfg     *pgx.ConnConfig
	log     *slog.Logger
	types   *pgtype.Map
	closing chan struct{} // closed by Store.Close

	conn     *pgconn.PgConn // nil: lost
	pipe     *pgconn.Pipeline
	prepared map[string]*pgconn.StatementDescription

	current int     // the closure that runs
	queued  []asked // the statements that were not answered
	bytes   int     // of their arguments
	begun   bool    // the answer to the begin was read
	// expecting says that one of the statements that were not answered is expected to change a row.
	expecting bool
	number    string
	broken    *failure

	formats []int16  // every value is in its binary form
	values  [][]byte // arguments of one statement, reused
	scratch []byte   // holds the short ones
}

var _ writer = (*writerPostgres)(nil)

// asked is a statement that was not answered.
type asked struct {
	job int  // the closure it belongs to
	one bool // it is expected to change one row
}

// errUnmet means that a statement changed no row that was expected to change one.
var errUnmet = errors.New("a row is not as expected")

func newWriterPostgres(cfg *pgx.ConnConfig, log *slog.Logger) *writerPostgres {
	return &writerPostgres{cfg: cfg, log: log, types: pgtype.NewMap(), closing: make(chan struct{}), formats: []int16{pgtype.BinaryFormatCode}}
}

// connect makes a new connection in place of the last.
func (w *writerPostgres) connect() error {
	w.drop()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, &w.cfg.Config)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	if w.cfg.RuntimeParams["synchronous_commit"] == "" {
		// A server whose default loses commits is overruled; a stricter default is kept.
		err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off'`).Close()
		if err != nil {
			return errors.Join(fmt.Errorf("connect to database: %w", err), conn.Close(ctx))
		}
	}
	w.conn, w.pipe = conn, conn.StartPipeline(context.Background())
	w.prepared = map[string]*pgconn.StatementDescription{}
	return nil
}

// reach connects to a server that was lost, until it answers or patience ends.
func (w *writerPostgres) reach() error {
	for until := time.Now().Add(reachLimit); ; {
		err := w.connect()
		if err == nil || time.Now().After(until) {
			return err
		}
		pause := time.NewTimer(reachPause)
		select {
		case <-pause.C:
		case <-w.closing:
			pause.Stop()
			return err
		}
	}
}

// drop gives up the connection; the server ends its transaction.
func (w *writerPostgres) drop() {
	if w.conn == nil {
		return
	}
	_ = w.conn.Conn().Close() // no farewell: it may block on a lost server
	_ = w.pipe.Close()
	w.conn, w.pipe, w.queued, w.bytes = nil, nil, w.queued[:0], 0
}

func (w *writerPostgres) begin() error {
	w.broken, w.begun, w.number, w.current, w.expecting = nil, false, "", 0, false
	if w.conn == nil {
		if err := w.reach(); err != nil {
			return err
		}
	}
	for _, text := range []string{beginPostgres, numberOf} {
		st, err := w.prepare(text)
		if err != nil {
			return err
		}
		w.queue(st, nil)
	}
	return nil
}

func (w *writerPostgres) job(i int)        { w.current = i }
func (w *writerPostgres) failed() *failure { return w.broken }

func (w *writerPostgres) exec(query string, args []any) (n int64, err error) {
	if err := w.enqueue(query, args); err != nil {
		return 0, err
	}
	tag, err := w.sync(nil)
	return tag.RowsAffected(), err
}

func (w *writerPostgres) send(query string, args []any) (int64, error) {
	if err := w.enqueue(query, args); err != nil {
		return 0, err
	}
	if len(w.queued) >= sendLimit || w.bytes >= sendBytes {
		_, err := w.sync(nil)
		return 1, err
	}
	return 1, nil
}

func (w *writerPostgres) expect(query string, args []any) (bool, error) {
	if err := w.enqueue(query, args); err != nil {
		return false, err
	}
	w.queued[len(w.queued)-1].one = true
	w.expecting = true
	if len(w.queued) >= sendLimit || w.bytes >= sendBytes {
		_, err := w.sync(nil)
		return err == nil, err
	}
	return true, nil
}

func (w *writerPostgres) rows(_ context.Context, query string, args []any, each func(scanner) error) error {
	if err := w.enqueue(query, args); err != nil {
		return err
	}
	_, err := w.sync(each)
	return err
}

func (w *writerPostgres) row(ctx context.Context, query string, args, dest []any) error {
	found := false
	err := w.rows(ctx, query, args, func(r scanner) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// commit finds out what became of a commit whose answer was lost.
func (w *writerPostgres) commit() error {
	if !w.begun || w.expecting { // the number of the transaction must be known before it may be lost
		if _, err := w.sync(nil); err != nil {
			return err
		}
	}
	if err := w.enqueue(commitText, nil); err != nil {
		return err
	}
	tag, err := w.sync(nil)
	switch {
	case err == nil && tag.String() != commitText:
		return fmt.Errorf("the transaction was ended with %v", tag)
	case err == nil, w.conn != nil:
		return err
	}
	w.log.Warn("connection was lost during a commit", "error", err)
	return w.resolve(err)
}

// resolve asks the server whether the transaction was committed.
func (w *writerPostgres) resolve(cause error) error {
	for until := time.Now().Add(reachLimit); ; {
		w.broken = nil
		if err := w.reach(); err != nil {
			return fmt.Errorf("whether it was committed is unknown: %w", errors.Join(cause, err))
		}
		var status sql.NullString
		err := w.row(context.Background(), `SELECT pg_xact_status($1::text::xid8)`, []any{w.number}, []any{&status})
		switch {
		case err != nil:
			w.drop()
		case status.String == "committed":
			return nil
		case status.String == "aborted":
			w.broken = &failure{err: cause, again: true}
			return cause
		}
		// The server has not noticed yet that the connection ended.
		if time.Now().After(until) {
			return fmt.Errorf("whether it was committed is unknown (%q): %w", status.String, errors.Join(cause, err))
		}
		pause := time.NewTimer(reachPause)
		<-pause.C
	}
}

// rollback ends the transaction. A failure of it costs the connection.
func (w *writerPostgres) rollback() {
	if w.conn == nil {
		return
	}
	f := w.broken
	_, _ = w.sync(nil) // what was queued goes with the transaction
	if w.conn != nil {
		w.broken = nil
		if err := w.enqueue(rollbackText, nil); err == nil {
			_, _ = w.sync(nil)
		}
		if w.broken != nil {
			w.drop()
		}
	}
	w.broken = f
}

func (w *writerPostgres) close() error {
	if w.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	_ = w.conn.Conn().SetDeadline(time.Now().Add(connectLimit))
	return errors.Join(w.pipe.Close(), w.conn.Close(ctx))
}

// prepare returns a statement of the connection. It sends what is queued when it is new.
func (w *writerPostgres) prepare(query string) (*pgconn.StatementDescription, error) {
	if st := w.prepared[query]; st != nil {
		return st, nil
	}
	if len(w.queued) > 0 {
		if _, err := w.sync(nil); err != nil {
			return nil, err
		}
	}
	name := fmt.Sprintf("s%d", len(w.prepared))
	w.pipe.SendPrepare(name, query, nil)
	var st *pgconn.StatementDescription
	_, err := w.exchange(func(_ int, result any) error {
		st = result.(*pgconn.StatementDescription)
		return nil
	})
	if err != nil {
		return nil, w.fail(w.current, fmt.Errorf("prepare statement: %w", err))
	}
	st.Name = name
	w.prepared[query] = st
	return st, nil
}

// enqueue adds a statement. Its arguments are copied.
func (w *writerPostgres) enqueue(query string, args []any) error {
	if w.broken != nil {
		return w.broken.err
	}
	if w.conn == nil {
		return w.fail(w.current, errLost)
	}
	st, err := w.prepare(query)
	if err != nil {
		return err
	}
	if len(args) != len(st.ParamOIDs) {
		return w.fail(w.current, fmt.Errorf("statement has %d arguments, want %d", len(args), len(st.ParamOIDs)))
	}
	w.values, w.scratch = w.values[:0], append(w.scratch[:0], 0)
	for i, a := range args {
		v, err := w.encode(st.ParamOIDs[i], a)
		if err != nil {
			return w.fail(w.current, fmt.Errorf("argument %d: %w", i+1, err))
		}
		w.values = append(w.values, v)
		w.bytes += len(v)
	}
	w.queue(st, w.values)
	return nil
}

func (w *writerPostgres) queue(st *pgconn.StatementDescription, values [][]byte) {
	w.pipe.SendQueryStatement(st, values, w.formats[:min(len(values), 1)], w.formats)
	w.queued = append(w.queued, asked{job: w.current})
}

// errLost is for what cannot be sent any more.
var errLost = errors.New("the connection to the database was lost")

// fail notes the first failure of a transaction.
func (w *writerPostgres) fail(job int, err error) error {
	var pg *pgconn.PgError
	known := errors.As(err, &pg)
	lost := w.conn == nil || w.conn.IsClosed() || known && pg.Severity == "FATAL"
	if lost {
		w.drop()
	}
	if w.broken == nil {
		unmet := errors.Is(err, errUnmet)
		w.broken = &failure{job: job, err: err, again: unmet || lost || known && isTransient(pg.Code), unmet: unmet}
	}
	return err
}

// isTransient reports whether another transaction may succeed: one that another server's
// stood in the way of, or that the server could not go on with.
func isTransient(code string) bool {
	switch code {
	case "55P03", "57P01", "57P02", "57P03", "25P03": // lock not available; shutdown, crash, starting up; idle too long
		return true
	}
	return strings.HasPrefix(code, "40") || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53")
}

// sync sends what is queued and reads the answers. It returns the tag of the last one,
// and calls each on the rows of its result.
func (w *writerPostgres) sync(each func(scanner) error) (tag pgconn.CommandTag, err error) {
	if w.conn == nil {
		return tag, w.fail(w.current, errLost)
	}
	queued, stop := w.queued, error(nil)
	at, err := w.exchange(func(i int, result any) (err error) {
		r, ok := result.(*pgconn.ResultReader)
		if !ok {
			return fmt.Errorf("unexpected answer %T", result)
		}
		for r.NextRow() {
			switch {
			case !w.begun && i == 1:
				w.number = string(r.Values()[0])
			case i == len(queued)-1 && each != nil && stop == nil:
				stop = each(pgRow{w.types, r})
			}
		}
		tag, err = r.Close()
		if err == nil && queued[i].one && tag.RowsAffected() != 1 {
			err = errUnmet
		}
		return err
	})
	job := w.current
	if at < len(queued) {
		job = queued[at].job
	}
	w.queued, w.bytes, w.expecting = queued[:0], 0, false
	if err != nil {
		return pgconn.CommandTag{}, w.fail(job, err)
	}
	w.begun = true
	return tag, stop
}

// exchange ends the pipeline's segment and calls each on its answers. A failed statement
// makes the server skip the rest; at is its number.
func (w *writerPostgres) exchange(each func(i int, result any) error) (at int, failed error) {
	_ = w.conn.Conn().SetDeadline(time.Now().Add(answerLimit)) // on a closed connection Sync fails
	if err := w.pipe.Sync(); err != nil {
		w.drop()
		return 0, err
	}
	for i := 0; ; i++ {
		result, err := w.pipe.GetResults()
		if _, ok := result.(*pgconn.PipelineSync); ok {
			return at, failed
		}
		switch {
		case err == nil && result == nil:
			err = errLost
		case err == nil && failed == nil:
			err = each(i, result)
		}
		if err == nil {
			continue
		}
		if failed == nil {
			at, failed = i, err
		}
		if pg := (*pgconn.PgError)(nil); !errors.Is(err, errUnmet) && (!errors.As(err, &pg) || pg.Severity == "FATAL") {
			w.drop()
			return at, failed
		}
	}
}

// pgRow is a row of a result in binary form.
type pgRow struct {
	types *pgtype.Map
	r     *pgconn.ResultReader
}

// Scan copies the columns.
func (r pgRow) Scan(dest ...any) error {
	fields, values := r.r.FieldDescriptions(), r.r.Values()
	if len(dest) != len(values) {
		return fmt.Errorf("result has %d columns, want %d", len(values), len(dest))
	}
	for i, d := range dest {
		var err error
		switch to := d.(type) {
		case fixed:
			if values[i] == nil {
				err = to.Scan(nil)
			} else {
				err = to.Scan(values[i])
			}
		case moment:
			if len(values[i]) != 8 {
				return fmt.Errorf("column %d is no time", i+1)
			}
			err = to.Scan(int64(binary.BigEndian.Uint64(values[i])))
		default:
			err = r.types.Scan(fields[i].DataTypeOID, pgtype.BinaryFormatCode, values[i], d)
		}
		if err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// encode is the binary form of an argument, which is valid until the next statement.
func (w *writerPostgres) encode(oid uint32, a any) ([]byte, error) {
	switch v := a.(type) {
	case nil:
		return nil, nil
	case []byte:
		if oid == pgtype.ByteaOID {
			return v, nil
		}
	case int64:
		if oid == pgtype.Int8OID {
			return w.keep(binary.BigEndian.AppendUint64(w.scratch, uint64(v))), nil
		}
	case string:
		if oid == pgtype.TextOID {
			return w.keep(append(w.scratch, v...)), nil
		}
	}
	b, err := w.types.Encode(oid, pgtype.BinaryFormatCode, a, make([]byte, 0, 16))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b, nil
}

// keep takes a longer scratch over and returns what was added to it. Where it had to
// grow, what was added before stays where its slices point.
func (w *writerPostgres) keep(longer []byte) []byte {
	from := len(w.scratch)
	w.scratch = longer
	return longer[from:]
}
