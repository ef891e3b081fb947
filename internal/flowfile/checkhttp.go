package flowfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// requestInputs are the inputs of the action request of the connector http.
func requestInputs() []string {
	return []string{"method", "path", "query", "headers", "body", "form", "multipart", "response", "expect"}
}

func requestMethods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
}

// request checks the inputs of an HTTP request and returns what is known of the answer's body. at is the key that an input
// that is missing is reported at.
func (c *checker) request(with *flow.Value, path string, at *source.Node) expr.Type {
	if c.d.Observe != nil {
		c.d.Observe("request", requestInputs())
	}
	for _, k := range with.Keys {
		if !slices.Contains(requestInputs(), k) {
			c.d.ProblemKey(source.Join(path, k), source.DidYouMean(k, requestInputs()), "the action request has no input %q", source.Cut(k, 80))
		}
	}
	c.requestMethod(with, path)
	if p := with.Get("path"); p != nil {
		c.requestPath(p, path+".path")
	} else if at != nil && (with.Kind == flow.Object || with.IsZero()) {
		c.d.Problem(at, path+".path", `write path: / for the base URL itself`, "the input \"path\" is missing")
	}
	for _, name := range []string{"query", "headers", "form", "multipart"} {
		if v := with.Get(name); v != nil && v.Kind != flow.Object && v.Kind != flow.Expression {
			c.d.ProblemAt(path+"."+name, "", "expected a map, found %s", v.Kind)
		}
	}
	for _, name := range []string{"query", "form"} {
		c.encoded(with.Get(name), path+"."+name)
	}
	if h := with.Get("headers"); h != nil {
		c.headers(h, path+".headers", requestHeaders())
	}
	var bodies []string
	for _, name := range []string{"body", "form", "multipart"} {
		if with.Get(name) != nil {
			bodies = append(bodies, name)
		}
	}
	if len(bodies) > 1 {
		c.d.ProblemKey(path+"."+bodies[1], "", "a request has one of body, form or multipart, %q is there already", bodies[0])
	}
	c.expect(with.Get("expect"), path+".expect")
	return c.responseBody(with.Get("response"), path+".response")
}

func (c *checker) requestMethod(with *flow.Value, path string) {
	m := with.Get("method")
	switch {
	case m == nil || m.Kind == flow.Expression:
	case m.Kind != flow.String:
		c.d.ProblemAt(path+".method", "", "expected %s, found %s", source.OneOf(requestMethods()), m.Kind)
	case !slices.Contains(requestMethods(), m.Text):
		c.d.ProblemAt(path+".method", source.DidYouMean(strings.ToUpper(m.Text), requestMethods()), "expected %s, found the text %q", source.OneOf(requestMethods()), source.Cut(m.Text, 40))
	}
}

// requestPath checks the literal parts of a path; what is interpolated is escaped as one segment when it runs.
func (c *checker) requestPath(v *flow.Value, path string) {
	var literal string
	switch v.Kind {
	case flow.Expression:
		return
	case flow.String:
		literal = v.Text
	case flow.Template:
		for _, p := range v.Parts {
			if p.Expr != nil {
				literal += "\x00"
			}
			literal += p.Text
		}
	default:
		c.d.ProblemAt(path, "", "expected a path such as /orders, found %s", v.Kind)
		return
	}
	switch {
	case regexp.MustCompile(`^(?i)[a-z][a-z0-9+.-]*://`).MatchString(literal):
		c.d.ProblemAt(path, "write the path only", "the scheme and the host belong to the connection")
	case strings.ContainsAny(literal, "\r\n"):
		c.d.ProblemAt(path, "", "a path has no line breaks")
	case !strings.HasPrefix(literal, "/") && !strings.HasPrefix(literal, "\x00"):
		c.d.ProblemAt(path, fmt.Sprintf("write /%s", strings.ReplaceAll(source.Cut(literal, 60), "\x00", "…")), "a path begins with /")
	case strings.HasPrefix(literal, "//"):
		c.d.ProblemAt(path, "", "a path does not begin with //")
	case strings.Contains(literal, "?"):
		c.d.ProblemAt(path, "write query: {name: value}", "the query does not belong to the path")
	case strings.Contains(literal, "#"):
		c.d.ProblemAt(path, "write %23 for a literal #", "a path has no fragment")
	case slices.ContainsFunc(strings.Split(literal, "/"), func(s string) bool { return s == "." || s == ".." }):
		c.d.ProblemAt(path, "", "a path has no segment . or ..")
	}
}

