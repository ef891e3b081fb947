package store

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Ports are the TCP ports at which the database of a URL is reached, for a process that is
// to be confined to them. A database that is reached by a Unix socket has none.
func Ports(databaseURL string) ([]uint16, error) {
	cfg, err := postgresConfig(Options{URL: databaseURL})
	if err != nil {
		return nil, err
	}
	var out []uint16
	add := func(host string, port uint16) {
		if !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") && !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	add(cfg.Host, cfg.Port)
	for _, f := range cfg.Fallbacks {
		add(f.Host, f.Port)
	}
	return out, nil
}

// rememberNames lets connections be made again where names cannot be looked up any more: a
// process that has locked itself down uses the addresses that it found before.
func rememberNames(cfg *pgx.ConnConfig) {
	lookup := cfg.LookupFunc // pgx always sets one
	var mu sync.Mutex
	known := map[string][]string{}
	cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		found, err := lookup(ctx, host)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			known[host] = found
		} else if old := known[host]; len(old) > 0 {
			return old, nil
		}
		return found, err
	}
}
