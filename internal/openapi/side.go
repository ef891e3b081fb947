package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// SideFile says what a document does not. Operations are keyed by operationId, those without one by "METHOD /path", so that
// it stays right when the document is updated. What it does not say stays as the document has it.
type SideFile struct {
	Connector   string   `json:"connector"` // name of the connector
	Version     string   `json:"version"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Docs        string   `json:"docs"`
	Source      string   `json:"source"` // URL of the document
	Vendor      []string `json:"vendor"` // domains of the vendor

	BaseURL string          `json:"base_url"` // instead of the document's servers, with hosts and vars
	Hosts   []string        `json:"hosts"`
	Vars    credential.Vars `json:"vars"`

	// Auth are ways to authenticate; one with the id of the document's stands instead of it.
	Auth []credential.Method `json:"auth"`
	// WithoutAuth are ids of the document's that are left out.
	WithoutAuth []string `json:"without_auth"`
	// Test is the action, by name or operationId, that proves a connection of any method.
	Test     *credential.Test   `json:"test"`
	Defaults connector.Defaults `json:"defaults"`

	Operations map[string]*SideOperation `json:"operations"`
	Triggers   map[string]*SideTrigger   `json:"triggers"`
}

// SideOperation is what a side file says of one operation.
type SideOperation struct {
	Skip        bool                   `json:"skip"` // leave it out
	Name        string                 `json:"name"` // of the action
	Title       string                 `json:"title"`
	Description string                 `json:"description"`
	Visibility  connector.Visibility   `json:"visibility"`
	Deprecated  string                 `json:"deprecated"`
	Confirm     *bool                  `json:"confirm"`
	Paginate    *connector.Paginate    `json:"paginate"`
	Idempotency *connector.Idempotency `json:"idempotency"`
	Limits      *connector.Limits      `json:"limits"`
	Error       *connector.ErrorBody   `json:"error"`
	Timeout     connector.Seconds      `json:"timeout"`
	Response    string                 `json:"response"`
	Expect      []string               `json:"expect"`
	Scopes      []string               `json:"scopes"`
	Data        []connector.DataClass  `json:"data"`
	Headers     []connector.Fixed      `json:"headers"`
	Query       []connector.Fixed      `json:"query"`
	Input       map[string]*SideInput  `json:"input"`
	Output      json.RawMessage        `json:"output"`
}

// SideInput is what a side file says of one input.
type SideInput struct {
	Title       string                `json:"title"`
	Description string                `json:"description"`
	Visibility  connector.Visibility  `json:"visibility"`
	Required    *bool                 `json:"required"`
	Secret      *bool                 `json:"secret"`
	Raw         *bool                 `json:"raw"`
	Default     json.RawMessage       `json:"default"`
	Example     json.RawMessage       `json:"example"`
	Enum        []string              `json:"enum"`
	Style       *connector.Style      `json:"style"`
	Language    connector.Language    `json:"language"`
	Choices     *connector.Choices    `json:"choices"`
	SchemaFrom  *connector.SchemaFrom `json:"schema_from"`
}

// SideTrigger is a trigger. Its actions are named by name or operationId.
type SideTrigger struct {
	connector.Trigger
	// PayloadOf is a webhook of the document (OpenAPI 3.1) whose body is the payload.
	PayloadOf string `json:"payload_of"`
}

// readSide reads a side file. Errors are [source.Problems].
func readSide(text []byte, name string) (*SideFile, error) {
	side := &SideFile{}
	if len(text) == 0 {
		return side, nil
	}
	if name == "" {
		name = "side file"
	}
	root, src, problems := source.Load(name, text, source.Limits{Bytes: MaxSide, Depth: connector.MaxDepth, Nodes: MaxNodes})
	if root == nil {
		if len(problems) == 0 { // empty, or comments only
			return side, nil
		}
		return nil, problems
	}
	d := &sideDecoder{Decoder: source.NewDecoder(src, problems)}
	d.into(root, "", side)
	if d.Problems.Invalid() {
		return nil, source.Sort(d.Problems)
	}
	for k, o := range side.Operations {
		if o == nil {
			side.Operations[k] = &SideOperation{}
		}
	}
	return side, nil
}

// known reports operations that the document does not have, with what may have been meant.
func (s *SideFile) known(list []operation, d *document) error {
	keys := make([]string, 0, len(list))
	for i := range list {
		keys = append(keys, list[i].key)
	}
	var wrong []string
	for _, k := range slices.Sorted(maps.Keys(s.Operations)) {
		if !slices.Contains(keys, k) {
			text := fmt.Sprintf("operations: the document has no operation %q", source.Cut(k, maxTitle))
			if near := source.Nearest(k, keys); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			}
			wrong = append(wrong, text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Triggers)) {
		if of := s.Triggers[name].payloadOf(); of != "" && d.root.at("webhooks", of) == nil {
			wrong = append(wrong, fmt.Sprintf("triggers.%s.payload_of: the document has no webhook %q", name, source.Cut(of, maxTitle)))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("side file: %s", strings.Join(wrong[:min(len(wrong), maxHeld)], "\nside file: "))
	}
	return nil
}

func (t *SideTrigger) payloadOf() string {
	if t == nil {
		return ""
	}
	return t.PayloadOf
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

func setList[T any](to *[]T, v []T) {
	if len(v) > 0 {
		*to = v
	}
}

// apply writes what the side file says over a manifest. names are the actions by operation.
func (s *SideFile) apply(m *connector.Manifest, names map[string]string) error {
	set(&m.Name, s.Connector)
	set(&m.Version, s.Version)
	set(&m.Title, s.Title)
	set(&m.Description, s.Description)
	set(&m.Docs, s.Docs)
	setList(&m.Hosts, s.Hosts)
	m.Defaults = s.Defaults
	index := make(map[string]*connector.Action, len(m.Actions))
	for i := range m.Actions {
		index[m.Actions[i].Name] = &m.Actions[i]
	}
	for _, key := range slices.Sorted(maps.Keys(s.Operations)) {
		o := s.Operations[key]
		a := index[names[key]]
		if a == nil || o.Skip {
			continue // left out, and reported
		}
		if err := o.apply(a, key, names); err != nil {
			return err
		}
	}
	if err := s.auth(m, names, index); err != nil {
		return err
	}
	return s.trigger(m, names, index)
}

func (o *SideOperation) apply(a *connector.Action, key string, names map[string]string) error {
	set(&a.Title, o.Title)
	set(&a.Description, o.Description)
	set(&a.Visibility, o.Visibility)
	set(&a.Deprecated, o.Deprecated)
	set(&a.Paginate, o.Paginate)
	set(&a.Idempotency, o.Idempotency)
	set(&a.Limits, o.Limits)
	set(&a.Error, o.Error)
	set(&a.Timeout, o.Timeout)
	set(&a.Response, o.Response)
	setList(&a.Expect, o.Expect)
	setList(&a.Scopes, o.Scopes)
	setList(&a.Data, o.Data)
	setList(&a.Headers, o.Headers)
	setList(&a.Query, o.Query)
	setList((*[]byte)(&a.Output), o.Output)
	if o.Confirm != nil {
		a.Confirm = *o.Confirm
	}
	var known []string
	for i := range a.Inputs {
		known = append(known, a.Inputs[i].Name)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Input)) {
		i := slices.Index(known, name)
		if i < 0 {
			return fmt.Errorf("side file: operations.%s.input: the action has no input %q: %s", key, source.Cut(name, maxTitle), source.DidYouMean(name, known))
		}
		if o.Input[name] != nil {
			o.Input[name].apply(&a.Inputs[i], names)
		}
	}
	return nil
}

func (i *SideInput) apply(in *connector.Input, names map[string]string) {
	set(&in.Title, i.Title)
	set(&in.Description, i.Description)
	set(&in.Visibility, i.Visibility)
	set(&in.Language, i.Language)
	setList((*[]byte)(&in.Default), i.Default)
	setList((*[]byte)(&in.Example), i.Example)
	setList(&in.Enum, i.Enum)
	for to, v := range map[*bool]*bool{&in.Required: i.Required, &in.Secret: i.Secret, &in.Raw: i.Raw} {
		if v != nil {
			*to = *v
		}
	}
	if i.Style != nil {
		in.Style = *i.Style
	}
	if i.Choices != nil {
		c := *i.Choices
		c.Action = actionName(c.Action, names)
		in.Choices = &c
	}
	if i.SchemaFrom != nil {
		f := *i.SchemaFrom
		f.Action = actionName(f.Action, names)
		in.SchemaFrom = &f
	}
}

// actionName takes an operationId or the name of an action.
func actionName(s string, names map[string]string) string {
	if n, ok := names[s]; ok {
		return n
	}
	return s
}

func (s *SideFile) auth(m *connector.Manifest, names map[string]string, index map[string]*connector.Action) error {
	methods := slices.DeleteFunc(slices.Clone(m.Auth), func(a credential.Method) bool { return slices.Contains(s.WithoutAuth, a.ID) })
	for _, own := range s.Auth {
		if i := slices.IndexFunc(methods, func(a credential.Method) bool { return a.ID == own.ID }); i >= 0 {
			methods[i] = own
		} else {
			methods = append(methods, own)
		}
	}
	if s.Test != nil {
		t := *s.Test
		t.Action = actionName(t.Action, names)
		if index[t.Action] == nil {
			return fmt.Errorf("side file: test.action: there is no action %q", source.Cut(t.Action, maxTitle))
		}
		for i := range methods {
			if methods[i].Test == nil {
				methods[i].Test = &t
			}
		}
	}
	m.Auth = methods
	for i := range m.Actions {
		a := &m.Actions[i]
		a.Auth = slices.DeleteFunc(a.Auth, func(id string) bool { return slices.Contains(s.WithoutAuth, id) })
	}
	return nil
}

func (s *SideFile) trigger(m *connector.Manifest, names map[string]string, index map[string]*connector.Action) error {
	for _, name := range slices.Sorted(maps.Keys(s.Triggers)) {
		if s.Triggers[name] == nil {
			continue
		}
		t := s.Triggers[name].Trigger
		t.Name = name
		if w := t.Webhook; w != nil {
			own := *w
			own.Subscribe.Action = actionName(own.Subscribe.Action, names)
			for _, call := range []**connector.SubscribeCall{&own.Unsubscribe, &own.Renew} {
				if *call != nil {
					c := **call
					c.Action = actionName(c.Action, names)
					*call = &c
				}
			}
			t.Webhook = &own
		}
		if p := t.Poll; p != nil {
			own := *p
			own.Action = actionName(own.Action, names)
			t.Poll = &own
		}
		for _, a := range uses(&t) {
			if index[a] == nil {
				return fmt.Errorf("side file: triggers.%s: there is no action %q", name, source.Cut(a, maxTitle))
			}
		}
		if i := slices.IndexFunc(m.Triggers, func(x connector.Trigger) bool { return x.Name == name }); i >= 0 {
			m.Triggers[i] = t
		} else {
			m.Triggers = append(m.Triggers, t)
		}
	}
	return nil
}

// uses are the actions of a trigger.
func uses(t *connector.Trigger) []string {
	var out []string
	if w := t.Webhook; w != nil {
		out = append(out, w.Subscribe.Action)
		for _, c := range []*connector.SubscribeCall{w.Unsubscribe, w.Renew} {
			if c != nil {
				out = append(out, c.Action)
			}
		}
	}
	if t.Poll != nil {
		out = append(out, t.Poll.Action)
	}
	return out
}
