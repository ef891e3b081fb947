// Package strict judges API descriptions by the letter of the specification, with kin-openapi.
//
// Purpose: [Check] says which rules a document breaks. Package openapi reads documents leniently and by itself; the two
// share no code, so that neither hides what the other gets wrong.
//
// Authority: none. A document can make the library run long, use much memory or panic: call Check in a process that can be
// lost, as [openapi.Reader] does. References out of the document are refused, nothing is fetched.
//
// Functions keep no state and are safe for concurrent use. An error says that the document cannot be judged at all.
package strict

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"

	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

var _ openapi.Strict = Check

// Load reads a document of any version, as kin-openapi does. References out of it are errors.
func Load(document []byte) (*openapi3.T, error) {
	var head struct {
		Swagger any `yaml:"swagger" json:"swagger"`
	}
	isJSON := json.Valid(document)
	if isJSON {
		_ = json.Unmarshal(document, &head) // what is wrong with it is told below
	} else if err := yaml.Unmarshal(document, &head); err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = false
	if head.Swagger == nil {
		doc, err := loader.LoadFromData(document)
		if err != nil {
			return nil, fmt.Errorf("read document: %w", err)
		}
		return doc, nil
	}
	if !isJSON {
		var tree any
		if err := yaml.Unmarshal(document, &tree); err != nil {
			return nil, fmt.Errorf("read document: %w", err)
		}
		var err error
		if document, err = json.Marshal(tree); err != nil {
			return nil, fmt.Errorf("read document: %w", err)
		}
	}
	var old openapi2.T
	if err := json.Unmarshal(document, &old); err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	doc, err := openapi2conv.ToV3WithLoader(&old, loader, nil)
	if err != nil {
		return nil, fmt.Errorf("convert document: %w", err)
	}
	return doc, nil
}

// Check lists the rules that a document breaks.
func Check(document []byte) ([]openapi.Violation, error) {
	doc, err := Load(document)
	if err != nil {
		return nil, err
	}
	err = doc.Validate(context.Background(), openapi3.EnableMultiError(), openapi3.DisableExamplesValidation())
	var out []openapi.Violation
	flatten(err, &out)
	return out, nil
}

// flatten lists single errors: the first line of each says what is wrong.
func flatten(err error, out *[]openapi.Violation) {
	if err == nil || len(*out) >= openapi.MaxViolations {
		return
	}
	if many := openapi3.MultiError(nil); errors.As(err, &many) && !wraps(err) {
		for _, one := range many {
			flatten(one, out)
		}
		return
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	at, message := "", text
	if where, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(where, "invalid ") {
		at, message = strings.TrimPrefix(where, "invalid "), rest
	}
	*out = append(*out, openapi.Violation{At: at, Message: message})
}

// wraps tells whether an error adds words to what it holds.
func wraps(err error) bool {
	_, isList := err.(openapi3.MultiError) //nolint:errorlint // the list itself is asked for, not one inside
	return !isList
}
