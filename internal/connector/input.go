package connector

import (
	"encoding/json"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// Input returns the input of a name, or nil.
func (a *Action) Input(name string) *Input {
	for i := range a.Inputs {
		if a.Inputs[i].Name == name {
			return &a.Inputs[i]
		}
	}
	return nil
}

// language returns the input that is a program in a query language, or nil.
func (a *Action) language() *Input {
	for i := range a.Inputs {
		if a.Inputs[i].Language != "" {
			return &a.Inputs[i]
		}
	}
	return nil
}

// inputs checks what is given, fills defaults in and quotes the parameters of a query, in the order of the action.
func (b *builder) inputs(in expr.Value) ([]part, error) {
	if in == nil {
		in = expr.Null()
	}
	if k := expr.Kind(in); k != expr.KindObject && k != expr.KindNull {
		return nil, b.faultf("", "an object of inputs is expected, not %s", k)
	}
	language := b.a.language()
	for _, name := range expr.Keys(in) {
		if b.a.Input(name) == nil && (language == nil || name != ParametersInput) {
			return nil, b.faultf(name, "the action has no such input")
		}
	}
	parameters, _ := expr.Lookup(in, ParametersInput)
	var list []part
	for i := range b.a.Inputs {
		input := &b.a.Inputs[i]
		v, ok := expr.Lookup(in, input.Name)
		if !ok || expr.Kind(v) == expr.KindNull && !(ok && input.nullable()) {
			if len(input.Default) == 0 {
				if input.Required {
					return nil, b.faultf(input.Name, "a value is required")
				}
				continue
			}
			var err error
			if v, err = b.value(input.Name, input.Default); err != nil {
				return nil, err
			}
			if expr.Kind(v) == expr.KindNull && !input.nullable() {
				continue
			}
		}
		v, err := b.check(input, v)
		if err != nil {
			return nil, err
		}
		if input.Language != "" {
			program, _ := expr.Str(v)
			quoted, err := Quote(input.Language, program, parameters)
			if err != nil {
				return nil, b.faultf(input.Name, "%s", err)
			}
			v = expr.String(quoted)
		}
		list = append(list, part{input, v})
	}
	return list, nil
}

// nullable says whether null is a value of the input: its schema says so, and it is sent as JSON.
func (i *Input) nullable() bool {
	if i.In != InBody || len(i.Schema) == 0 {
		return false
	}
	var s struct {
		Type     json.RawMessage `json:"type"`
		Nullable bool            `json:"nullable"`
	}
	if json.Unmarshal(i.Schema, &s) != nil {
		return false
	}
	if s.Nullable {
		return true
	}
	var many []string
	var one string
	if json.Unmarshal(s.Type, &many) == nil {
		return slices.Contains(many, "null")
	}
	return json.Unmarshal(s.Type, &one) == nil && one == "null"
}

// check returns a value as the input's type has it. A number or a truth is a text where a text is expected; the reverse is
// a fault: what looks like a number may be an id.
func (b *builder) check(i *Input, v expr.Value) (expr.Value, error) {
	kind := expr.Kind(v)
	if kind == expr.KindNull {
		return v, nil
	}
	ok := true
	switch file := b.isFile(v); i.Type {
	case TypeString:
		switch kind {
		case expr.KindString:
		case expr.KindNumber, expr.KindBool, expr.KindTime, expr.KindDuration:
			s, err := expr.Text(v)
			v, ok = expr.String(s), err == nil
		default:
			ok = false
		}
	case TypeInteger:
		_, ok = expr.IsInt(v)
		ok = ok || kind == expr.KindNumber && isDigits(v)
	case TypeNumber:
		ok = kind == expr.KindNumber
	case TypeBoolean:
		ok = kind == expr.KindBool
	case TypeObject:
		ok = kind == expr.KindObject && !file
	case TypeArray:
		ok = kind == expr.KindList
	case TypeFile:
		ok = file || kind == expr.KindList && i.In == InBody
	case TypeAny, "":
	default:
		ok = false
	}
	if !ok {
		return nil, b.faultf(i.Name, "%s is expected, not %s", i.Type.article(), kind)
	}
	return v, b.listed(i, v)
}

// listed checks a value, or each item of a list, against an enum.
func (b *builder) listed(i *Input, v expr.Value) error {
	if len(i.Enum) == 0 {
		return nil
	}
	if expr.Kind(v) == expr.KindList {
		for n := range expr.Len(v) {
			item, _ := expr.Index(v, n)
			if err := b.listed(i, item); err != nil {
				return err
			}
		}
		return nil
	}
	s, err := expr.Text(v)
	if err == nil && slices.Contains(i.Enum, s) {
		return nil
	}
	if len(i.Enum) > 20 {
		return b.faultf(i.Name, "the value is none of the %d that are allowed", len(i.Enum))
	}
	return b.faultf(i.Name, "the value is none of %s", quoteAll(i.Enum))
}

func quoteAll(list []string) string {
	b, err := json.Marshal(list)
	if err != nil {
		return "those that are allowed"
	}
	return string(b[1 : len(b)-1])
}

// isDigits says whether a number that no int64 holds is whole.
func isDigits(v expr.Value) bool {
	s, err := expr.Text(v)
	if err != nil || s == "" {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && !(i == 0 && s[i] == '-') {
			return false
		}
	}
	return true
}

// article is the type as it is called in messages.
func (t Type) article() string {
	switch t {
	case TypeInteger:
		return "a whole number"
	case TypeObject:
		return "an object"
	case TypeArray:
		return "a list"
	case TypeAny, "":
		return "a value"
	}
	return "a " + string(t)
}
