package openapi

import "strings"

// mediaBase is a media type in lower case without parameters.
func mediaBase(t string) string {
	base, _, _ := strings.Cut(t, ";")
	return strings.ToLower(strings.TrimSpace(base))
}

// isJSON reports a media type of JSON (RFC 6839 section 3.1), and what documents write for it.
func isJSON(base string) bool {
	switch base {
	case "application/json", "text/json", "*/*", "application/*", "applicationjson", "application-json", "json", "":
		return true
	}
	return strings.HasSuffix(base, "+json")
}

// isText reports media types whose content a person can read.
func isText(base string) bool {
	return strings.HasPrefix(base, "text/") || isXML(base) || strings.Contains(base, "yaml") || base == "application/jwt" || base == "plain/text" ||
		base == "application/text" || base == "application/graphql" || base == "application/x-ndjson" || base == "application/jsonl" ||
		base == "application/sparql-query" || base == "application/javascript"
}

func isXML(base string) bool {
	return base == "application/xml" || base == "text/xml" || strings.HasSuffix(base, "+xml")
}

func isMethod(key string) bool {
	switch key {
	case "get", "put", "post", "delete", "options", "head", "patch", "trace":
		return true
	}
	return false
}
