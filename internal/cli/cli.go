// Package cli is the command line: it reads arguments, calls what does the work,
// and shows results and errors.
//
// Results go to standard output, everything for the eye to standard error. The exit
// status is 0 when what was asked for happened, 1 when it was tried and failed, 2
// when the arguments or a file are wrong. Errors say what to do next. Colour is used
// only on a terminal and never with NO_COLOR set.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/bulkheadhq/bulkhead/internal/openapi"
	"github.com/bulkheadhq/bulkhead/internal/role"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // the thing was tried and failed
	exitUsage  = 2 // wrong arguments or an invalid file
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// groups are the titles under which help lists the commands.
func groups() []kong.Group {
	return []kong.Group{
		{Key: "write", Title: "Write integrations, with no platform running:"},
		{Key: "platform", Title: "Run a platform:"},
		{Key: "operate", Title: "Use it:"},
		{Key: "things", Title: "What is there:"},
		{Key: "other", Title: "Also:"},
	}
}

// newParser makes the parser of the grammar.
func newParser(c *commands, s Streams, exit func(int)) (*kong.Kong, error) {
	return kong.New(
		c,
		kong.Name("bulkhead"),
		kong.Description("Integrations for every customer, behind walls.\n\nFirst steps: bulkhead up --sample, and bulkhead run --help."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups(groups()),
		kong.Writers(s.Out, s.Err),
		kong.Exit(exit),
	)
}

// commands is the grammar.
type commands struct {
	Run      runCommand      `cmd:"" group:"write" help:"Run one flow of an integration file once, on this machine, through every wall."`
	Test     testCommand     `cmd:"" group:"write" help:"Run the test cases beside integration files, with mocked connections."`
	Validate validateCommand `cmd:"" group:"write" help:"Check integration files and show every problem."`
	Fmt      fmtCommand      `cmd:"" group:"write" help:"Format integration files."`
	Schema   schemaCommand   `cmd:"" group:"write" help:"Print the JSON Schema of the integration file, or of the platform file."`
	Sample   sampleCommand   `cmd:"" group:"write" help:"Run the sample integration against sample servers that are started for it."`

	Up      upCommand      `cmd:"" group:"platform" help:"Serve: start every role on this machine and keep it up."`
	Status  statusCommand  `cmd:"" group:"platform" help:"Show how the platform does: readiness, queue, roles."`
	Doctor  doctorCommand  `cmd:"" group:"platform" help:"Show which walls this host offers, and what to do about missing ones."`
	Unseal  unsealCommand  `cmd:"" group:"platform" help:"Give a sealed vault its passphrase after it was restarted."`
	Backup  backupCommand  `cmd:"" group:"platform" help:"Write database and blobs, or the keystore, into an encrypted archive."`
	Restore restoreCommand `cmd:"" group:"platform" help:"Check an archive and put it in place of a state directory's part."`

	Apply      applyCommand      `cmd:"" group:"operate" help:"Make the platform as files say: show what changes, ask, and do it."`
	Deploy     deployCommand     `cmd:"" group:"operate" help:"Deploy an integration to a customer."`
	Trigger    triggerCommand    `cmd:"" group:"operate" help:"Start a flow of an instance by hand, and watch it."`
	Executions executionsCommand `cmd:"" group:"operate" help:"Find executions, and show one with its steps."`
	Logs       logsCommand       `cmd:"" group:"operate" help:"Show what executions logged, and follow it."`
	Retry      retryCommand      `cmd:"" group:"operate" help:"Let faulted executions go on where they failed."`
	Replay     replayCommand     `cmd:"" group:"operate" help:"Run flows again with the events of earlier executions."`
	Cancel     cancelCommand     `cmd:"" group:"operate" help:"End executions."`

	Connectors   connectorsCommand   `cmd:"" group:"things" help:"List, check and publish connectors, or make them of API descriptions."`
	Customers    customersCommand    `cmd:"" group:"things" help:"List, show, change and delete customers."`
	Connections  connectionsCommand  `cmd:"" group:"things" help:"List, show, enter and delete connections of customers."`
	Templates    templatesCommand    `cmd:"" group:"things" help:"List, show, enter and delete connection templates: the organization's OAuth clients."`
	ConnectLink  connectLinkCommand  `cmd:"" group:"things" help:"Make a link by which somebody without an account here connects a customer, once."`
	Links        linksCommand        `cmd:"" group:"things" help:"List and revoke connect links."`
	Revoke       revokeCommand       `cmd:"" group:"operate" help:"Break the glass: revoke connections, and say what was done with them."`
	Notices      noticesCommand      `cmd:"" group:"things" help:"List what should be known about connections."`
	Brand        brandCommand        `cmd:"" group:"things" help:"Show and set how the organization looks on hosted pages."`
	Integrations integrationsCommand `cmd:"" group:"things" help:"List integrations and their versions; save drafts, publish."`
	Instances    instancesCommand    `cmd:"" group:"things" help:"List and show instances; pause, resume, upgrade, roll back, remove."`
	Tokens       tokensCommand       `cmd:"" group:"things" help:"List, make and revoke tokens of the API."`

	Completion completionCommand `cmd:"" group:"other" help:"Print shell completion."`
	Version    versionCommand    `cmd:"" group:"other" help:"Print the version."`

	Names        namesCommand        `cmd:"" hidden:"" help:"Print the names of instances, for completion."`
	BackupReader backupReaderCommand `cmd:"" hidden:"" help:"Read a role's files as its user; started by bulkhead itself."`
	Role         roleCommand         `cmd:"" hidden:"" help:"Run one role; started by bulkhead itself."`
}

// console is what every command gets.
type console struct {
	Streams
	ctx context.Context

	codeNoted bool // it was said that code steps are not checked
}

// fail is an error with an exit status. A nil cause means that all has been said.
type fail struct {
	code int
	err  error
}

func (f *fail) Error() string {
	if f.err == nil {
		return "failed"
	}
	return f.err.Error()
}

func (f *fail) Unwrap() error { return f.err }

// usage is an error about what the user wrote.
func usage(format string, args ...any) error { return &fail{exitUsage, fmt.Errorf(format, args...)} }

// said is a failure that has been shown already.
func said(code int) error { return &fail{code: code} }

// Main runs one command and returns the exit status. An interrupt ends it cleanly.
func Main(ctx context.Context, s Streams, args []string) int {
	if len(args) == 2 && args[0] == "role" { // before anything else is set up: roles start often
		return role.Main(ctx, args[1], s.Err, slog.LevelInfo)
	}
	if len(args) > 0 && args[0] == openapi.ChildCommand {
		return readOpenAPI(s, args[1:])
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader that goes away must not keep us from cleaning up
	code := exitOK
	exited := false
	var c commands
	parser, err := newParser(&c, s, func(n int) { code, exited = n, true })
	if err != nil {
		fmt.Fprintln(s.Err, "bulkhead:", err)
		return exitUsage
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited { // --help
		return code
	}
	if err != nil {
		fmt.Fprintf(s.Err, "bulkhead: %v\n%s\n", err, helpFor(err))
		return exitUsage
	}
	return show(s, parsed.Run(&console{Streams: s, ctx: ctx}))
}

// helpFor says where to look after arguments that cannot be read.
func helpFor(err error) string {
	if e, ok := errors.AsType[*kong.ParseError](err); ok {
		try := "Try: bulkhead "
		for _, p := range e.Context.Path {
			if p.Command != nil {
				try += p.Command.Name + " "
			}
		}
		return try + "--help"
	}
	return "Try: bulkhead --help"
}

func show(s Streams, err error) int {
	var f *fail
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(s.Err, "bulkhead: interrupted")
		return exitFailed
	case errors.As(err, &f):
		if f.err != nil {
			fmt.Fprintf(s.Err, "bulkhead: %v\n", err)
		}
		return f.code
	default:
		fmt.Fprintf(s.Err, "bulkhead: %v\n", err)
		return exitFailed
	}
}

type versionCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run implements the command.
func (v *versionCommand) Run(c *console) error {
	version, revision := programVersion()
	if v.JSON {
		return writeJSON(c.Out, map[string]string{"version": version, "revision": revision})
	}
	_, err := fmt.Fprintln(c.Out, strings.TrimSpace("bulkhead "+version+" "+revision))
	return err
}

type roleCommand struct {
	Name string `arg:"" help:"bus, vault, server, egress or runner."`
}

// Run implements the command for a role started by hand.
func (r *roleCommand) Run(c *console) error {
	if code := role.Main(c.ctx, r.Name, c.Err, slog.LevelInfo); code != exitOK {
		return said(code)
	}
	return nil
}
