package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"unsafe"

	sqlite3 "modernc.org/sqlite/lib"
)

// Stmt is a prepared statement.
type Stmt struct {
	c       *Conn
	p       uintptr
	params  int   // arguments
	places  []int // by parameter, which argument it is
	columns int
	args    []any // of the call that runs
}

// ErrType is an argument or a destination of a type that is not supported.
var ErrType = errors.New("unsupported type")

// zero is what an empty value points to: SQLite takes no pointer for NULL.
const zero = "\x00"

func textPointer(s string) uintptr {
	if s == "" {
		s = zero
	}
	return uintptr(unsafe.Pointer(unsafe.StringData(s)))
}

func bytesPointer(b []byte) uintptr {
	if len(b) == 0 {
		return textPointer("")
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// Exec runs the statement to its end and returns how many rows it changed.
func (s *Stmt) Exec(args []any) (int64, error) {
	if err := s.bind(args); err != nil {
		return 0, err
	}
	code := sqlite3.Xsqlite3_step(s.c.tls, s.p)
	for code == sqlite3.SQLITE_ROW {
		code = sqlite3.Xsqlite3_step(s.c.tls, s.p)
	}
	if err := s.end(code); err != nil {
		return 0, err
	}
	return int64(sqlite3.Xsqlite3_changes(s.c.tls, s.c.db)), nil
}

// Query runs the statement and calls each on its rows, until it returns an error. It must
// not use the statement.
func (s *Stmt) Query(args []any, each func(Row) error) error {
	if err := s.bind(args); err != nil {
		return err
	}
	var stop error
	code := sqlite3.Xsqlite3_step(s.c.tls, s.p)
	for code == sqlite3.SQLITE_ROW && stop == nil {
		if stop = each(Row{s}); stop == nil {
			code = sqlite3.Xsqlite3_step(s.c.tls, s.p)
		}
	}
	if stop != nil {
		code = sqlite3.SQLITE_DONE
	}
	return errors.Join(stop, s.end(code))
}

// end makes the statement ready for the next use.
func (s *Stmt) end(code int32) error {
	var err error
	if code != sqlite3.SQLITE_DONE {
		err = s.c.fail(code)
	}
	sqlite3.Xsqlite3_reset(s.c.tls, s.p)
	clear(s.args) // what is still bound is bound anew before it is read again
	return err
}

// bind gives the arguments to the statement, which reads them where they are. They are kept
// in the statement, so that none is on a stack, which may move.
func (s *Stmt) bind(args []any) error {
	if len(args) != s.params {
		return fmt.Errorf("sqlite: statement has %d arguments, want %d", len(args), s.params)
	}
	s.args = append(s.args[:0], args...)
	for i, n := range s.places {
		code, err := s.bindOne(int32(i+1), &s.args[n])
		if err != nil {
			return err
		}
		if code != sqlite3.SQLITE_OK {
			return s.c.fail(code)
		}
	}
	return nil
}

func (s *Stmt) bindOne(at int32, a *any) (int32, error) {
	for {
		switch v := (*a).(type) {
		case nil:
			return sqlite3.Xsqlite3_bind_null(s.c.tls, s.p, at), nil
		case int64:
			return sqlite3.Xsqlite3_bind_int64(s.c.tls, s.p, at, v), nil
		case float64:
			return sqlite3.Xsqlite3_bind_double(s.c.tls, s.p, at, v), nil
		case bool:
			n := int64(0)
			if v {
				n = 1
			}
			return sqlite3.Xsqlite3_bind_int64(s.c.tls, s.p, at, n), nil
		case string:
			return sqlite3.Xsqlite3_bind_text(s.c.tls, s.p, at, textPointer(v), int32(len(v)), 0), nil
		case []byte:
			if v == nil {
				return sqlite3.Xsqlite3_bind_null(s.c.tls, s.p, at), nil
			}
			return sqlite3.Xsqlite3_bind_blob(s.c.tls, s.p, at, bytesPointer(v), int32(len(v)), 0), nil
		}
		plain, err := driver.DefaultParameterConverter.ConvertValue(*a)
		if err != nil {
			return 0, fmt.Errorf("sqlite: argument %d: %w", at, err)
		}
		switch plain.(type) {
		case nil, int64, float64, bool, string, []byte:
		default:
			return 0, fmt.Errorf("sqlite: argument %d: %w: %T", at, ErrType, plain)
		}
		*a = plain
	}
}
