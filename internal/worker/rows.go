package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// rows are the rows of a file or a text, read as they are needed.
// They are told together with the file or text.
func (x *execution) rows(ctx context.Context, e *env, r *flow.Rows) (source, expr.Value, error) {
	v, err := e.value(ctx, &r.Rows)
	if err != nil {
		return nil, nil, err
	}
	x.view.input(e.path, v)
	in, err := x.reader(ctx, v)
	if err != nil {
		return nil, nil, err
	}
	if _, isFile := asFile(v); isFile {
		if in, err = decoded(in, r.Encoding); err != nil {
			return nil, nil, err
		}
	}
	bounded := &rowReader{in: in}
	if r.Format == flow.FormatJSONLines {
		lines := bufio.NewScanner(bounded)
		lines.Buffer(make([]byte, 0, 64<<10), MaxRow)
		return &jsonLines{in: bounded, lines: lines}, v, nil
	}
	c := csv.NewReader(bounded)
	c.FieldsPerRecord = -1
	if r.Delimiter != "" {
		c.Comma, _ = utf8.DecodeRuneInString(r.Delimiter)
	}
	return &csvRows{in: bounded, rows: c, named: r.Named()}, v, nil
}

// reader gives the bytes of a file or a text.
func (x *execution) reader(ctx context.Context, v expr.Value) (io.Reader, error) {
	if f, ok := asFile(v); ok {
		if f.ref.Inline {
			return bytes.NewReader(f.ref.Data), nil
		}
		return x.blob(ctx, &f.ref.Blob)
	}
	if s, ok := expr.Str(v); ok {
		return strings.NewReader(s), nil
	}
	return nil, faultf(typeInvalidInput, "rows come from a file or a text, not %s", expr.Kind(v))
}

// encodings are those of the format, by their WHATWG names.
func encodings() map[string]encoding.Encoding {
	return map[string]encoding.Encoding{
		"utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "utf-16be": unicode.UTF16(unicode.BigEndian, unicode.UseBOM),
		"windows-1250": charmap.Windows1250, "windows-1251": charmap.Windows1251, "windows-1252": charmap.Windows1252,
		"windows-1253": charmap.Windows1253, "windows-1254": charmap.Windows1254, "windows-1257": charmap.Windows1257,
		"iso-8859-1": charmap.Windows1252, // the Encoding Standard says so
		"iso-8859-2": charmap.ISO8859_2, "iso-8859-15": charmap.ISO8859_15, "koi8-r": charmap.KOI8R, "macintosh": charmap.Macintosh,
		"shift_jis": japanese.ShiftJIS, "euc-jp": japanese.EUCJP, "euc-kr": korean.EUCKR, "gbk": simplifiedchinese.GBK,
		"gb18030": simplifiedchinese.GB18030, "big5": traditionalchinese.Big5,
	}
}

// decoded reads text as UTF-8. A byte order mark is left out.
func decoded(in io.Reader, name string) (io.Reader, error) {
	if name == "" || name == "utf-8" {
		b := bufio.NewReaderSize(in, 64<<10)
		if mark, err := b.Peek(3); err == nil && string(mark) == "\uFEFF" {
			_, _ = b.Discard(3)
		}
		return b, nil
	}
	e, ok := encodings()[name]
	if !ok {
		return nil, faultf(typeInvalidInput, "the encoding %s is not known", quote(name))
	}
	return e.NewDecoder().Reader(in), nil
}

var errLongRow = errors.New("row too long")

// rowReader bounds how much one row may take. Readers ahead of a row are forgiven one buffer.
type rowReader struct {
	in   io.Reader
	left int
	err  error // of in, other than its end
}

// Read implements io.Reader.
func (r *rowReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLongRow
	}
	n, err := r.in.Read(p)
	r.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// fail turns the error of a parser into a fault. at is the row, from 1.
func (r *rowReader) fail(err error, at int) error {
	switch {
	case r.err != nil:
		return r.err // of the blob: a fault, or why the execution ends
	case errors.Is(err, errLongRow), errors.Is(err, bufio.ErrTooLong):
		return faultf(typeLimit, "row %d is longer than %d bytes", at, MaxRow)
	}
	return faultf(typeInvalidInput, "row %d cannot be read: %s", at, rowProblem(err))
}

// rowProblem describes a parse error without repeating data.
func rowProblem(err error) string {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

type csvRows struct {
	in    *rowReader
	rows  *csv.Reader
	named bool
	keys  []string
	at    int
}

func (c *csvRows) next(context.Context) (expr.Value, bool, error) {
	if c.named && c.keys == nil {
		if ok, err := c.head(); !ok {
			return nil, false, err
		}
	}
	record, ok, err := c.record()
	if !ok {
		return nil, false, err
	}
	if !c.named {
		vals := make([]expr.Value, len(record))
		for i, f := range record {
			vals[i] = expr.String(f)
		}
		return expr.NewList(vals), true, nil
	}
	if len(record) > len(c.keys) {
		return nil, false, faultf(typeInvalidInput, "row %d has %d fields, the first row names %d", c.at, len(record), len(c.keys))
	}
	vals := make([]expr.Value, len(c.keys))
	for i := range vals {
		if vals[i] = expr.String(""); i < len(record) {
			vals[i] = expr.String(record[i])
		}
	}
	return expr.NewObject(c.keys, vals), true, nil
}

// head reads the names of the fields.
func (c *csvRows) head() (bool, error) {
	names, ok, err := c.record()
	if !ok {
		return false, err
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			return false, faultf(typeInvalidInput, "two fields have the name %s", quote(n))
		}
		seen[n] = true
	}
	c.keys = append([]string{}, names...)
	return true, nil
}

func (c *csvRows) record() ([]string, bool, error) {
	c.at++
	c.in.left = MaxRow
	record, err := c.rows.Read()
	if errors.Is(err, io.EOF) && c.in.err == nil {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, c.in.fail(err, c.at)
	}
	return record, true, nil
}

type jsonLines struct {
	in    *rowReader
	lines *bufio.Scanner
	at    int
}

func (j *jsonLines) next(context.Context) (expr.Value, bool, error) {
	for {
		j.at++
		j.in.left = 2 * MaxRow
		if !j.lines.Scan() {
			if err := j.lines.Err(); err != nil {
				return nil, false, j.in.fail(err, j.at)
			}
			return nil, false, nil
		}
		line := bytes.TrimSpace(j.lines.Bytes())
		if len(line) == 0 {
			continue
		}
		v, err := expr.ParseJSON(bytes.Clone(line))
		if err != nil {
			return nil, false, j.in.fail(err, j.at)
		}
		return v, true, nil
	}
}
