package store

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestPorts(t *testing.T) {
	t.Parallel()
	for u, want := range map[string][]uint16{
		"postgres://u@127.0.0.1/db":                      {5432},
		"postgres://u@db.example:6000/db":                {6000},
		"postgres://u@a.example:1,b.example:2/db":        {1, 2},
		"postgres:///db?host=/var/run/postgresql&user=u": nil,
	} {
		if got, err := Ports(u); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", u, got, err, want)
		}
	}
	if _, err := Ports("mysql://x"); err == nil {
		t.Error("another database is accepted")
	}
}

func TestNamesAreRemembered(t *testing.T) {
	t.Parallel()
	down := false
	cfg := &pgx.ConnConfig{}
	cfg.LookupFunc = func(context.Context, string) ([]string, error) {
		if down {
			return nil, errors.New("no network")
		}
		return []string{"192.0.2.1"}, nil
	}
	rememberNames(cfg)
	for range 2 {
		got, err := cfg.LookupFunc(t.Context(), "db.example")
		if err != nil || !cmp.Equal(got, []string{"192.0.2.1"}) {
			t.Errorf("down %v: %v, %v", down, got, err)
		}
		down = true
	}
	if _, err := cfg.LookupFunc(t.Context(), "other.example"); err == nil {
		t.Error("a name that was never found is found")
	}
}
