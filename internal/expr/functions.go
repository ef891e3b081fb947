package expr

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

func sig(args ...*cel.Type) []*cel.Type { return args }

// functions are the functions of the language beside cel-go's libraries.
func (b *base) functions() []function {
	dyn, str, list := cel.DynType, cel.StringType, cel.ListType(cel.DynType)
	text := [][]*cel.Type{sig(str), sig(cel.BytesType)}
	return slices.Concat([]function{
		{name: fnPlain, args: [][]*cel.Type{sig(cel.TypeParamType("A"))}, result: cel.TypeParamType("A"), unary: plainWhole},
		{name: fnFormatArgs, args: [][]*cel.Type{sig(list)}, result: list, unary: formatArgs},
		{name: fnJoin, args: [][]*cel.Type{sig(list), sig(list, str)}, result: str, many: joinList},
		{name: fnOrElse, args: [][]*cel.Type{sig(dyn, dyn)}, result: dyn, binary: orElse},
		{name: "string", args: [][]*cel.Type{sig(dyn)}, result: str, unary: toString},
		{name: "toJson", args: [][]*cel.Type{sig(dyn)}, result: str, unary: toJSON},
		{name: "parseJson", args: text, result: dyn, unary: parseJSON},
		{name: "base64", args: text, result: str, unary: encodeText(base64.StdEncoding.EncodeToString)},
		{name: "base64.encodeUrl", args: text, result: str, unary: encodeText(base64.RawURLEncoding.EncodeToString)},
		{name: "base64.decodeUrl", args: [][]*cel.Type{sig(str)}, result: cel.BytesType, unary: decodeURL},
		{name: "hex", args: text, result: str, unary: encodeText(hex.EncodeToString)},
		{name: "sha256", args: text, result: cel.BytesType, unary: sum256},
	}, mathFunctions(), listFunctions(), b.timeFunctions())
}

// orElse is v, or d where v is null or missing.
func orElse(v, d ref.Val) ref.Val {
	if v = unwrap(v); v == types.NullValue {
		return d
	}
	return v
}

// toString is how a value prints in a template, but null is an error: a null that becomes
// text is nearly always a mistake.
func toString(v ref.Val) ref.Val {
	if b, ok := v.(types.Bytes); ok {
		if !utf8.Valid(b) {
			return errorVal("string() of bytes that are not UTF-8; base64() and hex() write any bytes")
		}
		return types.String(b)
	}
	if unwrap(v) == types.NullValue {
		return errorVal("string() of null; orElse(x, \"\") stands in for it")
	}
	s, err := Text(v)
	if err != nil {
		return types.WrapErr(err)
	}
	if len(s) > MaxStringBytes {
		return tooLong()
	}
	return types.String(s)
}

func toJSON(v ref.Val) ref.Val {
	b, err := printer{limit: MaxStringBytes}.value(nil, v, 0)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(bytesView(b))
}

// parseJSON reads a text as JSON: its result is data, as everything that came from outside.
func parseJSON(v ref.Val) ref.Val {
	b, fault := textBytes("parseJson()", v)
	if fault != nil {
		return fault
	}
	out, err := ParseJSON(b)
	if err != nil {
		return errorVal("parseJson(): %v", err)
	}
	return out
}

// textBytes is a string's UTF-8 or the bytes themselves, which must not be changed.
func textBytes(name string, v ref.Val) ([]byte, ref.Val) {
	switch x := v.(type) {
	case types.String:
		return []byte(x), nil
	case types.Bytes:
		return x, nil
	}
	return nil, errorVal("%s takes a string or bytes, not %s", name, kindName(v))
}

func encodeText(encode func([]byte) string) func(ref.Val) ref.Val {
	return func(v ref.Val) ref.Val {
		b, fault := textBytes("an encoding", v)
		if fault != nil {
			return fault
		}
		if 2*len(b) > MaxStringBytes {
			return tooLong()
		}
		return types.String(encode(b))
	}
}

// decodeURL reads base64 in the alphabet for URLs, with or without padding.
func decodeURL(v ref.Val) ref.Val {
	s, ok := v.(types.String)
	if !ok {
		return errorVal("base64.decodeUrl() takes a string, not %s", kindName(v))
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(s), "="))
	if err != nil {
		return errorVal("base64.decodeUrl(): this string is not base64")
	}
	return types.Bytes(b)
}

