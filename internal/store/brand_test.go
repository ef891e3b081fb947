package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBrand(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine, stranger := w.s.Org(t.Context(), w.org), w.stranger(t)
		if b, err := mine.Brand(); err != nil || b.Title != "acme" || len(b.Logo) != 0 {
			t.Errorf("before: %+v, %v", b, err)
		}
		want := &Brand{Title: "Acme", Colours: map[string]string{"accent": "#123456"}, Logo: []byte{1, 2}, ReturnURLs: []string{"https://x.example/"}}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.PutBrand(want) })
		got, err := mine.Brand()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if b, err := w.s.Org(t.Context(), stranger).Brand(); err != nil || len(b.Colours) != 0 {
			t.Errorf("another organization: %+v, %v", b, err)
		}
	})
}
