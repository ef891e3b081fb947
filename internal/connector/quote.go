package connector

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// Limits of a query.
const (
	// MaxQuery is the longest program in a query language, with its values, in bytes.
	MaxQuery = 256 << 10
	// MaxQueryItems is how many items a list in a query may have.
	MaxQueryItems = 2000
)

// grammar is what must be known of a query language to put values into it.
type grammar struct {
	quotes   string // characters that begin and end a text in the program
	doubled  bool   // a quote inside of a text is written twice; else with a backslash
	comments bool   // -- and /* */ are comments
	braces   bool   // {…} is a name, in which quotes are letters

	text     func(s string) (string, error)
	yes, no  string
	null     string // empty: there is none
	list     bool   // (a, b, c) is a value
	datetime func(t time.Time) string
	date     func(day string) string
}

// grammarOf returns the grammar of a language, or nil.
func grammarOf(l Language) *grammar {
	single := func(s string) string { return "'" + s + "'" }
	double := func(s string) string { return `"` + s + `"` }
	rfc := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	same := func(s string) string { return s }
	switch l {
	case LanguageSOQL:
		return &grammar{quotes: "'", text: backslashed('\''), yes: "TRUE", no: "FALSE", null: "NULL", list: true, datetime: rfc, date: same}
	case LanguageSuite:
		return &grammar{
			quotes: `'"`, doubled: true, comments: true, text: doubledText, yes: "'T'", no: "'F'", null: "NULL", list: true,
			datetime: func(t time.Time) string {
				return "TO_TIMESTAMP('" + t.UTC().Format("2006-01-02 15:04:05") + "', 'YYYY-MM-DD HH24:MI:SS')"
			},
			date: func(s string) string { return "TO_DATE('" + s + "', 'YYYY-MM-DD')" },
		}
	case LanguageJQL:
		return &grammar{
			quotes: `"'`, text: backslashed('"'), yes: "true", no: "false", null: "EMPTY", list: true,
			datetime: func(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }, date: double,
		}
	case LanguageOData:
		return &grammar{quotes: "'", doubled: true, text: doubledText, yes: "true", no: "false", null: "null", list: true, datetime: rfc, date: same}
	case LanguageDrive:
		return &grammar{
			quotes: "'", text: backslashed('\''), yes: "true", no: "false",
			datetime: func(t time.Time) string { return single(rfc(t)) }, date: single,
		}
	case LanguageQBO:
		return &grammar{
			quotes: "'", text: backslashed('\''), yes: "true", no: "false", list: true,
			datetime: func(t time.Time) string { return single(rfc(t)) }, date: single,
		}
	case LanguageFormula:
		parse := func(s string) string { return `DATETIME_PARSE("` + s + `")` }
		return &grammar{
			quotes: `"'`, braces: true, text: backslashed('"'), yes: "TRUE()", no: "FALSE()", null: "BLANK()",
			datetime: func(t time.Time) string { return parse(rfc(t)) }, date: parse,
		}
	case LanguageSearch:
		return &grammar{quotes: `"`, text: phrase, yes: "true", no: "false", datetime: rfc, date: same}
	}
	return nil
}

// Languages are the query languages that Quote knows.
func Languages() []Language {
	return []Language{
		LanguageSOQL, LanguageSuite, LanguageJQL, LanguageOData, LanguageDrive, LanguageQBO, LanguageFormula, LanguageSearch, LanguageGraphQL,
	}
}

// Quote puts values into a program of a query language: each :name in it, outside of texts and comments, becomes the
// parameter of that name, written so that it is one value and nothing else. A colon behind a letter, a digit or an
// underscore, as in is:unread, begins no parameter; is::what does.
//
// parameters is an object or null. A value is a text, a number, a boolean, null, a time, a list of these where the language
// has lists, or {date: "2026-01-31"} for a day where the language tells days from texts. In the language "search", where
// nothing can be escaped, quotation marks in a text become spaces. A program in GraphQL is taken as it is. Errors hold no
// value.
func Quote(l Language, program string, parameters expr.Value) (string, error) {
	if l == LanguageGraphQL {
		if parameters != nil && len(expr.Keys(parameters)) > 0 {
			return "", fmt.Errorf("GraphQL has variables of its own: use them instead of %s", ParametersInput)
		}
		return program, nil
	}
	g := grammarOf(l)
	if g == nil {
		return "", fmt.Errorf("there is no query language %q", l)
	}
	if parameters == nil {
		parameters = expr.Null()
	}
	if k := expr.Kind(parameters); k != expr.KindObject && k != expr.KindNull {
		return "", fmt.Errorf("%s is an object of names and values, not %s", ParametersInput, k)
	}
	q := &quoting{g: g, parameters: parameters, used: map[string]bool{}}
	for rest := program; rest != ""; {
		n, err := q.next(rest)
		if err != nil {
			return "", err
		}
		rest = rest[n:]
		if q.out.Len() > MaxQuery {
			return "", fmt.Errorf("the query is longer than %d bytes", MaxQuery)
		}
	}
	for _, name := range expr.Keys(parameters) {
		if !q.used[name] {
			return "", fmt.Errorf("no :%s stands in the query", name)
		}
	}
	return q.out.String(), nil
}

