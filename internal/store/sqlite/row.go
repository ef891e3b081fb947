package sqlite

import (
	"database/sql"
	"fmt"
	"reflect"
	"unsafe"

	sqlite3 "modernc.org/sqlite/lib"
)

// Row is a row of a result. It is valid until the function that got it returns.
type Row struct{ s *Stmt }

// Scan copies the columns to pointers to int64, string, []byte, bool or other types of these
// kinds, or to a [sql.Scanner]. NULL becomes the zero value of a pointer's type.
func (r Row) Scan(dest ...any) error {
	if len(dest) != r.s.columns {
		return fmt.Errorf("sqlite: result has %d columns, want %d", r.s.columns, len(dest))
	}
	for i, d := range dest {
		var err error
		at := int32(i)
		switch to := d.(type) {
		case *int64:
			*to = r.integer(at)
		case *uint64:
			*to = uint64(r.integer(at))
		case *uint32:
			err = narrow(to, r.integer(at))
		case *bool:
			*to = r.integer(at) != 0
		case *string:
			*to = string(r.text(at))
		case *[]byte:
			*to = r.bytes(at)
		case sql.Scanner:
			err = to.Scan(r.value(at))
		default:
			err = r.reflected(at, d)
		}
		if err != nil {
			return fmt.Errorf("sqlite: column %d: %w", i+1, err)
		}
	}
	return nil
}

// narrow stores a number where it has room.
func narrow(to *uint32, n int64) error {
	if *to = uint32(n); int64(*to) != n {
		return fmt.Errorf("%d is out of range", n)
	}
	return nil
}

// reflected stores a column where a type of the caller is.
func (r Row) reflected(at int32, d any) error {
	v := reflect.ValueOf(d)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("%w: %T", ErrType, d)
	}
	v = v.Elem()
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := r.integer(at)
		if v.OverflowInt(n) {
			return fmt.Errorf("%d is out of range", n)
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := r.integer(at)
		if v.OverflowUint(uint64(n)) {
			return fmt.Errorf("%d is out of range", n)
		}
		v.SetUint(uint64(n))
	case reflect.Bool:
		v.SetBool(r.integer(at) != 0)
	case reflect.String:
		v.SetString(string(r.text(at)))
	default:
		if v.Type().ConvertibleTo(reflect.TypeFor[[]byte]()) && v.Kind() == reflect.Slice {
			v.SetBytes(r.bytes(at))
			return nil
		}
		return fmt.Errorf("%w: %T", ErrType, d)
	}
	return nil
}

// value is a column as a [sql.Scanner] gets it. It is a copy.
func (r Row) value(at int32) any {
	switch sqlite3.Xsqlite3_column_type(r.s.c.tls, r.s.p, at) {
	case sqlite3.SQLITE_INTEGER:
		return r.integer(at)
	case sqlite3.SQLITE_FLOAT:
		return sqlite3.Xsqlite3_column_double(r.s.c.tls, r.s.p, at)
	case sqlite3.SQLITE_TEXT:
		return string(r.text(at))
	case sqlite3.SQLITE_BLOB:
		return r.bytes(at)
	}
	return nil
}

func (r Row) integer(at int32) int64 { return sqlite3.Xsqlite3_column_int64(r.s.c.tls, r.s.p, at) }

// text is a view of a column.
func (r Row) text(at int32) []byte {
	return r.view(at, sqlite3.Xsqlite3_column_text(r.s.c.tls, r.s.p, at))
}

// bytes is a copy of a column: nil for NULL, not nil for an empty one.
func (r Row) bytes(at int32) []byte {
	if sqlite3.Xsqlite3_column_type(r.s.c.tls, r.s.p, at) == sqlite3.SQLITE_NULL {
		return nil
	}
	return append([]byte{}, r.view(at, sqlite3.Xsqlite3_column_blob(r.s.c.tls, r.s.p, at))...)
}

// view is what the library holds at a pointer for a column.
func (r Row) view(at int32, p uintptr) []byte {
	n := sqlite3.Xsqlite3_column_bytes(r.s.c.tls, r.s.p, at)
	if p == 0 || n <= 0 {
		return nil
	}
	// It is the library's memory, which the collector knows nothing of and never moves.
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n)
}
