// Package sample is the sample integration and the two small servers that it
// connects: a shop with orders and an ERP that books invoice lines. They are real
// HTTP servers on loopback, at which two companies have accounts with tokens of their
// own, so that a first run shows real requests, credentials included, and that one
// company's never reach the other's data.
//
// The servers keep what they booked by account, and refuse requests without a token.
// They are safe for concurrent use.
package sample

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed" // the sample file
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// File is the sample integration, as a user would write it.
//
//go:embed order-to-erp.yaml
var File []byte

// FileName is what messages call File.
const FileName = "order-to-erp.yaml"

// Event is the body of the sample webhook: order 4711 was paid.
const Event = `{"id": "4711"}`

const maxBody = 1 << 20

// Line is one line of an order.
type Line struct {
	SKU   string  `json:"sku"`
	Qty   int     `json:"qty"`
	Price float64 `json:"price"`
}

// Invoice is one invoice line as the ERP has booked it.
type Invoice struct {
	ID     string  `json:"id"`
	Order  string  `json:"order"`
	SKU    string  `json:"sku"`
	Amount float64 `json:"amount"`
	Memo   string  `json:"memo"`
}

// Account is what one company has at both servers: its tokens and its data.
type Account struct {
	ID        string // of the company, as an organization would call its customer
	Name      string
	ShopToken string
	ERPToken  string

	buyer  string // who bought order 4711 and every other
	prefix string // of the numbers of its invoices

	mu     sync.Mutex
	booked []Invoice
	keys   map[string]string // idempotency key → invoice
}

// Servers are the running shop and ERP.
type Servers struct {
	ShopURL, ERPURL string
	Accounts        []*Account // two

	// Booked, if it is set before the first request, is called with every invoice line that
	// the ERP books, one at a time for each account.
	Booked func(*Account, Invoice)

	servers []*http.Server
}

// Start starts both servers on loopback.
func Start() (*Servers, error) {
	s := &Servers{Accounts: []*Account{
		newAccount("northwind", "Northwind Traders", "Ada Lovelace", "NW"),
		newAccount("acme", "Acme Corporation", "Grace Hopper", "AC"),
	}}
	var err error
	if s.ShopURL, err = s.listen(s.shop()); err != nil {
		return nil, err
	}
	if s.ERPURL, err = s.listen(s.erp()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newAccount(company, name, buyer, prefix string) *Account {
	return &Account{
		ID: company, Name: name, ShopToken: rand.Text(), ERPToken: rand.Text(),
		buyer: buyer, prefix: prefix, keys: map[string]string{},
	}
}

func (s *Servers) listen(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start sample server: %w", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(l) }() // ends with Close
	return "http://" + l.Addr().String(), nil
}

// Close ends both servers.
func (s *Servers) Close() {
	for _, server := range s.servers {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = server.Shutdown(ctx)
		cancel()
	}
}

// Booked are the invoice lines that the ERP has booked for the account, in order.
func (a *Account) Booked() []Invoice {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Invoice(nil), a.booked...)
}

// bearer serves the account whose token a request carries.
func (s *Servers) bearer(token func(*Account) string, h func(http.ResponseWriter, *http.Request, *Account)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, a := range s.Accounts {
			if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token(a))) == 1 {
				h(w, r, a)
				return
			}
		}
		answer(w, http.StatusUnauthorized, map[string]string{"error": "wrong token"})
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Servers) shop() http.Handler {
	mux := http.NewServeMux()
	token := func(a *Account) string { return a.ShopToken }
	mux.HandleFunc("GET /orders/{id}", s.bearer(token, func(w http.ResponseWriter, r *http.Request, a *Account) {
		answer(w, http.StatusOK, map[string]any{
			"id":       r.PathValue("id"),
			"customer": a.buyer,
			"lines":    []Line{{"PAPER-A4", 10, 4.9}, {"INK-BLACK", 2, 31.5}, {"GIFT-CARD", 0, 25}, {"STAPLER", 1, 12.25}},
		})
	}))
	return mux
}

func (s *Servers) erp() http.Handler {
	mux := http.NewServeMux()
	token := func(a *Account) string { return a.ERPToken }
	mux.HandleFunc("POST /invoice-lines", s.bearer(token, func(w http.ResponseWriter, r *http.Request, a *Account) {
		var in Invoice
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": errBody.Error()})
			return
		}
		answer(w, http.StatusCreated, map[string]string{"id": a.book(r.Header.Get("Idempotency-Key"), in, s.Booked)})
	}))
	return mux
}

var errBody = errors.New("the body is not an invoice line")

// book books a line once per idempotency key, as a good API does.
func (a *Account) book(key string, in Invoice, tell func(*Account, Invoice)) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, ok := a.keys[key]; ok && key != "" {
		return old
	}
	in.ID = fmt.Sprintf("%s-%04d", a.prefix, len(a.booked)+1)
	a.booked = append(a.booked, in)
	a.keys[key] = in.ID
	if tell != nil {
		tell(a, in)
	}
	return in.ID
}