// encoded checks query and form: texts, numbers and the like, or lists of them.
func (c *checker) encoded(v *flow.Value, path string) {
	if v == nil || v.Kind != flow.Object {
		return
	}
	for i, k := range v.Keys {
		item := &v.Items[i]
		if item.Kind == flow.Object {
			c.d.ProblemAt(source.Join(path, k), "write toJson(…) if the other side expects JSON here", "expected a text, a number, a list or an expression, found %s", item.Kind)
		}
		if item.Kind != flow.List {
			continue
		}
		for n := range item.Items {
			if k := item.Items[n].Kind; k == flow.Object || k == flow.List {
				c.d.ProblemAt(fmt.Sprintf("%s[%d]", source.Join(path, v.Keys[i]), n), "", "expected a text, a number or an expression, found %s", k)
			}
		}
	}
}

// requestHeaders are set by the connection or by the way HTTP is spoken; a flow cannot set them.
func requestHeaders() []string {
	return []string{
		"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
		"upgrade", "expect", "idempotency-key",
	}
}

// answerHeaders are those of an answer that a flow cannot set.
func answerHeaders() []string {
	return []string{"content-length", "transfer-encoding", "connection", "keep-alive", "trailer", "upgrade", "set-cookie", "strict-transport-security"}
}

func (c *checker) headers(v *flow.Value, path string, fixed []string) {
	if v.Kind != flow.Object {
		return
	}
	name := regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$")
	seen := map[string]bool{}
	for i, k := range v.Keys {
		at, lower := source.Join(path, k), strings.ToLower(k)
		switch {
		case !name.MatchString(k):
			c.d.ProblemKey(at, "", "%q cannot be the name of a header", source.Cut(k, 80))
		case slices.Contains(fixed, lower):
			c.d.ProblemKey(at, "", "a flow cannot set the header %q", k)
		case lower == "authorization" || lower == "cookie":
			c.warn(at, "credentials belong to the connection, where no flow can read them")
		case seen[lower]:
			c.d.ProblemKey(at, "", "the header %q is there twice", k)
		}
		seen[lower] = true
		if item := &v.Items[i]; item.Kind == flow.String && strings.ContainsAny(item.Text, "\r\n\x00") {
			c.d.ProblemAt(at, "", "a header has no line breaks")
		} else if item.Kind == flow.Object {
			c.d.ProblemAt(at, "", "expected a text, found %s", item.Kind)
		}
	}
}

// expect checks the statuses that are no errors.
func (c *checker) expect(v *flow.Value, path string) {
	if v == nil {
		return
	}
	if v.Kind != flow.List {
		c.d.ProblemAt(path, "", "expected a list such as [\"2xx\", 404], found %s", v.Kind)
		return
	}
	for i := range v.Items {
		item := &v.Items[i]
		ok := item.Kind == flow.Number && regexp.MustCompile(`^[1-5][0-9][0-9]$`).MatchString(item.Text) ||
			item.Kind == flow.String && regexp.MustCompile(`^[1-5]xx$`).MatchString(item.Text)
		if !ok {
			c.d.ProblemAt(fmt.Sprintf("%s[%d]", path, i), "", "expected a status such as 404 or a class such as \"2xx\"")
		}
	}
}

func (c *checker) responseBody(v *flow.Value, path string) expr.Type {
	kinds := []string{"auto", "json", "text", "file"}
	if v == nil {
		return expr.Dyn()
	}
	if v.Kind != flow.String || !slices.Contains(kinds, v.Text) {
		suggestion := ""
		if v.Kind == flow.String {
			suggestion = source.DidYouMean(v.Text, kinds)
		}
		c.d.ProblemAt(path, suggestion, "expected %s", source.OneOf(kinds))
		return expr.Dyn()
	}
	switch v.Text {
	case "text":
		return expr.StringType()
	case "file":
		return fileType()
	}
	return expr.Dyn()
}
