// Package keep holds the module requirements until each has a user. It is removed before the first release.
package keep

import (
	_ "cel.dev/cel-go/cel"
	_ "code.dny.dev/ssrf"
	_ "github.com/alecthomas/kong"
	_ "github.com/elastic/go-seccomp-bpf"
	_ "github.com/evanw/esbuild/pkg/api"
	_ "github.com/goccy/go-yaml"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/grafana/sobek"
	_ "github.com/jackc/pgx/v5"
	_ "github.com/landlock-lsm/go-landlock/landlock"
	_ "github.com/nats-io/nats-server/v2/server"
	_ "github.com/nats-io/nats.go"
	_ "github.com/pressly/goose/v3"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/santhosh-tekuri/jsonschema/v6"
	_ "github.com/tink-crypto/tink-go/v2/aead"
	_ "golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite"
)
