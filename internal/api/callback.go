package api

import (
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// noDeadline lets a stream last as long as its execution.
var noDeadline = time.Time{}

// callback consumes the answer to a wait. Whoever has the address may answer, once; what
// comes to any other address is not read.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	err := s.engine.Awaits(r.Context(), r.PathValue("token"))
	if err == nil {
		err = s.answer(w, r)
	}
	person := strings.Contains(r.Header.Get("Accept"), "text/html")
	switch {
	case person && errors.Is(err, engine.ErrNotFound):
		page(w)
		w.WriteHeader(http.StatusNotFound)
		return over.Execute(w, nil)
	case err != nil:
		return err
	case person:
		page(w)
		return thanks.Execute(w, nil)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]string{"status": "answered"})
}

// answer reads an answer and gives it to who waits for it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
	if err != nil {
		return engine.ErrTooLarge
	}
	payload := map[string]any{"body": nil, "headers": map[string]string{}, "time": time.Now().UTC().Format(time.RFC3339Nano)}
	switch {
	case len(body) == 0:
	case isForm(r):
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if err := r.ParseForm(); err != nil {
			return errors.Join(errRequest, errors.New("the form cannot be read"))
		}
		form := map[string]string{}
		for k := range r.PostForm {
			form[k] = r.PostForm.Get(k)
		}
		payload["body"] = form
	default:
		if _, err := expr.ParseJSON(body); err == nil {
			payload["body"] = json.RawMessage(body)
		} else if strings.Contains(r.Header.Get("Content-Type"), "json") {
			return errors.Join(errRequest, errors.New("the body is not JSON"))
		} else {
			payload["body"] = string(body)
		}
	}
	headers := payload["headers"].(map[string]string)
	for name := range r.Header {
		if name != "Authorization" && name != "Proxy-Authorization" && name != "Cookie" {
			headers[strings.ToLower(name)] = r.Header.Get(name)
		}
	}
	payload["query"] = queryOf(r.URL)
	b, err := json.Marshal(payload)
	if err != nil {
		return errors.Join(errRequest, err)
	}
	return s.engine.Wake(r.Context(), r.PathValue("token"), b)
}

// queryOf is the first value of each parameter. The query is parsed once: anybody may
// send one of thousands of names.
func queryOf(u *url.URL) map[string]string {
	values := u.Query()
	first := make(map[string]string, len(values))
	for name, all := range values {
		first[name] = all[0]
	}
	return first
}

func isForm(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

// page sets the headers of a page that shows nothing of the request and runs nothing.
func page(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

const pageStyle = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Bulkhead</title>` +
	`<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:28rem;margin:14vh auto;padding:0 1.5rem;color:#1a2733;background:#f6f8fa}` +
	`h1{font-size:1.5rem;line-height:1.25;margin:0 0 .75rem}p{margin:0 0 1.5rem;color:#46586a}` +
	`button{font:inherit;font-weight:600;padding:.7rem 1.6rem;border:0;border-radius:.5rem;background:#0b5c8a;color:#fff;cursor:pointer}` +
	`button:hover{background:#094a70}button:focus-visible{outline:3px solid #7cc4ee;outline-offset:2px}` +
	`@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#10171e}p{color:#9fb0c0}button{background:#2f81b7}button:hover{background:#3d94cf}}</style>`

var (
	confirm = template.Must(template.New("confirm").Parse(pageStyle + `<h1>Send this answer?</h1><p>Somebody is waiting for it. It can be sent once.</p><form method="post"><button>Send answer</button></form></html>`))
	thanks  = template.Must(template.New("thanks").Parse(pageStyle + `<h1>Thank you</h1><p>The answer has been taken. You can close this page.</p></html>`))
	over    = template.Must(template.New("over").Parse(pageStyle + `<h1>Nobody waits here any more</h1><p>The answer was given before, or its time is over. You can close this page.</p></html>`))
)

// askCallback asks a person to confirm: link scanners and previews fetch addresses, so
// fetching one must change nothing. It is the same page for every token.
func (s *Server) askCallback(w http.ResponseWriter, _ *http.Request) error {
	page(w)
	return confirm.Execute(w, nil)
}
