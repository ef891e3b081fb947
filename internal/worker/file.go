package worker

import (
	"cel.dev/cel-go/common/types/traits"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// file is a file by reference. Expressions see {name, type, size}; its bytes are in a blob, or here when they are few.
type file struct {
	traits.Mapper
	ref fileRef
}

// fileRef is where the bytes of a file are.
type fileRef struct {
	Blob   wire.BlobRef
	Inline bool // the bytes are Data, and no blob exists
	Data   []byte
}

// Walk implements wire.Message.
func (m *fileRef) Walk(c *wire.Coder) {
	m.Blob.Walk(c)
	c.Bool(&m.Inline)
	c.Bytes(&m.Data)
}

func newFile(r fileRef) *file {
	m, _ := expr.NewObject([]string{"name", "type", "size"}, []expr.Value{
		expr.String(r.Blob.Name), expr.String(r.Blob.ContentType), expr.Int(int64(r.Blob.Size)),
	}).(traits.Mapper)
	return &file{Mapper: m, ref: r}
}

// fileKey marks, in stored JSON, an object that stands for a file of the same record.
const fileKey = "$file"

// asFile returns the file that v is.
func asFile(v expr.Value) (*file, bool) {
	f, ok := v.(*file)
	return f, ok
}

func holdsFile(v expr.Value) bool {
	if _, ok := asFile(v); ok {
		return true
	}
	switch expr.Kind(v) {
	case expr.KindObject:
		for _, k := range expr.Keys(v) {
			if item, ok := expr.Lookup(v, k); ok && holdsFile(item) {
				return true
			}
		}
	case expr.KindList:
		for i := range expr.Len(v) {
			if item, ok := expr.Index(v, i); ok && holdsFile(item) {
				return true
			}
		}
	}
	return false
}

// packFiles replaces every file in v by a mark and collects them.
func packFiles(v expr.Value, files *[]fileRef) expr.Value {
	if f, ok := asFile(v); ok {
		*files = append(*files, f.ref)
		return expr.NewObject([]string{fileKey}, []expr.Value{expr.String(f.ref.Blob.Blob.String())})
	}
	return rebuild(v, func(item expr.Value) expr.Value { return packFiles(item, files) })
}

// unpackFiles is the reverse of packFiles.
func unpackFiles(v expr.Value, files []fileRef) expr.Value {
	if expr.Kind(v) == expr.KindObject && expr.Len(v) == 1 {
		if mark, ok := expr.Lookup(v, fileKey); ok {
			name, _ := expr.Str(mark)
			for i := range files {
				if files[i].Blob.Blob.String() == name {
					return newFile(files[i])
				}
			}
		}
	}
	return rebuild(v, func(item expr.Value) expr.Value { return unpackFiles(item, files) })
}

func rebuild(v expr.Value, each func(expr.Value) expr.Value) expr.Value {
	switch expr.Kind(v) {
	case expr.KindObject:
		keys := expr.Keys(v)
		vals := make([]expr.Value, len(keys))
		for i, k := range keys {
			item, _ := expr.Lookup(v, k)
			vals[i] = each(item)
		}
		return expr.NewObject(keys, vals)
	case expr.KindList:
		vals := make([]expr.Value, expr.Len(v))
		for i := range vals {
			item, _ := expr.Index(v, i)
			vals[i] = each(item)
		}
		return expr.NewList(vals)
	}
	return v
}

// content is the plain body of a journal entry that holds a value, and of the event of a child.
type content struct {
	Version byte // contentVersion
	JSON    []byte
	Files   []fileRef     // that JSON has marks of
	Spill   *wire.BlobRef // holds the JSON instead
	Load    *wire.BlobRef // holds the field body of the JSON, which is an answer
	Text    bool          // Load is a text, not JSON
}

const contentVersion = 1

// Walk implements wire.Message.
func (m *content) Walk(c *wire.Coder) {
	c.Byte(&m.Version)
	if c.Reading() && m.Version != contentVersion {
		c.Fail("a journal entry of another version")
		return
	}
	c.Bytes(&m.JSON)
	wire.List(c, &m.Files)
	wire.Optional(c, &m.Spill)
	wire.Optional(c, &m.Load)
	c.Bool(&m.Text)
}

// native makes a value of what is plain Go data, for small objects that are built here.
func native(keys []string, vals ...expr.Value) expr.Value { return expr.NewObject(keys, vals) }

// appendJSON writes v as JSON; a value that JSON cannot carry is a fault.
func appendJSON(dst []byte, v expr.Value) ([]byte, error) {
	b, err := expr.AppendJSON(dst, v)
	if err != nil {
		return nil, faultf(typeExpression, "%s", err.Error())
	}
	return b, nil
}
