package connector_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

func TestQuoteWritesValuesAsTheLanguageHasThem(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		language connector.Language
		program  string
		value    any
		want     string
	}{
		{connector.LanguageSOQL, "SELECT Id FROM Account WHERE Name = :v", "O'Brien \\ Sons", `SELECT Id FROM Account WHERE Name = 'O\'Brien \\ Sons'`},
		{connector.LanguageSOQL, "WHERE CreatedDate > :v AND x = 2026-01-01T00:00:00Z", at, "WHERE CreatedDate > 2026-01-31T12:30:00Z AND x = 2026-01-01T00:00:00Z"},
		{connector.LanguageSOQL, "WHERE CloseDate = :v", map[string]any{"date": "2026-01-31"}, "WHERE CloseDate = 2026-01-31"},
		{connector.LanguageSOQL, "WHERE Id IN :v", []any{"a", "b'", 3}, `WHERE Id IN ('a', 'b\'', 3)`},
		{connector.LanguageSOQL, "WHERE A = :v", nil, "WHERE A = NULL"},
		{connector.LanguageSOQL, "WHERE A = :v", true, "WHERE A = TRUE"},
		{connector.LanguageSuite, "SELECT 1 FROM t WHERE a = :v -- :x", "it's", "SELECT 1 FROM t WHERE a = 'it''s' -- :x"},
		{connector.LanguageSuite, "a = :v", false, "a = 'F'"},
		{connector.LanguageSuite, "a = :v", at, "a = TO_TIMESTAMP('2026-01-31 12:30:00', 'YYYY-MM-DD HH24:MI:SS')"},
		{connector.LanguageSuite, "x > 5-:v AND y = 1", -3, "x > 5- -3 AND y = 1"},
		{connector.LanguageJQL, "summary ~ :v", `a "b" \`, `summary ~ "a \"b\" \\"`},
		{connector.LanguageJQL, "assignee = :v", nil, "assignee = EMPTY"},
		{connector.LanguageOData, "Tags/any(t:t/Name eq :v)", "x' or 1 eq 1", "Tags/any(t:t/Name eq 'x'' or 1 eq 1')"},
		{connector.LanguageDrive, "name contains :v and trashed = false", `a'b\`, `name contains 'a\'b\\' and trashed = false`},
		{connector.LanguageQBO, "select * from Customer where DisplayName = :v", "Adam's", `select * from Customer where DisplayName = 'Adam\'s'`},
		{connector.LanguageFormula, `{Bob's Name} = :v`, `x", 1) OR TRUE()`, `{Bob's Name} = "x\", 1) OR TRUE()"`},
		{connector.LanguageFormula, "IF(:v, 1)", true, "IF(TRUE(), 1)"},
		{connector.LanguageSearch, "is:unread from::v", `a" OR from:evil "`, `is:unread from:"a OR from:evil"`},
		{connector.LanguageSearch, "created:>=:v", at, "created:>=2026-01-31T12:30:00Z"},
	} {
		got, err := connector.Quote(c.language, c.program, expr.FromNative(map[string]any{"v": c.value}))
		if err != nil || got != c.want {
			t.Errorf("%s: %s with %v:\n got %s, %v\nwant %s", c.language, c.program, c.value, got, err, c.want)
		}
	}
}

func TestQuoteRefusesWhatHasNoForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		language connector.Language
		program  string
		with     map[string]any
		want     string
	}{
		{connector.LanguageSOQL, "Name = ':v'", map[string]any{"v": "x"}, "inside of quotes"},
		{connector.LanguageSOQL, "Name = :v", nil, "has no v"},
		{connector.LanguageSOQL, "Name = 1", map[string]any{"v": "x"}, "no :v stands"},
		{connector.LanguageSOQL, "Name = 'x", nil, "does not end"},
		{connector.LanguageSOQL, "Name = 'x':v", map[string]any{"v": "x"}, "touches"},
		{connector.LanguageSuite, "Name = :v:v", map[string]any{"v": "x"}, "touches"},
		{connector.LanguageSuite, "Name = :v'x'", map[string]any{"v": "x"}, "touches"},
		{connector.LanguageSuite, "/* x", nil, "comment"},
		{connector.LanguageSOQL, "Id IN :v", map[string]any{"v": []any{}}, "empty"},
		{connector.LanguageSOQL, "Id IN :v", map[string]any{"v": []any{[]any{1}}}, "list holds a list"},
		{connector.LanguageSOQL, "Id = :v", map[string]any{"v": "a\x00b"}, "control"},
		{connector.LanguageSOQL, "Id = :v", map[string]any{"v": map[string]any{"raw": "x"}}, "object"},
		{connector.LanguageSOQL, "Id = :v", map[string]any{"v": map[string]any{"date": "2026-01-31' OR 1=1"}}, "date"},
		{connector.LanguageDrive, "a in :v", map[string]any{"v": []any{"a"}}, "no lists"},
		{connector.LanguageQBO, "a = :v", map[string]any{"v": nil}, "no null"},
		{connector.LanguageSearch, "a :v", map[string]any{"v": `""`}, "no words"},
		{connector.LanguageFormula, "{a = :v", map[string]any{"v": 1}, "name"},
		{"sql", "a", nil, "no query language"},
	} {
		_, err := connector.Quote(c.language, c.program, expr.FromNative(c.with))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: error %v does not say %q", c.language, c.program, err, c.want)
		}
	}
}

func TestParametersNamesThem(t *testing.T) {
	t.Parallel()
	got, err := connector.Parameters(connector.LanguageSOQL, "a = :x AND b = ':y' AND c IN :z AND d = :x")
	if err != nil || fmt.Sprint(got) != "[x z]" {
		t.Errorf("%v, %v", got, err)
	}
}

// readText is a reader of texts of its own: what the other side would take as the text that begins s, and how long it is.
func readText(l connector.Language, s string) (text string, n int, ok bool) {
	doubled := l == connector.LanguageSuite || l == connector.LanguageOData
	quote := byte('\'')
	if l == connector.LanguageJQL || l == connector.LanguageFormula || l == connector.LanguageSearch {
		quote = '"'
	}
	if s == "" || s[0] != quote {
		return "", 0, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == quote && doubled && i+1 < len(s) && s[i+1] == quote:
			b.WriteByte(quote)
			i++
		case c == quote:
			return b.String(), i + 1, true
		case c == '\\' && !doubled && l != connector.LanguageSearch:
			i++
			if i == len(s) {
				return "", 0, false
			}
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, false
}

// FuzzQuote checks that whatever text a parameter has, it is one text in the program, that nothing else changed, and that
// the text is the one that was given.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{
		"", "plain", "'", `"`, `\`, `\'`, `\\'`, "''", "' OR 1=1 --", `" OR "1"="1`, "x'; DROP TABLE a; --", "\\' OR Name LIKE '%", "a\nb", "a\x00b",
		":v", "{}", "*/", "--", "ʼ", "’", "＇", "“x”", "\u2028", "%_", "\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const before, after = "x = ", " AND y = 1"
		for _, l := range connector.Languages() {
			got, err := connector.Quote(l, before+":v"+after, expr.NewObject([]string{"v"}, []expr.Value{expr.String(s)}))
			if err != nil {
				continue
			}
			rest, ok := strings.CutPrefix(got, before)
			if !ok {
				t.Fatalf("%s: %q changed what stands before the value: %q", l, s, got)
			}
			text, n, ok := readText(l, rest)
			if !ok || rest[n:] != after {
				t.Fatalf("%s: %q is not one text: %q", l, s, got)
			}
			if l != connector.LanguageSearch && text != s {
				t.Fatalf("%s: %q is read as %q in %q", l, s, text, got)
			}
			if !utf8.ValidString(got) {
				t.Fatalf("%s: %q makes a program that is not UTF-8", l, s)
			}
		}
	})
}
