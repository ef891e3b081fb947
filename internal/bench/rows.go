package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// rows reads from the platform's database when executions were accepted and finished. It
// only reads, while the platform writes.
type rows struct{ db *sql.DB }

// openRows opens the database below a state directory, or that of a URL.
func openRows(state, database string) (*rows, error) {
	driver, name := "pgx", database
	if database == "" {
		driver, name = "sqlite", "file:"+filepath.Join(state, "server", "bulkhead.db")+"?mode=ro&_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(1)
	return &rows{db}, nil
}

// finished waits until every execution that was accepted since a time has ended, and returns
// how long each took, in microseconds. One that did not complete is an error.
func (r *rows) finished(ctx context.Context, since time.Time) ([]float64, error) {
	for until := time.Now().Add(quiet); ; {
		var open, bad int
		err := r.db.QueryRowContext(ctx, `
			SELECT COALESCE(SUM(CASE WHEN finished = 0 THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN status IN ('faulted', 'cancelled') THEN 1 ELSE 0 END), 0)
			FROM execution
			WHERE accepted >= $1`, since.UnixMicro()).Scan(&open, &bad)
		if err != nil {
			return nil, fmt.Errorf("count executions: %w", err)
		}
		if bad > 0 {
			return nil, fmt.Errorf("%d executions did not complete", bad)
		}
		if open == 0 {
			return r.times(ctx, since)
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%d executions do not end", open)
		}
		pause := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		case <-pause.C:
		}
	}
}

func (r *rows) times(ctx context.Context, since time.Time) (out []float64, err error) {
	list, err := r.db.QueryContext(ctx, `
		SELECT finished - accepted
		FROM execution
		WHERE accepted >= $1`, since.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("read executions: %w", err)
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	for list.Next() {
		var took float64
		if err := list.Scan(&took); err != nil {
			return nil, fmt.Errorf("read executions: %w", err)
		}
		out = append(out, took)
	}
	return out, list.Err()
}
