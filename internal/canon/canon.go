// Package canon reads and writes the JSON of documents that are named by their digest: integrations, manifests of
// connectors, and what credentials carry of them. One document has one form, so a reader accepts what a writer of the
// same types would write; the packages that own the types compare the two.
//
// It has no authority and no state, and is safe for concurrent use.
package canon

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Marshal returns the JSON of v in the order of its types, maps by name, without white space, and without the escapes
// for <, > and & that encoding/json writes for pages. The errors are those of encoding/json.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Unmarshal reads one JSON value into v. Members that v does not have, and anything behind the value, are errors.
func Unmarshal(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}
