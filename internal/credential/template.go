package credential

import (
	"slices"
	"strings"
)

// Names are the names that templates may use besides variables, fields and kept values.
//
//   - client_id, client_secret and what else the client has;
//   - access_token, refresh_token, id_token, and set.access_token of a [Set];
//   - code, redirect_uri, state, scope, code_verifier in token requests;
//   - token in a revocation, assertion, signature;
//   - now, now_ms, now_iso, now_http, nonce, uuid: made for the request;
//   - field.name is a member of a field that holds JSON.
const Names = "access_token account assertion body body_hash client_assertion client_id client_secret code code_verifier " +
	"content_type host id_token issuer method nonce now now_http now_iso now_ms params path private_key key_id query " +
	"redirect_uri refresh_token resource scope signature state token token_url url uuid certificate"

// span is one {name} of a template.
type span struct {
	name       string
	start, end int
}

// spans finds the names of a template. A brace that does not begin a name is text.
func spans(template string) []span {
	var out []span
	for at := 0; at < len(template); {
		open := strings.IndexByte(template[at:], '{')
		if open < 0 {
			break
		}
		open += at
		end := strings.IndexByte(template[open:], '}')
		if end < 0 {
			break
		}
		end += open
		if name := template[open+1 : end]; nameText(name) {
			out = append(out, span{name, open, end + 1})
			at = end + 1
		} else {
			at = open + 1
		}
	}
	return out
}

func nameText(s string) bool {
	return s != "" && s[0] >= 'a' && s[0] <= 'z' && len(s) <= maxName && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

// Uses are the names in a template, each once.
func Uses(template string) []string {
	var out []string
	for _, s := range spans(template) {
		if !slices.Contains(out, s.name) {
			out = append(out, s.name)
		}
	}
	return out
}

// Expand puts values into a template. value returns the text for a name, escaped for where it goes; an error of it is
// returned as it is.
func Expand(template string, value func(name string) (string, error)) (string, error) {
	found := spans(template)
	if len(found) == 0 {
		return template, nil
	}
	var b strings.Builder
	at := 0
	for _, s := range found {
		text, err := value(s.name)
		if err != nil {
			return "", err
		}
		b.WriteString(template[at:s.start])
		b.WriteString(text)
		at = s.end
	}
	b.WriteString(template[at:])
	return b.String(), nil
}

// hostOf is the part of a URL template in which a value decides on the host: behind "https://", up to the slash.
func hostOf(url string) (scheme, host, rest string) {
	scheme, after, ok := strings.Cut(url, "://")
	if !ok {
		return "", "", url
	}
	end := strings.IndexAny(after, "/?#")
	if end < 0 {
		return scheme, after, ""
	}
	return scheme, after[:end], after[end:]
}
