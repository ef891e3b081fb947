package cli

import (
	"bytes"
	"io"
	"mime/multipart"
)

// maxParts is how many parts of a request a mock reads.
const maxParts = 1000

// readParts are the parts of a multipart body by name: the text of a field, and
// {name, type, content} of a file.
func readParts(b []byte, boundary string) any {
	out := map[string]any{}
	r := multipart.NewReader(bytes.NewReader(b), boundary)
	for range maxParts {
		p, err := r.NextPart()
		if err != nil {
			break
		}
		text, err := io.ReadAll(p)
		if err != nil {
			return string(b)
		}
		if p.FileName() == "" {
			out[p.FormName()] = string(text)
			continue
		}
		out[p.FormName()] = map[string]any{"name": p.FileName(), "type": p.Header.Get("Content-Type"), "content": string(text)}
	}
	return out
}
