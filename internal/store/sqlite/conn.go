package sqlite

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Conn is a connection to a database. Make one with [Open]; it must be closed.
type Conn struct {
	tls    *libc.TLS
	db     uintptr
	result *uintptr // for what the library gives by reference; never on a stack
	stmts  map[string]*Stmt
}

// Error is what SQLite answered.
type Error struct {
	Code    int // extended result code
	Message string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("sqlite: %s (%d)", e.Message, e.Code) }

// errLibrary is an answer that the library cannot explain.
func errLibrary(tls *libc.TLS, code int32) *Error {
	return &Error{int(code), libc.GoString(sqlite3.Xsqlite3_errstr(tls, code))}
}

// Open connects to an existing file. Who finds it locked by another process waits for busy.
func Open(path string, busy time.Duration) (*Conn, error) {
	c := &Conn{tls: libc.NewTLS(), result: new(uintptr), stmts: map[string]*Stmt{}}
	name, err := libc.CString(path)
	if err != nil {
		c.tls.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer libc.Xfree(c.tls, name)
	// Without a mutex: there is one goroutine.
	code := sqlite3.Xsqlite3_open_v2(c.tls, name, c.reference(), sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_NOMUTEX, 0)
	c.db = *c.result
	if code == sqlite3.SQLITE_OK {
		code = sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	}
	if code == sqlite3.SQLITE_OK {
		code = sqlite3.Xsqlite3_busy_timeout(c.tls, c.db, int32(busy.Milliseconds()))
	}
	if code != sqlite3.SQLITE_OK {
		err := c.fail(code)
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// reference is where the library stores a result.
func (c *Conn) reference() uintptr { return uintptr(unsafe.Pointer(c.result)) }

// fail is the error of the last call.
func (c *Conn) fail(code int32) *Error {
	if c.db == 0 {
		return errLibrary(c.tls, code)
	}
	return &Error{int(code), libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))}
}

// Close ends every statement and the connection.
func (c *Conn) Close() error {
	for _, s := range c.stmts {
		sqlite3.Xsqlite3_finalize(c.tls, s.p)
	}
	c.stmts = nil
	var err error
	if code := sqlite3.Xsqlite3_close_v2(c.tls, c.db); code != sqlite3.SQLITE_OK {
		err = errLibrary(c.tls, code)
	}
	c.tls.Close()
	return err
}

// Prepare returns the statement of a text, which is prepared once and kept until Close.
func (c *Conn) Prepare(text string) (*Stmt, error) {
	if s := c.stmts[text]; s != nil {
		return s, nil
	}
	// The length is given: the text needs no end mark.
	code := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, textPointer(text), int32(len(text)), sqlite3.SQLITE_PREPARE_PERSISTENT, c.reference(), 0)
	runtime.KeepAlive(text)
	if code != sqlite3.SQLITE_OK {
		return nil, c.fail(code)
	}
	s := &Stmt{c: c, p: *c.result}
	if s.p == 0 {
		return nil, &Error{sqlite3.SQLITE_MISUSE, "the statement is empty"}
	}
	s.columns = int(sqlite3.Xsqlite3_column_count(c.tls, s.p))
	for i := range sqlite3.Xsqlite3_bind_parameter_count(c.tls, s.p) {
		// The library numbers parameters in the order in which they appear.
		name := libc.GoString(sqlite3.Xsqlite3_bind_parameter_name(c.tls, s.p, i+1))
		n, err := strconv.Atoi(strings.TrimPrefix(name, "$"))
		if err != nil || n < 1 || n > maxArguments || !strings.HasPrefix(name, "$") {
			sqlite3.Xsqlite3_finalize(c.tls, s.p)
			return nil, &Error{sqlite3.SQLITE_MISUSE, "the parameter " + name + " is not $1, $2 and so on"}
		}
		s.places = append(s.places, n-1)
		s.params = max(s.params, n)
	}
	c.stmts[text] = s
	return s, nil
}

// maxArguments is the most arguments of a statement.
const maxArguments = 1000

// Texts calls each on the text of every statement that was prepared.
func (c *Conn) Texts(each func(text string)) {
	for text := range c.stmts {
		each(text)
	}
}

// Exec runs a statement to its end and returns how many rows it changed, if it changes rows.
func (c *Conn) Exec(text string, args ...any) (int64, error) {
	s, err := c.Prepare(text)
	if err != nil {
		return 0, err
	}
	return s.Exec(args)
}
