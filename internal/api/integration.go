package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Integration is a definition with its versions.
type Integration struct {
	ID            id.Integration `json:"id"`
	Name          string         `json:"name"`
	Version       uint32         `json:"version" doc:"The newest published version; 0: none."`
	Digest        string         `json:"digest,omitempty" doc:"SHA-256 of the newest version's definition, hex."`
	DraftRevision uint64         `json:"draft_revision" doc:"0: there is no draft."`
	DraftChanged  time.Time      `json:"draft_changed,omitzero"`
	Created       time.Time      `json:"created"`
}

// Version is a published version of an integration. It never changes.
type Version struct {
	Integration id.Integration  `json:"integration"`
	Name        string          `json:"name"`
	Version     uint32          `json:"version"`
	Digest      string          `json:"digest" doc:"SHA-256 of the definition, hex."`
	Created     time.Time       `json:"created"`
	Definition  json.RawMessage `json:"definition,omitempty" doc:"Canonical JSON; absent in lists."`
	Source      string          `json:"source,omitempty" doc:"The file as it was published; absent in lists."`
}

// Draft is the text of the next version.
type Draft struct {
	Integration id.Integration  `json:"integration"`
	Name        string          `json:"name"`
	Source      string          `json:"source"`
	Revision    uint64          `json:"revision" doc:"Counts changes; also the ETag."`
	Changed     time.Time       `json:"changed"`
	Problems    []SourceProblem `json:"problems"`
}

// SourceRequest carries an integration file, in YAML or JSON.
type SourceRequest struct {
	Source string `json:"source" maxLength:"1048576"`
}

// PublishRequest publishes a version: exactly one of its fields is set, or for the draft
// of an integration none.
type PublishRequest struct {
	Source     string `json:"source,omitempty" maxLength:"1048576" doc:"An integration file, in YAML or JSON."`
	Definition string `json:"definition,omitempty" maxLength:"4194304" doc:"Canonical JSON, as the command line makes it."`
}

// Validation says what is wrong with an integration file.
type Validation struct {
	Valid       bool            `json:"valid"`
	Name        string          `json:"name,omitempty"`
	Flows       []Flow          `json:"flows,omitempty"`
	Connections []string        `json:"connections,omitempty" doc:"Names of the slots."`
	Config      []string        `json:"config,omitempty" doc:"Names of the config variables."`
	Problems    []SourceProblem `json:"problems"`
}

// Flow is one flow of an integration.
type Flow struct {
	Name    string `json:"name"`
	Trigger string `json:"trigger" doc:"Kind of trigger."`
}

