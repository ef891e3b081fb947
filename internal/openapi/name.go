package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// words joins the words of a text in camel case: "repos/list-for-user" is reposListForUser.
func words(s string) string {
	if len(s) > maxNameWords {
		s = s[:maxNameWords]
	}
	var b strings.Builder
	up := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case letter(c) || digit(c):
			if up && c >= 'a' && c <= 'z' && b.Len() > 0 {
				c -= 'a' - 'A'
			}
			b.WriteByte(c)
			up = false
		case c == '_' && !up && b.Len() > 0 && i+1 < len(s) && (letter(s[i+1]) || digit(s[i+1])):
			b.WriteByte(c)
		default:
			up = true
		}
	}
	return b.String()
}

// identifier is a name of letters, digits and underscores that begins with a letter; other when nothing of s can be used.
func identifier(s, other string) string {
	s = words(s)
	s = strings.TrimRight(s, "_")
	if s == "" {
		s = other
	}
	if !letter(s[0]) {
		s = other + s
	}
	if len(s) > connector.MaxName {
		s = suffixed(s, s)
	}
	return s
}

const suffixLength = 6

// suffixed makes a name unique by what it names: the same one on every import.
func suffixed(name, of string) string {
	sum := sha256.Sum256([]byte(of))
	if limit := connector.MaxName - suffixLength - 1; len(name) > limit {
		name = name[:limit]
	}
	return name + "_" + hex.EncodeToString(sum[:])[:suffixLength]
}

// pathName names an operation without operationId by its method and path: getReposByOwnerIssues.
func pathName(method, path string) string {
	var b strings.Builder
	b.WriteString(method)
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/.:;,?&=#-", r) }) {
		b.WriteByte('-')
		if strings.HasPrefix(part, "{") {
			b.WriteString("by-")
		}
		b.WriteString(part)
	}
	return identifier(b.String(), method)
}

// inputName is a name of letters, digits, underscores, dots and hyphens.
func inputName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < maxNameWords; i++ {
		c := s[i]
		switch {
		case letter(c) || digit(c) || c == '_':
			b.WriteByte(c)
		case c == '.' || c == '-':
			if b.Len() > 0 {
				b.WriteByte(c)
			}
		case c == '[' || c == ' ' || c == '/' || c == ':':
			if b.Len() > 0 {
				b.WriteByte('_')
			}
		}
	}
	name := strings.TrimRight(b.String(), "_.-")
	if name == "" {
		return "input_" + suffixed("", s)[1:]
	}
	if digit(name[0]) {
		name = "_" + name
	}
	if len(name) > connector.MaxName {
		name = suffixed(name, s)
	}
	return name
}

// connectorName is a name for a connector: small letters, digits and hyphens.
func connectorName(title string) string {
	var b strings.Builder
	for _, c := range []byte(strings.ToLower(title)) {
		switch {
		case letter(c), digit(c) && b.Len() > 0:
			b.WriteByte(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	for _, suffix := range []string{"-api", "-rest", "-openapi", "-swagger"} {
		name = strings.TrimSuffix(strings.TrimRight(name, "-"), suffix)
	}
	if len(name) > connector.MaxName {
		name = name[:connector.MaxName]
	}
	if name = strings.TrimRight(name, "-"); name == "" {
		return "imported"
	}
	return name
}

func itoa(i int) string { return strconv.Itoa(i) }
