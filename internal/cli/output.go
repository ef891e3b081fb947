package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

// writeJSON prints a value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// terminal reports whether w is a terminal whose user wants colour.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	return isTerminal(f)
}

// isTerminal tells a terminal from files, pipes and the device that holds nothing.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// style chooses how problems are shown.
func style(w io.Writer) flowfile.Style {
	if terminal(w) {
		return flowfile.Colour
	}
	return flowfile.Plain
}

// paint wraps text in a colour when the writer is a terminal.
type paint bool

const (
	green  = "32"
	red    = "31"
	yellow = "33"
	grey   = "90"
	bold   = "1"
)

func (p paint) in(colour, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// interactive reports whether somebody can answer on r.
func interactive(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isTerminal(f)
}