// Parameters lists the names of the parameters of a program, in their order, each once.
func Parameters(l Language, program string) ([]string, error) {
	if l == LanguageGraphQL {
		return nil, nil
	}
	g := grammarOf(l)
	if g == nil {
		return nil, fmt.Errorf("there is no query language %q", l)
	}
	q := &quoting{g: g, used: map[string]bool{}}
	for rest := program; rest != ""; {
		n, err := q.next(rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return q.names, nil
}

// quoting is one program on its way.
type quoting struct {
	g          *grammar
	parameters expr.Value // nil: only the names are wanted
	out        strings.Builder
	names      []string
	used       map[string]bool
	last       byte // the byte before the next one, or 0
}

// next takes one piece of the program: a text, a comment, a parameter, or a character.
func (q *quoting) next(s string) (int, error) {
	switch {
	case strings.IndexByte(q.g.quotes, s[0]) >= 0:
		n, err := q.literal(s)
		if err != nil {
			return 0, err
		}
		return q.copy(s, n), nil
	case q.g.comments && strings.HasPrefix(s, "--"):
		n := strings.IndexByte(s, '\n')
		if n < 0 {
			n = len(s)
		}
		return q.copy(s, n), nil
	case q.g.comments && strings.HasPrefix(s, "/*"):
		n := strings.Index(s[2:], "*/")
		if n < 0 {
			return 0, errors.New("a comment in the query does not end")
		}
		return q.copy(s, n+4), nil
	case q.g.braces && s[0] == '{':
		n := strings.IndexByte(s, '}')
		if n < 0 {
			return 0, errors.New("a name in the query does not end")
		}
		return q.copy(s, n+1), nil
	case s[0] == ':' && !wordByte(q.last):
		name := nameAt(s[1:])
		if name == "" {
			return q.copy(s, 1), nil
		}
		rest := s[1+len(name):]
		if q.touches(rest) {
			return 0, fmt.Errorf("the parameter :%s touches another value: put something between them", name)
		}
		return 1 + len(name), q.put(name)
	}
	_, n := utf8.DecodeRuneInString(s)
	return q.copy(s, n), nil
}

// touches says whether a parameter stands right beside a text or another parameter, with which its value would be read as one.
func (q *quoting) touches(rest string) bool {
	beside := func(c byte) bool { return strings.IndexByte(q.g.quotes, c) >= 0 || strings.IndexByte(`'"`, c) >= 0 }
	return q.last != 0 && beside(q.last) || q.last == parameter || rest != "" && beside(rest[0])
}

// parameter is what last is behind a parameter.
const parameter = 1

func (q *quoting) copy(s string, n int) int {
	q.out.WriteString(s[:n])
	q.last = s[n-1]
	return n
}

// literal is the length of the text that begins s. A parameter inside of one would not be a value, so it is refused.
func (q *quoting) literal(s string) (int, error) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case !q.g.doubled && s[i] == '\\':
			i++
		case s[i] == quote && q.g.doubled && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1, nil
		case s[i] == ':' && q.parameters != nil:
			if name := nameAt(s[i+1:]); name != "" && slices.Contains(expr.Keys(q.parameters), name) {
				return 0, fmt.Errorf("the parameter :%s stands inside of quotes: write it without them", name)
			}
		}
	}
	return 0, errors.New("a text in the query does not end")
}

// put writes the value of a parameter.
func (q *quoting) put(name string) error {
	if !q.used[name] {
		q.used[name] = true
		q.names = append(q.names, name)
	}
	minus := q.last == '-'
	q.last = parameter
	if q.parameters == nil {
		return nil
	}
	v, ok := expr.Lookup(q.parameters, name)
	if !ok {
		return fmt.Errorf("the query has :%s, but %s has no %s", name, ParametersInput, name)
	}
	s, err := q.g.value(v)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", name, err)
	}
	if minus && strings.HasPrefix(s, "-") {
		q.out.WriteByte(' ') // two would begin a comment
	}
	q.out.WriteString(s)
	return nil
}

