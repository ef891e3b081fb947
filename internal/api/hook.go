package api

import (
	"errors"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// HookAnswer is the address of a flow's webhook.
type HookAnswer struct {
	URL string `json:"url"`
}

// hook shows the address of a flow's webhook to who may deploy it.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) error {
	var i id.Instance
	var c id.Customer
	err := errors.Join(i.UnmarshalText([]byte(r.PathValue("id"))), c.UnmarshalText([]byte(r.URL.Query().Get("customer"))))
	if err != nil {
		return err
	}
	u, err := s.engine.HookURL(r.Context(), c, i, r.PathValue("flow"))
	if err != nil {
		return err
	}
	return answer(w, HookAnswer{u})
}
