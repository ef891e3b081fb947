package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
)

// tokenVariable holds the token for a platform that is named by its address.
const tokenVariable = "BULKHEAD_TOKEN"

// maxToken is the longest token that is read from a file, in bytes.
const maxToken = 1024

// remote says which platform a command speaks to. Without an address it is the one on
// this machine, by the socket that only its owner may open.
type remote struct {
	Server    string `env:"BULKHEAD_SERVER" placeholder:"URL" group:"Platform" help:"Address of the platform. Default: the one on this machine, without a token."`
	TokenFile string `env:"BULKHEAD_TOKEN_FILE" placeholder:"FILE" group:"Platform" help:"File with the token; or set BULKHEAD_TOKEN."`
	Authority string `env:"BULKHEAD_AUTHORITY" placeholder:"FINGERPRINT" group:"Platform" help:"Of the vault that secrets may be sealed to, as bulkhead status shows it on its machine. Default: the one that the platform showed first."`
	State     string `env:"BULKHEAD_STATE" placeholder:"DIR" group:"Platform" help:"State directory of the platform on this machine."`
	JSON      bool   `name:"json" help:"Print JSON: one object, or one a line for lists."`
}

// open makes a client of the platform.
func (r *remote) open(s *console) (*client.Client, error) {
	if r.Server == "" {
		return r.local()
	}
	token := os.Getenv(tokenVariable)
	if r.TokenFile != "" {
		b, err := readFile(r.TokenFile, maxToken)
		if err != nil {
			return nil, err
		}
		token = string(b)
	}
	if token = strings.TrimSpace(token); token == "" {
		return nil, usage("%s needs a token: set %s, or name its file with --token-file", r.Server, tokenVariable)
	}
	c, err := client.Open(r.Server, token)
	if err != nil {
		return nil, usage("--server %s: %w", r.Server, err)
	}
	c.Trust((&pins{server: strings.TrimSuffix(r.Server, "/"), given: r.Authority, c: s}).check)
	return c, nil
}

// socketName is where a platform's socket is within its state directory.
const socketName = "server/api.sock"

func (r *remote) local() (*client.Client, error) {
	dir, err := stateDirectory(r.State, usualState)
	if err != nil {
		return nil, err
	}
	x, err := client.Local(filepath.Join(dir, socketName))
	if err != nil && r.State == "" {
		if sample, e := stateDirectory("", sampleState); e == nil {
			if y, e := client.Local(filepath.Join(sample, socketName)); e == nil {
				return y, nil
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, usage("the platform's state is in %s, which you may not enter:\n          run this as who started it, or give --server and %s", dir, tokenVariable)
	case err != nil:
		return nil, &fail{exitFailed, fmt.Errorf("no platform runs on this machine with its state in %s.\n          Start one with bulkhead up, name its --state, or give --server and %s", dir, tokenVariable)}
	}
	return x, nil
}

// with runs f with a client of the platform, and says what to do about what it refuses.
func (r *remote) with(c *console, f func(context.Context, *client.Client) error) error {
	x, err := r.open(c)
	if err != nil {
		return err
	}
	defer x.Close()
	return advise(f(c.ctx, x))
}

// advise adds what to do next to an error of the platform, and gives it its exit status.
func advise(err error) error {
	refused, ok := errors.AsType[*client.Error](err)
	if _, advised := errors.AsType[*fail](err); !ok || advised {
		return err
	}
	var places strings.Builder
	for _, p := range refused.Errors {
		if len(refused.Errors) == 1 {
			break // the error has said it
		}
		fmt.Fprintf(&places, "\n          %s: %s", p.Place, p.Message)
	}
	code := exitFailed
	hint := ""
	switch refused.Code {
	case api.CodeUnauthenticated:
		hint = "\n          On the platform's own machine, bulkhead tokens create makes a new token."
	case api.CodeNotFound:
		hint = "\n          There is nothing of that id or name: bulkhead customers, connections, connectors and so on list what there is."
	case api.CodeForbidden:
		hint = "\n          bulkhead status shows what your token may do."
	case api.CodeChanged:
		hint = "\n          Somebody changed it meanwhile: look at it and try again."
	case api.CodeInvalid, api.CodeInvalidInput, api.CodeInvalidSource, api.CodeMalformed:
		code = exitUsage
	}
	return &fail{code, fmt.Errorf("%w%s%s", err, places.String(), hint)}
}

// printJSON prints one value for a program.
func printJSON(c *console, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	_, err = fmt.Fprintf(c.Out, "%s\n", b)
	return err
}

// show prints an answer as JSON, or for people.
func (r *remote) show(c *console, v any, people func()) error {
	if r.JSON {
		return printJSON(c, v)
	}
	people()
	return nil
}

// details prints everything that is known of one thing: on one line for programs, readable
// for people.
func (r *remote) details(c *console, v any) error {
	if r.JSON {
		return printJSON(c, v)
	}
	return writeJSON(c.Out, v)
}
