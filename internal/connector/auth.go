package connector

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// CheckAuth reports what is wrong with the auth methods and the variables, as [credential.Problems].
func (m *Manifest) CheckAuth() error {
	var problems credential.Problems
	add := func(err error) {
		var found credential.Problems
		if errors.As(err, &found) {
			problems = append(problems, found...)
		}
	}
	add(m.Vars.Check("vars"))
	if len(m.Auth) > MaxMethods {
		return append(problems, credential.Problem{At: "auth", Message: fmt.Sprintf("at most %d methods", MaxMethods)})
	}
	for i := range m.Auth {
		add(m.Auth[i].Check("auth["+strconv.Itoa(i)+"]", m.Vars))
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}
