package api

import (
	"context"
	"errors"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func (s *Server) draftOf(ctx context.Context, d *store.Draft) *tagged[Draft] {
	_, problems := s.decode(ctx, d.Source)
	return &tagged[Draft]{revision(d.Revision), Draft{
		Integration: d.Integration, Name: d.Name, Source: d.Source, Revision: d.Revision, Changed: d.Changed, Problems: problems,
	}}
}

func (s *Server) getDraft(ctx context.Context, in *IntegrationPath) (*tagged[Draft], error) {
	x, err := s.findIntegration(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	d, err := s.org(ctx).Draft(x.ID)
	if err != nil {
		return nil, err
	}
	return s.draftOf(ctx, d), nil
}

// putDraft replaces a draft whose revision the client knows. Whether it has that revision
// is decided in the transaction that replaces it.
func (s *Server) putDraft(ctx context.Context, in *struct {
	IntegrationPath
	Match string `header:"If-Match" doc:"The ETag of the draft that is replaced."`
	Body  SourceRequest
},
) (*tagged[Draft], error) {
	x, err := s.findIntegration(ctx, in.Integration)
	now := time.Now()
	d := &store.Draft{Integration: id.NewIntegration(now), Name: in.Integration, Source: in.Body.Source}
	old := uint64(0)
	switch {
	case err == nil:
		d.Name, old = x.Name, x.DraftRevision
	case !errors.Is(err, store.ErrNotFound) || isID[id.Integration](in.Integration):
		return nil, err
	case !isName(in.Integration):
		return nil, problemOf(CodeInvalid, "", Place{"path.integration", "want a name such as order-to-erp: lower-case letters, digits and hyphens"})
	case in.Match != "":
		return nil, problemOf(CodeChanged, "")
	}
	if err := matches(in.Match, old, old > 0); err != nil {
		return nil, err
	}
	org := principalOf(ctx).Org
	made := d.Integration
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		d.Integration = made
		return tx.Org(org).PutDraft(d, old, now)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, problemOf(CodeChanged, "")
	}
	if err != nil {
		return nil, err
	}
	return s.draftOf(ctx, d), nil
}

func (s *Server) publishDraft(ctx context.Context, in *struct {
	IntegrationPath
	Match string `header:"If-Match" doc:"The ETag of the draft; absent: any."`
},
) (*answer[Version], error) {
	x, err := s.findIntegration(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	d, err := s.org(ctx).Draft(x.ID)
	if err != nil {
		return nil, err
	}
	if err := matches(in.Match, d.Revision, false); err != nil {
		return nil, err
	}
	return s.publishSource(ctx, d.Source, d.Name)
}
