package trigger

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// Limits of an event of a sender that speaks CloudEvents.
const (
	// maxAttribute bounds an attribute in bytes.
	maxAttribute = 2048
	// maxAttributes bounds their number.
	maxAttributes = 100
)

// cloudEvent is what a sender says of its event: CloudEvents 1.0, required attributes.
type cloudEvent struct{ id, source, kind string }

// attributePrefix begins the header of an attribute, in canonical form
// (CloudEvents 1.0.2, HTTP protocol binding, 3.1.3.1).
const attributePrefix = "Ce-"

// structuredType is the media type of an event whose attributes and data are one JSON
// object (CloudEvents 1.0.2, JSON event format, 3).
const structuredType = "application/cloudevents+json"

// binaryEvent reads the attributes that stand in headers. Nil: the request is no event of
// CloudEvents, also when an attribute that must be there is missing.
func binaryEvent(h http.Header) *cloudEvent {
	if !strings.HasPrefix(h.Get(attributePrefix+"Specversion"), "1.") {
		return nil
	}
	c := &cloudEvent{}
	for name, to := range map[string]*string{"Id": &c.id, "Source": &c.source, "Type": &c.kind} {
		values := h[attributePrefix+name]
		if len(values) != 1 || len(values[0]) > maxAttribute {
			return nil
		}
		if *to = headerAttribute(values[0]); *to == "" {
			return nil
		}
	}
	return c
}

// headerAttribute is the value of an attribute in a header: a quoted text is unquoted, then
// percent-encoding is taken off, once (HTTP protocol binding, 3.1.3.2). Empty: it has none.
func headerAttribute(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		var b strings.Builder
		for i := 1; i < len(s)-1; i++ {
			if s[i] == '\\' && i+1 < len(s)-1 {
				i++
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	text, err := url.PathUnescape(s)
	if err != nil || !utf8.ValidString(text) {
		return ""
	}
	return text
}

// structured reads an event that is one JSON object, and makes of it the request that it
// would be with its attributes in headers: a flow need not know how a sender speaks.
// Headers that look like attributes are not the sender's word then, and go.
func (q *Request) structured() error {
	envelope, err := expr.ParseJSON(q.Raw)
	if err != nil || expr.Kind(envelope) != expr.KindObject {
		return ErrMalformed
	}
	names := expr.Keys(envelope)
	if len(names) > maxAttributes {
		return ErrMalformed
	}
	header := maps.Clone(q.Header)
	maps.DeleteFunc(header, func(name string, _ []string) bool { return strings.HasPrefix(name, attributePrefix) })
	attributes := map[string]string{}
	for _, name := range names {
		v, _ := expr.Lookup(envelope, name)
		if name == "data" || name == "data_base64" || expr.Kind(v) == expr.KindNull {
			continue
		}
		text, err := expr.Text(v)
		if err != nil || isNested(v) || len(text) > maxAttribute || !attributeName(name) {
			return ErrMalformed
		}
		attributes[name] = text
		if name == "datacontenttype" {
			header["Content-Type"] = []string{text}
		} else {
			header[http.CanonicalHeaderKey(attributePrefix+name)] = []string{text}
		}
	}
	c := &cloudEvent{attributes["id"], attributes["source"], attributes["type"]}
	if !strings.HasPrefix(attributes["specversion"], "1.") || c.id == "" || c.source == "" || c.kind == "" {
		return ErrMalformed
	}
	if attributes["datacontenttype"] == "" {
		header["Content-Type"] = []string{"application/json"} // JSON event format, 3.1.1
	}
	q.cloud, q.Header = c, header
	return q.data(envelope)
}

func isNested(v expr.Value) bool {
	k := expr.Kind(v)
	return k == expr.KindList || k == expr.KindObject
}

// attributeName reports whether a text is the name of an attribute (CloudEvents 1.0.2, 3.1).
func attributeName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// data makes the data of an event the body.
func (q *Request) data(envelope expr.Value) error {
	v, plain := expr.Lookup(envelope, "data")
	encoded, binary := expr.Lookup(envelope, "data_base64")
	switch {
	case plain && binary:
		return ErrMalformed
	case plain:
	case binary:
		text, _ := expr.Str(encoded)
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || expr.Kind(encoded) != expr.KindString {
			return ErrMalformed
		}
		kind := q.Header.Get("Content-Type")
		if isJSON(mediaType(kind)) {
			if v, err = expr.ParseJSON(b); err != nil {
				return ErrMalformed
			}
			break
		}
		if !utf8.Valid(b) {
			return ErrUnsupported
		}
		v = expr.String(string(b))
	default:
		v = expr.Null()
	}
	q.replace(v)
	return nil
}

// delivery identifies a delivery among those of a flow: what the flow says, else what the
// sender says of itself where it has proved who it is. Empty: nothing does.
//
// Without a proof the sender's word is not taken: whoever guesses the id of an event could
// send another one before it, and the true one would be dropped.
func (q *Request) delivery(w *flow.Webhook) string {
	var key string
	switch {
	case !w.Dedupe.IsZero():
		return q.Key(&w.Dedupe)
	case w.Verify.None:
	case w.Verify.StandardWebhooks != nil:
		key = "webhook-id\x00" + q.Header.Get(standardID) // it is signed
	case q.cloud != nil:
		key = "cloudevent\x00" + q.cloud.source + "\x00" + q.cloud.id
	}
	if len(key) > maxKey {
		return ""
	}
	return key
}
