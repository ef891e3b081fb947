package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

type integrationsCommand struct {
	List     integrationsList     `cmd:"" default:"withargs" help:"List integrations."`
	Versions integrationsVersions `cmd:"" help:"List the published versions of an integration."`
	Show     integrationsShow     `cmd:"" help:"Print a version as it was published."`
	Draft    integrationsDraft    `cmd:"" help:"Save a file as the draft of its integration."`
	Publish  integrationsPublish  `cmd:"" help:"Publish a file, or the draft of an integration, as its next version."`
}

type integrationsList struct{ remote }

// Run implements the command.
func (m *integrationsList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t := &table{head: []string{"INTEGRATION", "VERSION", "DRAFT CHANGED", "ID"}}
		return listing(&m.remote, c, 0, "integrations", func(cursor string) (*api.Page[api.Integration], error) {
			return x.Integrations(ctx, client.List{Cursor: cursor})
		}, t, func(k *api.Integration) []string {
			return []string{k.Name, number(k.Version), ago(k.DraftChanged), k.ID.String()}
		})
	})
}

func number(n uint32) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(n), 10)
}

type integrationsVersions struct {
	remote
	Integration string `arg:"" help:"Name or id."`
}

// Run implements the command.
func (m *integrationsVersions) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t := &table{head: []string{"VERSION", "PUBLISHED", "DIGEST"}}
		return listing(&m.remote, c, 0, "versions", func(cursor string) (*api.Page[api.Version], error) {
			return x.Versions(ctx, m.Integration, client.List{Cursor: cursor})
		}, t, func(k *api.Version) []string { return []string{number(k.Version), ago(k.Created), k.Digest} })
	})
}

type integrationsShow struct {
	remote
	Integration string `arg:"" help:"Name or id."`
	Version     uint32 `arg:"" optional:"" help:"Default: the newest."`
	Connectors  bool   `help:"List the connectors that it carries, with their digests."`
}

// Run implements the command.
func (m *integrationsShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if m.Version == 0 {
			i, err := x.Integration(ctx, m.Integration)
			if err != nil {
				return err
			}
			if m.Version = i.Version; m.Version == 0 {
				return usage("%s has no published version", m.Integration)
			}
		}
		v, err := x.Version(ctx, m.Integration, m.Version)
		if err != nil {
			return err
		}
		if m.JSON || v.Source == "" {
			return m.details(c, v)
		}
		if i, err := flow.Decode(v.Definition); err == nil && m.Connectors {
			lockList(i.Locks).print(c)
			return nil
		}
		_, err = fmt.Fprint(c.Out, v.Source)
		return err
	})
}

type integrationsDraft struct {
	remote
	File string `arg:"" help:"Integration file."`
}

// Run implements the command. A draft may have problems: they are shown.
func (m *integrationsDraft) Run(c *console) error {
	text, err := readFile(m.File, flow.MaxFileBytes)
	if err != nil {
		return err
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		check, err := x.Validate(ctx, string(text))
		if err != nil {
			return err
		}
		if check.Name == "" {
			return usage("%s: the key integration, which names it, cannot be read; see bulkhead validate", m.File)
		}
		revision := uint64(0)
		if old, err := x.Draft(ctx, check.Name); err == nil {
			revision = old.Revision
		} else if !client.IsCode(err, api.CodeNotFound) {
			return err
		}
		d, err := x.PutDraft(ctx, check.Name, string(text), revision)
		if err != nil {
			return err
		}
		return m.show(c, d, func() {
			fmt.Fprintf(c.Out, "saved the draft of %s, with %s\n", d.Name, count(len(d.Problems), "problem"))
		})
	})
}

type integrationsPublish struct {
	remote
	File  string `arg:"" optional:"" help:"Integration file."`
	Draft string `placeholder:"NAME" help:"Publish the draft of this integration instead."`
}

// Run implements the command.
func (m *integrationsPublish) Run(c *console) error {
	if (m.File == "") == (m.Draft == "") {
		return usage("name a file, or an integration with --draft")
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		var v *api.Version
		if m.Draft != "" {
			d, err := x.Draft(ctx, m.Draft)
			if err != nil {
				return err
			}
			if v, err = x.PublishDraft(ctx, m.Draft, d.Revision); err != nil {
				return err
			}
		} else {
			if _, err := loadFor(ctx, c, m.File, x); err != nil {
				return err
			}
			text, err := readFile(m.File, flow.MaxFileBytes)
			if err != nil {
				return err
			}
			if v, err = x.Publish(ctx, api.PublishRequest{Source: string(text)}); err != nil {
				return err
			}
		}
		return m.show(c, v, func() { fmt.Fprintf(c.Out, "%s has version %d\n", v.Name, v.Version) })
	})
}
