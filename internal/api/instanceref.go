package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// pathInstance is the parameter of paths that names an instance.
const pathInstance = "instance"

// nameInstance puts the id of an instance in the place of its name, which is that of its
// customer and of its integration: acme/hello, as one escaped segment of the path. What is no
// such name stays, and is refused as an id that is none.
func (s *Server) nameInstance(ctx context.Context, r *http.Request) error {
	ref := r.PathValue(pathInstance)
	if !strings.Contains(ref, "/") {
		return nil
	}
	i, err := s.instanceNamed(ctx, ref)
	if err == nil {
		r.SetPathValue(pathInstance, i.String())
	}
	return err
}

// instanceNamed finds the one instance of an integration that a customer has.
func (s *Server) instanceNamed(ctx context.Context, ref string) (id.Instance, error) {
	at := strings.LastIndexByte(ref, '/') // an external id may hold one, the name of an integration does not
	c, err := s.findCustomer(ctx, ref[:at])
	if err != nil {
		return id.Instance{}, err
	}
	x, err := s.findIntegration(ctx, ref[at+1:])
	if err != nil {
		return id.Instance{}, err
	}
	list, err := s.org(ctx).Instances(&store.InstanceQuery{Customer: c, Integration: x.ID}, 2)
	switch {
	case err != nil:
		return id.Instance{}, err
	case len(list) == 0:
		return id.Instance{}, missing("The customer has no instance of this integration.")
	case len(list) > 1:
		return id.Instance{}, problemOf(CodeConflict, "The customer has several instances of this integration: name one by its id.")
	}
	return list[0].ID, nil
}