func sum256(v ref.Val) ref.Val {
	b, fault := textBytes("sha256()", v)
	if fault != nil {
		return fault
	}
	h := sha256.Sum256(b)
	return types.Bytes(h[:])
}

// formatArgs makes the arguments of format() plain numbers, and bounds what they make.
func formatArgs(v ref.Val) ref.Val {
	l, fault := wantList("format()", v)
	if fault != nil {
		return fault
	}
	const perArg = 512 // more than any verb of a number makes
	if deepWeight(v, MaxCost)*readPerCost+uint64(perArg*listLen(l)) > MaxStringBytes {
		return tooLong()
	}
	out := make([]ref.Val, listLen(l))
	for i := range out {
		out[i] = plain(unwrap(item(l, i)))
		switch _, exact := out[i].(*number); {
		case exact, Kind(out[i]) == KindObject, Kind(out[i]) == KindList:
			if out[i] = toString(out[i]); types.IsError(out[i]) {
				return out[i]
			}
		}
	}
	return newList(out)
}

// boundedStrings replaces the functions of cel-go that can make much out of little.
func boundedStrings() []cel.EnvOption {
	str, num := cel.StringType, cel.IntType
	strs := cel.ListType(str)
	return []cel.EnvOption{
		cel.Function("replace",
			cel.MemberOverload("string_replace_string_string", sig(str, str, str), str, cel.FunctionBinding(replace)),
			cel.MemberOverload("string_replace_string_string_int", sig(str, str, str, num), str, cel.FunctionBinding(replace))),
		cel.Function("split",
			cel.MemberOverload("string_split_string", sig(str, str), strs, cel.FunctionBinding(split)),
			cel.MemberOverload("string_split_string_int", sig(str, str, num), strs, cel.FunctionBinding(split))),
	}
}

// replace replaces all of a text, or the first n.
func replace(args ...ref.Val) ref.Val {
	s, from, to := string(args[0].(types.String)), string(args[1].(types.String)), string(args[2].(types.String))
	n := strings.Count(s, from)
	if len(args) == 4 {
		if limit := int64(args[3].(types.Int)); limit >= 0 {
			n = int(min(int64(n), limit))
		}
	}
	if len(s)+n*(len(to)-len(from)) > MaxStringBytes {
		return tooLong()
	}
	return types.String(strings.Replace(s, from, to, n))
}

// split cuts a text at a separator, into at most n pieces where n is given.
func split(args ...ref.Val) ref.Val {
	s, sep := string(args[0].(types.String)), string(args[1].(types.String))
	n := int64(-1)
	if len(args) == 3 {
		n = int64(args[2].(types.Int))
	}
	if pieces := strings.Count(s, sep) + 1; pieces > MaxListItems && (n < 0 || n > MaxListItems) {
		return limitVal("a list would have more than %d items", MaxListItems)
	}
	parts := strings.SplitN(s, sep, int(min(n, MaxListItems)))
	out := make([]ref.Val, len(parts))
	for i, p := range parts {
		out[i] = types.String(p)
	}
	return newList(out)
}

// joinList joins the texts of a list. Numbers and booleans join as they print.
func joinList(args ...ref.Val) ref.Val {
	l, fault := wantList("join()", args[0])
	if fault != nil {
		return fault
	}
	sep := types.String("")
	if len(args) == 2 {
		var ok bool
		if sep, ok = args[1].(types.String); !ok {
			return errorVal("join() takes a string between the items, not %s", kindName(args[1]))
		}
	}
	var b strings.Builder
	for i := range listLen(l) {
		s := ""
		switch v := unwrap(item(l, i)); Kind(v) {
		case KindString, KindNumber, KindBool, KindTime:
			var err error
			if s, err = scalarText(v); err != nil {
				return types.WrapErr(err)
			}
		default:
			return errorVal("join() takes a list of strings, numbers and booleans, not %s", kindName(v))
		}
		if b.Len()+len(s)+len(sep) > MaxStringBytes {
			return tooLong()
		}
		if i > 0 {
			b.WriteString(string(sep))
		}
		b.WriteString(s)
	}
	return types.String(b.String())
}
