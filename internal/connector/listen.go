package connector

import (
	"fmt"
	"strings"
)

// Compared are the places of an event that the trigger compares with an input; none: the input says something else, such as
// what is subscribed to.
func (t *Trigger) Compared(input string) (places []string) {
	for _, m := range t.Match {
		if m.Input == input {
			places = append(places, m.From)
		}
	}
	return places
}

// Places says where in an event the value of a field is that a wait compares: where the trigger compares an input of that
// name; else at body:a.b, header:NAME or query:NAME, if the field is written so; else at that path of the body.
func (t *Trigger) Places(field string) ([]string, error) {
	if places := t.Compared(field); len(places) > 0 {
		return places, nil
	}
	kind, name, ok := strings.Cut(field, ":")
	switch {
	case ok && (kind == "header" || kind == "query"):
		if name == "" || len(name) > MaxText {
			return nil, fmt.Errorf("%q names nothing", field)
		}
		return []string{field}, nil
	case !ok || kind != "body":
		name = field
	}
	if _, err := splitPath(name); err != nil {
		return nil, err
	}
	return []string{"body:" + name}, nil
}
