package worker

import (
	"mime"
	"net/url"
	"strings"
	"unicode"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxFileName is the longest name of a file in characters.
const maxFileName = 200

// fileName is the name of the file that an answer is: the one that it gives (RFC 6266), else the last segment of the
// request's path. It is one segment of printable characters, or empty.
func fileName(headers []wire.Pair, path string) string {
	if _, params, err := mime.ParseMediaType(header(headers, "content-disposition")); err == nil {
		if name := plainName(params["filename"]); name != "" {
			return name
		}
	}
	path, _, _ = strings.Cut(path, "?")
	if name, err := url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:]); err == nil {
		return plainName(name)
	}
	return ""
}

// plainName takes away what a name should not have wherever it is used: directories and characters that do not print.
func plainName(s string) string {
	s = strings.ToValidUTF8(s[strings.LastIndexAny(s, `/\`)+1:], "")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
	if r := []rune(s); len(r) > maxFileName {
		s = string(r[:maxFileName])
	}
	if s == "." || s == ".." {
		return ""
	}
	return s
}
