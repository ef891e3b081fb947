package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// jsonFormat reads requests strictly (RFC 8259, no name twice) and writes answers.
func jsonFormat() huma.Format {
	return huma.Format{
		Marshal: func(w io.Writer, v any) error {
			e := json.NewEncoder(w)
			e.SetEscapeHTML(false)
			return e.Encode(v)
		},
		Unmarshal: unmarshal,
	}
}

// unmarshal reads JSON. Names that differ in case only are refused at the top, where they
// would name the same field.
func unmarshal(b []byte, v any) error {
	if _, ok := v.(*any); ok && !off(namesOnce) { // the first of two passes, which validates
		if _, err := expr.ParseJSON(b); err != nil {
			return err
		}
		if err := foldedTwice(b); err != nil {
			return err
		}
	}
	return json.Unmarshal(b, v)
}

func foldedTwice(b []byte) error {
	var top map[string]json.RawMessage
	if json.Unmarshal(b, &top) != nil {
		return nil // no object: the schema refuses it
	}
	seen := make(map[string]bool, len(top))
	for name := range top {
		folded := strings.ToLower(name)
		if seen[folded] {
			return errors.New("a name is there twice")
		}
		seen[folded] = true
	}
	return nil
}

// ownProblem turns the errors that huma makes into problems of this API. What was sent is
// not repeated: it may be a secret.
func ownProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	return translate(ctx.Context(), m), nil
}

func translate(ctx context.Context, m *huma.ErrorModel) *Problem {
	code, ok := map[int]Code{
		http.StatusBadRequest:            CodeMalformed,
		http.StatusRequestTimeout:        CodeTimeout,
		http.StatusRequestEntityTooLarge: CodeTooLarge,
		http.StatusUnsupportedMediaType:  CodeMediaType,
		http.StatusUnprocessableEntity:   CodeInvalid,
	}[m.Status]
	if !ok {
		code = CodeInternal
	}
	p := problemOf(code, "")
	p.Status = m.Status
	p.RequestID = requestID(ctx)
	for _, e := range m.Errors {
		if e != nil && code != CodeInternal {
			p.Errors = append(p.Errors, Place{Place: e.Location, Message: e.Message})
		}
	}
	return p
}

// revision is the ETag of a revision.
func revision(n uint64) string { return strconv.Quote(strconv.FormatUint(n, 10)) }

// matches checks an If-Match header (RFC 9110 section 13.1.1) against a revision. Needed
// says whether it may be absent.
func matches(header string, n uint64, needed bool) error {
	switch header {
	case "":
		if needed {
			return problemOf(CodeRevisionNeeded, "")
		}
		return nil
	case "*", revision(n):
		return nil
	}
	return problemOf(CodeChanged, "")
}

// bound is the revision that a change is bound to by an If-Match header that matched; 0: any.
// Whoever changes checks it again, in the transaction of the change.
func bound(header string, n uint64) uint64 {
	if header == "" || header == "*" {
		return 0
	}
	return n
}

// overtaken says of a change whose revision was overtaken what a header that does not match says.
func overtaken(err error) error {
	if errors.Is(err, engine.ErrRevision) {
		return problemOf(CodeChanged, "")
	}
	return err
}
