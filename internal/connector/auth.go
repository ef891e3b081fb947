package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// CredentialVars are the variables in the form in which a sealed credential record carries them.
func (m *Manifest) CredentialVars() credential.Vars {
	out := credential.Vars{}
	for _, v := range m.Vars {
		out[v.Name] = credential.Var{
			Title: v.Title, Help: v.Description, Enum: v.Enum, Pattern: v.Pattern, Suffixes: v.Suffixes, Default: v.Default,
		}
	}
	return out
}

// Methods decodes the auth methods and checks them against the variables. The error of a bad one is a [credential.Problems].
func (m *Manifest) Methods() ([]credential.Method, error) {
	if len(m.Auth) == 0 {
		return nil, nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(m.Auth, &raw); err != nil {
		return nil, fmt.Errorf("read auth methods: %w", err)
	}
	if len(raw) > MaxMethods {
		return nil, fmt.Errorf("read auth methods: %d are more than %d", len(raw), MaxMethods)
	}
	vars := m.CredentialVars()
	out := make([]credential.Method, len(raw))
	var problems credential.Problems
	for i, text := range raw {
		at := "auth[" + strconv.Itoa(i) + "]"
		method, err := credential.ParseMethod(text)
		if err != nil {
			problems = append(problems, credential.Problem{At: at, Message: err.Error()})
			continue
		}
		var found credential.Problems
		if err := method.Check(at, vars); errors.As(err, &found) {
			problems = append(problems, found...)
		}
		out[i] = *method
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}