// SourceProblem is one thing that is wrong with an integration file, or that a reviewer
// should see.
type SourceProblem struct {
	Severity   string `json:"severity" enum:"error,warning"`
	Line       int    `json:"line" doc:"From 1."`
	Column     int    `json:"column" doc:"From 1, in characters."`
	Length     int    `json:"length" doc:"Characters to underline."`
	Path       string `json:"path,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

// TestRequest runs a flow of a draft, or of the source that it carries, as a test
// execution of a customer. The answer is a stream of [Event].
//
// A test run with connections does what it says: its requests reach the customer's systems.
// Whoever gives connections says in Effects that this is meant.
type TestRequest struct {
	Customer     string                   `json:"customer" doc:"Id or external id."`
	Source       string                   `json:"source,omitempty" maxLength:"1048576" doc:"Default: the draft."`
	Flow         string                   `json:"flow"`
	Event        json.RawMessage          `json:"event,omitempty" doc:"What expressions see as trigger."`
	Config       json.RawMessage          `json:"config,omitempty" doc:"Config values as a JSON object; sealed at once."`
	Slots        map[string]id.Connection `json:"slots,omitempty" doc:"Connections of the customer. The calls of a test run reach the systems behind them: needs effects."`
	Effects      bool                     `json:"effects,omitempty" doc:"Needed with slots: the calls of this test run are real."`
	View         id.View                  `json:"view,omitzero" doc:"Made by the viewer; absent: nobody watches."`
	Key          []byte                   `json:"key,omitempty" doc:"X25519, 32 bytes: pages are sealed to it."`
	SealedConfig []byte                   `json:"sealed_config,omitempty" doc:"Config sealed to the vault, with instance."`
	Instance     id.Instance              `json:"instance,omitzero" doc:"Made by the client when it seals the config."`
}

// IntegrationPath names an integration in a path.
type IntegrationPath struct {
	Integration string `path:"integration" maxLength:"64" doc:"Id or name."`
}

// VersionPath names a version in a path.
type VersionPath struct {
	IntegrationPath
	Version uint32 `path:"version" minimum:"1"`
}

func (s *Server) integrationRoutes() []route {
	return []route{
		{
			id: "validate-integration", method: http.MethodPost, path: "/integrations/validate", permission: PermissionIntegrationsRead,
			summary: "Say what is wrong with an integration file.", body: maxRequest, keep: keepNone, register: handle(s, s.validate),
		},
		{
			id: "list-integrations", method: http.MethodGet, path: "/integrations", permission: PermissionIntegrationsRead,
			summary: "List integrations.", register: handle(s, s.listIntegrations),
		},
		{
			id: "publish-integration", method: http.MethodPost, path: "/integrations", permission: PermissionIntegrationsWrite,
			summary: "Publish a version. The same content as the newest version is that version.", body: 2 * maxRequest,
			register: handle(s, s.publish),
		},
		{
			id: "get-integration", method: http.MethodGet, path: "/integrations/{integration}", permission: PermissionIntegrationsRead,
			summary: "Get an integration.", register: handle(s, s.getIntegration),
		},
		{
			id: "get-draft", method: http.MethodGet, path: "/integrations/{integration}/draft", permission: PermissionIntegrationsRead,
			summary: "Get the draft of an integration, with its problems.", register: handle(s, s.getDraft),
		},
		{
			id: "put-draft", method: http.MethodPut, path: "/integrations/{integration}/draft", permission: PermissionIntegrationsWrite,
			summary: "Replace the draft of an integration, or make the integration of that name with a draft.", body: maxRequest,
			register: handle(s, s.putDraft),
		},
		{
			id: "publish-draft", method: http.MethodPost, path: "/integrations/{integration}/publish", permission: PermissionIntegrationsWrite,
			summary: "Publish the draft of an integration.", register: handle(s, s.publishDraft),
		},
		{
			id: "list-versions", method: http.MethodGet, path: "/integrations/{integration}/versions", permission: PermissionIntegrationsRead,
			summary: "List the versions of an integration, the newest first.", register: handle(s, s.listVersions),
		},
		{
			id: "get-version", method: http.MethodGet, path: "/integrations/{integration}/versions/{version}", permission: PermissionIntegrationsRead,
			summary: "Get a version with its definition and source.", register: handle(s, s.getVersion),
		},
	}
}

// findIntegration finds an integration by its id or name.
func (s *Server) findIntegration(ctx context.Context, ref string) (*store.Integration, error) {
	var i id.Integration
	x, err := (*store.Integration)(nil), error(nil)
	if isID[id.Integration](ref) {
		_ = i.UnmarshalText([]byte(ref)) // isID has read it
		x, err = s.org(ctx).Integration(i)
	} else {
		x, err = s.org(ctx).IntegrationByName(ref)
	}
	if err == nil && x.Hidden {
		err = store.ErrNotFound
	}
	return x, sayMissing(err, "There is no such integration.")
}

func integrationOf(x *store.Integration) Integration {
	i := Integration{
		ID: x.ID, Name: x.Name, Version: x.Newest, DraftRevision: x.DraftRevision, DraftChanged: x.DraftChanged, Created: x.Created,
	}
	if x.Newest > 0 {
		i.Digest = hex.EncodeToString(x.Digest[:])
	}
	return i
}

func (s *Server) listIntegrations(ctx context.Context, in *ListInput) (*answer[Page[Integration]], error) {
	return pageOf(ctx, s, "integrations", in, func(after id.Integration, limit int) ([]store.Integration, error) {
		return s.org(ctx).Integrations(after, limit)
	}, integrationOf, func(x *store.Integration) id.Integration { return x.ID })
}

func (s *Server) getIntegration(ctx context.Context, in *IntegrationPath) (*answer[Integration], error) {
	x, err := s.findIntegration(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	return &answer[Integration]{integrationOf(x)}, nil
}

// sourceName is what problems call a file that was sent.
const sourceName = "source"

func problemsOf(list flowfile.Problems) []SourceProblem {
	out := []SourceProblem{}
	for n := range list {
		p := &list[n]
		out = append(out, SourceProblem{
			Severity: string(p.Severity), Line: p.Line, Column: p.Column, Length: p.Length, Path: p.Path, Message: p.Message, Suggestion: p.Suggestion,
		})
	}
	return out
}

// decode reads an integration file, with the connectors of the organization. Nothing of it is run.
func (s *Server) decode(ctx context.Context, source string) (*flow.Integration, []SourceProblem) {
	doc, problems := flowfile.DecodeWith(sourceName, []byte(source), connectorsOf{ctx, principalOf(ctx).Org, s.registry})
	if doc == nil {
		return nil, problemsOf(problems)
	}
	return doc.Integration, problemsOf(slices.Concat(doc.Warnings, doc.NotYet()))
}

func (s *Server) validate(ctx context.Context, in *struct{ Body SourceRequest }) (*answer[Validation], error) {
	i, problems := s.decode(ctx, in.Body.Source)
	v := Validation{Valid: i != nil, Problems: problems}
	if i != nil {
		v.Name = i.Name
		for n := range i.Flows {
			v.Flows = append(v.Flows, Flow{i.Flows[n].Name, string(i.Flows[n].Trigger.Kind())})
		}
		for n := range i.Connections {
			v.Connections = append(v.Connections, i.Connections[n].Name)
		}
		for n := range i.Config {
			v.Config = append(v.Config, i.Config[n].Name)
		}
	}
	return &answer[Validation]{v}, nil
}

// invalidSource is the problem of a file that is not valid.
func invalidSource(problems []SourceProblem) error {
	p := problemOf(CodeInvalidSource, "")
	for _, x := range problems {
		if x.Severity == string(flowfile.SeverityError) {
			p.Errors = append(p.Errors, Place{fmt.Sprintf("source:%d:%d", x.Line, x.Column), x.Message})
		}
	}
	return p
}

func (s *Server) publish(ctx context.Context, in *struct{ Body PublishRequest }) (*answer[Version], error) {
	r := &in.Body
	switch {
	case (r.Source == "") == (r.Definition == ""):
		return nil, problemOf(CodeInvalid, "Send either source or definition.")
	case r.Source != "":
		return s.publishSource(ctx, r.Source, "")
	}
	return s.publishDefinition(ctx, []byte(r.Definition), "")
}

// publishSource publishes a file. With a name, that must be the integration's.
func (s *Server) publishSource(ctx context.Context, source, name string) (*answer[Version], error) {
	i, problems := s.decode(ctx, source)
	if i == nil {
		return nil, invalidSource(problems)
	}
	if name != "" && i.Name != name {
		return nil, problemOf(CodeInvalidSource, "The draft is named "+i.Name+", its integration "+name+".")
	}
	definition, err := published(i)
	if err != nil {
		return nil, err
	}
	return s.publishDefinition(ctx, definition, source)
}

// published is the canonical JSON of an integration with the flows that its triggers bring along.
func published(i *flow.Integration) ([]byte, error) {
	if err := i.Expand(); err != nil {
		return nil, problemOf(CodeInvalidSource, err.Error())
	}
	definition, err := i.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode integration: %w", err)
	}
	return definition, nil
}

func (s *Server) publishDefinition(ctx context.Context, definition []byte, source string) (*answer[Version], error) {
	org := principalOf(ctx).Org
	if i, err := flow.Decode(definition); err == nil {
		if !isName(i.Name) {
			return nil, problemOf(CodeInvalidSource, "Names that begin with "+testPrefix+" or "+store.ProbePrefix+" are the platform's own.")
		}
		for n := range i.Connections {
			if c := &i.Connections[n]; !c.BuiltIn() && i.Lock(c.Name) == nil {
				return nil, problemOf(CodeInvalidSource, "The definition carries nothing of the connector of "+c.Name+": send the source, whose connectors are looked up.")
			}
		}
		if definition, err = published(i); err != nil {
			return nil, err
		}
	}
	v, err := s.engine.Publish(ctx, org, definition)
	if err != nil {
		return nil, err
	}
	if source != "" {
		err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).SetSource(v.Integration, v.Number, source) })
		if err != nil {
			return nil, fmt.Errorf("keep source: %w", err)
		}
	}
	x, err := s.org(ctx).VersionOf(v.Integration, v.Number)
	if err != nil {
		return nil, err
	}
	out := versionOf(x)
	out.Definition, out.Source = nil, ""
	return &answer[Version]{out}, nil
}

func versionOf(x *store.VersionInfo) Version {
	return Version{
		Integration: x.Integration, Name: x.Name, Version: x.Number, Digest: hex.EncodeToString(x.Version.Digest[:]), Created: x.Created,
		Definition: x.Definition, Source: x.Source,
	}
}

func (s *Server) listVersions(ctx context.Context, in *struct {
	IntegrationPath
	ListInput
},
) (*answer[Page[Version]], error) {
	x, err := s.findIntegration(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	number := func(v *store.VersionInfo) id.Integration { return asID[id.Integration](v.Number) }
	return filteredPage(ctx, s, "versions", x.ID, &in.ListInput, func(before id.Integration, limit int) ([]store.VersionInfo, error) {
		return s.org(ctx).Versions(x.ID, numberOf(before), limit)
	}, versionOf, number)
}

func (s *Server) getVersion(ctx context.Context, in *VersionPath) (*answer[Version], error) {
	x, err := s.findIntegration(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	v, err := s.org(ctx).VersionOf(x.ID, in.Version)
	if err != nil {
		return nil, err
	}
	return &answer[Version]{versionOf(v)}, nil
}

// maxName is the longest name of an integration.
const maxName = 63

// isName reports whether an integration may have a name.
func isName(s string) bool {
	for n, r := range s {
		lower, more := r >= 'a' && r <= 'z', r >= '0' && r <= '9' || r == '-'
		if !lower && (n == 0 || !more) {
			return false
		}
	}
	return s != "" && len(s) <= maxName && !strings.HasPrefix(s, testPrefix) && !strings.HasPrefix(s, store.ProbePrefix)
}
