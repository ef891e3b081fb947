// Package sample is the sample integration and the two small servers that it
// connects: a shop with orders and an ERP that books invoice lines. They are real
// HTTP servers on loopback with tokens of their own, so that a first run shows real
// requests, credentials included.
//
// The servers count what they are asked, and refuse requests without their token.
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

// Servers are the running shop and ERP.
type Servers struct {
	ShopURL, ERPURL     string
	ShopToken, ERPToken string

	mu      sync.Mutex
	booked  []Invoice
	keys    map[string]string // idempotency key → invoice
	servers []*http.Server
}

// Start starts both servers on loopback.
func Start() (*Servers, error) {
	s := &Servers{ShopToken: rand.Text(), ERPToken: rand.Text(), keys: map[string]string{}}
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

// Booked are the invoice lines that the ERP has booked, in order.
func (s *Servers) Booked() []Invoice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Invoice(nil), s.booked...)
}

func bearer(token string, h http.HandlerFunc) http.HandlerFunc {
	want := []byte("Bearer " + token)
	return func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			answer(w, http.StatusUnauthorized, map[string]string{"error": "wrong token"})
			return
		}
		h(w, r)
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Servers) shop() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", bearer(s.ShopToken, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]any{
			"id":       r.PathValue("id"),
			"customer": "Ada Lovelace",
			"lines":    []Line{{"PAPER-A4", 10, 4.9}, {"INK-BLACK", 2, 31.5}, {"GIFT-CARD", 0, 25}, {"STAPLER", 1, 12.25}},
		})
	}))
	return mux
}

func (s *Servers) erp() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /invoice-lines", bearer(s.ERPToken, func(w http.ResponseWriter, r *http.Request) {
		var in Invoice
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": errBody.Error()})
			return
		}
		answer(w, http.StatusCreated, map[string]string{"id": s.book(r.Header.Get("Idempotency-Key"), in)})
	}))
	return mux
}

var errBody = errors.New("the body is not an invoice line")

// book books a line once per idempotency key, as a good API does.
func (s *Servers) book(key string, in Invoice) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.keys[key]; ok && key != "" {
		return old
	}
	in.ID = fmt.Sprintf("INV-%04d", len(s.booked)+1)
	s.booked = append(s.booked, in)
	s.keys[key] = in.ID
	return in.ID
}
