package api

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// A cursor is a position, the 16 bytes of an id, and an HMAC that binds it to the list, the
// organization and the filter that it was made for: it cannot be carried into another
// query. The key is the blind-index key, so that every server takes every cursor.

const cursorSize = 16 + 16

// seal makes the cursor of a position in a list.
func (s *Server) sealCursor(ctx context.Context, list string, filter any, at [16]byte) (string, error) {
	mac, err := s.cursorMAC(ctx, list, filter, at)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(at[:], mac...)), nil
}

func (s *Server) cursorMAC(ctx context.Context, list string, filter any, at [16]byte) ([]byte, error) {
	org := principalOf(ctx).Org
	f, err := json.Marshal(filter)
	if err != nil {
		return nil, err
	}
	mac, err := s.engine.MAC(ctx, "cursor/1", []byte(list), org[:], f, at[:])
	return mac[:16], err
}

// openCursor reads a cursor; an empty one is the begin of the list.
func (s *Server) openCursor(ctx context.Context, list string, filter any, cursor string) (at [16]byte, err error) {
	if cursor == "" {
		return at, nil
	}
	wrong := problemOf(CodeInvalid, "", Place{"query.cursor", "it was not made for this list and filter"})
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) != cursorSize {
		return at, wrong
	}
	copy(at[:], b)
	mac, err := s.cursorMAC(ctx, list, filter, at)
	if err != nil {
		return at, err
	}
	if !hmac.Equal(mac, b[16:]) && !off(cursorsBound) {
		return [16]byte{}, wrong
	}
	return at, nil
}

// pageOf answers a list that goes by ids. The filter is what else the list depends on.
func pageOf[K id.Kind, R, T any](ctx context.Context, s *Server, list string, in *ListInput, read func(id.ID[K], int) ([]R, error), show func(*R) T, at func(*R) id.ID[K]) (*answer[Page[T]], error) {
	return filteredPage(ctx, s, list, nil, in, read, show, at)
}

func filteredPage[K id.Kind, R, T any](ctx context.Context, s *Server, list string, filter any, in *ListInput, read func(id.ID[K], int) ([]R, error), show func(*R) T, at func(*R) id.ID[K]) (*answer[Page[T]], error) {
	from, err := s.openCursor(ctx, list, filter, in.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := read(id.ID[K](from), in.Limit+1)
	if err != nil {
		return nil, err
	}
	p := Page[T]{Items: []T{}}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		if p.Next, err = s.sealCursor(ctx, list, filter, at(&rows[len(rows)-1])); err != nil {
			return nil, err
		}
	}
	for n := range rows {
		p.Items = append(p.Items, show(&rows[n]))
	}
	return &answer[Page[T]]{p}, nil
}

// asID writes a number as an id is, for lists that go by numbers.
func asID[T ~[16]byte](n uint32) T {
	var t T
	binary.BigEndian.PutUint32(t[12:], n)
	return t
}

func numberOf[T ~[16]byte](t T) uint32 { return binary.BigEndian.Uint32(t[12:]) }
