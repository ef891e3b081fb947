package sample

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAccountsAreApart(t *testing.T) {
	t.Parallel()
	s := &Servers{Accounts: []*Account{newAccount("a", "A", "Ada", "A"), newAccount("b", "B", "Bob", "B")}}
	send := func(h http.Handler, method, path, token, body string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for n, a := range s.Accounts {
		code, body := send(s.shop(), http.MethodGet, "/orders/1", a.ShopToken, "")
		if code != http.StatusOK || !strings.Contains(body, a.buyer) {
			t.Errorf("order of %s: %d %s", a.ID, code, body)
		}
		for _, wrong := range []string{"", "x", a.ERPToken} {
			if code, _ := send(s.shop(), http.MethodGet, "/orders/1", wrong, ""); code != http.StatusUnauthorized {
				t.Errorf("token %q: status %d", wrong, code)
			}
		}
		for range 2 { // the same key books once
			if code, _ := send(s.erp(), http.MethodPost, "/invoice-lines", a.ERPToken, `{"order":"1","sku":"X"}`); code != http.StatusCreated {
				t.Errorf("book: %d", code)
			}
		}
		if other := s.Accounts[1-n]; len(a.Booked()) != 1 || n == 0 && len(other.Booked()) != 0 {
			t.Errorf("booked for %s: %d, for %s: %d", a.ID, len(a.Booked()), other.ID, len(other.Booked()))
		}
	}
}
