package egress

import (
	"bytes"
	"io"
	"mime"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// inUTF8 returns body as UTF-8 when its content type names another charset, and
// whether it did. It comes before scrubbing, which looks for secrets in ASCII and
// UTF-8. An unknown charset is left alone.
func inUTF8(body io.Reader, contentType string) (io.Reader, bool) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["charset"] == "" {
		return body, false
	}
	enc, err := htmlindex.Get(params["charset"])
	if err != nil {
		return body, false
	}
	if name, err := htmlindex.Name(enc); err != nil || name == "utf-8" {
		return body, false
	}
	return transform.NewReader(body, unicode.BOMOverride(enc.NewDecoder())), true
}

// withoutMark drops a byte order mark, which JSON parsers refuse.
func withoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) }
