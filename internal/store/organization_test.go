package store

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// TestOrganization finds the one that was made first.
func TestOrganization(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		if _, err := s.System(t.Context()).Organization(); !errors.Is(err, ErrNotFound) {
			t.Errorf("without one: %v", err)
		}
		first, second := id.NewOrg(at()), id.NewOrg(at())
		err := s.Write(t.Context(), func(tx *Tx) error {
			return errors.Join(
				tx.System().PutOrganization(&Organization{ID: second, Name: "second"}, at().Add(time.Second)),
				tx.System().PutOrganization(&Organization{ID: first, Name: "first"}, at()),
			)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.System(t.Context()).Organization(); err != nil || *got != (Organization{first, "first"}) {
			t.Errorf("got %v, %v", got, err)
		}
	})
}
