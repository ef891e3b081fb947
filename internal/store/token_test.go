package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// A token is found until it is revoked, by its organization only.
func TestTokens(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine, stranger := w.s.Org(t.Context(), w.org), w.stranger(t)
		if had, err := mine.EverHadToken(); had || err != nil {
			t.Errorf("before the first token: %v, %v", had, err)
		}
		first := &Token{
			ID: id.NewToken(at()), Organization: w.org, Name: "first", Role: "admin", Hash: [32]byte{5}, Created: at(), Expires: at().Add(time.Hour),
		}
		second := *first
		second.ID, second.Hash, second.Name = id.NewToken(at().Add(time.Second)), [32]byte{6}, "second"
		w.writeOrg(t, w.org, func(o OrgTx) error { return errors.Join(o.PutToken(first), o.PutToken(&second)) })
		use := func(now time.Time) {
			t.Helper()
			if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().TokenUsed(first.ID, now) }); err != nil {
				t.Error(err)
			}
		}
		use(at().Add(time.Minute))
		use(at()) // a use that is noted late does not turn the time back
		first.Used = at().Add(time.Minute)
		got, err := w.s.System(t.Context()).Token(first.ID)
		if diff := cmp.Diff(first, got); diff != "" || err != nil {
			t.Errorf("token: %v\n%s", err, diff)
		}
		for _, page := range []struct {
			after id.Token
			limit int
			want  string
		}{{id.Token{}, 1, "first"}, {first.ID, 9, "second"}} {
			if list, err := mine.Tokens(page.after, page.limit); err != nil || len(list) != 1 || list[0].Name != page.want || list[0].Hash != [32]byte{} {
				t.Errorf("tokens after %v: %+v, %v", page.after, list, err)
			}
		}
		other := w.s.Org(t.Context(), stranger)
		list, err1 := other.Tokens(id.Token{}, 9)
		had, err2 := other.EverHadToken()
		if err := errors.Join(err1, err2); len(list) > 0 || had || err != nil {
			t.Errorf("another organization sees %+v, %v, %v", list, had, err)
		}
		revoke := func(o id.Org) error {
			return w.s.Write(t.Context(), func(tx *Tx) error { return tx.Org(o).RevokeToken(first.ID, at()) })
		}
		if err := revoke(stranger); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked by another: %v", err)
		}
		if err := revoke(w.org); err != nil {
			t.Error(err)
		}
		if err := revoke(w.org); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked twice: %v", err)
		}
		if _, err := w.s.System(t.Context()).Token(first.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("after it: %v", err)
		}
		if had, err := mine.EverHadToken(); !had || err != nil {
			t.Errorf("after the last: %v, %v", had, err)
		}
	})
}