// value writes one value.
func (g *grammar) value(v expr.Value) (string, error) {
	switch k := expr.Kind(v); k {
	case expr.KindList:
		return g.values(v)
	case expr.KindObject:
		return g.day(v)
	case expr.KindNull:
		if g.null == "" {
			return "", errors.New("the language has no null")
		}
		return g.null, nil
	case expr.KindTime:
		t, ok := v.Value().(time.Time)
		if !ok || t.Year() < 1 || t.Year() > 9999 {
			return "", errors.New("the time is out of range")
		}
		return g.datetime(t), nil
	case expr.KindBool:
		if truthy(v) {
			return g.yes, nil
		}
		return g.no, nil
	case expr.KindNumber:
		return number(v)
	case expr.KindString:
		s, _ := expr.Str(v)
		if !utf8.ValidString(s) {
			return "", errors.New("the text is not UTF-8")
		}
		return g.text(s)
	default:
		return "", fmt.Errorf("a %s has no form in the language", k)
	}
}

func (g *grammar) values(v expr.Value) (string, error) {
	n := expr.Len(v)
	switch {
	case !g.list:
		return "", errors.New("the language has no lists")
	case n == 0:
		return "", errors.New("the list is empty, which the language cannot say: skip the step instead")
	case n > MaxQueryItems:
		return "", fmt.Errorf("the list has %d items, more than %d", n, MaxQueryItems)
	}
	parts := make([]string, n)
	for i := range n {
		item, _ := expr.Index(v, i)
		if expr.Kind(item) == expr.KindList {
			return "", errors.New("a list holds a list")
		}
		var err error
		if parts[i], err = g.value(item); err != nil {
			return "", fmt.Errorf("item %d: %w", i, err)
		}
	}
	return "(" + strings.Join(parts, ", ") + ")", nil
}

// day writes {date: "2026-01-31"}.
func (g *grammar) day(v expr.Value) (string, error) {
	d, ok := expr.Lookup(v, "date")
	if !ok || expr.Len(v) != 1 {
		return "", errors.New(`an object is only {date: "2026-01-31"}`)
	}
	s, _ := expr.Str(d)
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return "", errors.New("the date is no day such as 2026-01-31")
	}
	return g.date(t.Format(time.DateOnly)), nil
}

// number writes a number, which holds nothing but digits, a sign, a point and an exponent.
func number(v expr.Value) (string, error) {
	s, err := expr.Text(v)
	if err != nil || s == "" || len(s) > 64 {
		return "", errors.New("the number has no form in the language")
	}
	for _, c := range s {
		if !strings.ContainsRune("0123456789+-.eE", c) {
			return "", errors.New("the number has no form in the language")
		}
	}
	return s, nil
}

// backslashed writes a text between quotes, in which quotes and backslashes have a backslash before them.
func backslashed(quote byte) func(string) (string, error) {
	return func(s string) (string, error) {
		b := []byte{quote}
		for i := range len(s) {
			switch c := s[i]; c {
			case '\'', '"', '\\':
				if c != '\\' && c != quote {
					b = append(b, c)
					continue
				}
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				if c < 0x20 || c == 0x7f {
					return "", errControl
				}
				b = append(b, c)
			}
		}
		return string(append(b, quote)), nil
	}
}

// errControl refuses what no query language has in a text.
var errControl = errors.New("the text has a control character")

// doubledText writes a text between single quotes, in which a quote is written twice.
func doubledText(s string) (string, error) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return "", errControl
		}
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'", nil
}

// phrase writes a text as a phrase of words. What could end the phrase becomes a space: searches for words do not tell it
// apart anyway.
func phrase(s string) (string, error) {
	s = strings.Map(func(r rune) rune {
		if r == '\\' || unicode.Is(unicode.Quotation_Mark, r) && r != '\'' && r != '’' || unicode.IsControl(r) || unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return "", errors.New("the text has no words to search for")
	}
	return `"` + s + `"`, nil
}

// nameAt is the name that begins s, or nothing.
func nameAt(s string) string {
	n := 0
	for n < len(s) && wordByte(s[n]) && (n > 0 || s[n] < '0' || s[n] > '9') {
		n++
	}
	return s[:n]
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}
