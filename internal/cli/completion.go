package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help implements kong.HelpProvider.
func (m *completionCommand) Help() string {
	return `bash: source <(bulkhead completion bash)
zsh:  source <(bulkhead completion zsh)
fish: bulkhead completion fish | source

Put that line into the start file of your shell to keep it.`
}

// Run implements the command.
func (m *completionCommand) Run(c *console, app *kong.Kong) error {
	var all []completed
	collect(app.Model.Node, nil, &all)
	var b strings.Builder
	switch m.Shell {
	case "fish":
		fish(&b, all)
	case "zsh":
		b.WriteString("autoload -U +X bashcompinit && bashcompinit\n")
		bash(&b, all)
	default:
		bash(&b, all)
	}
	if _, err := io.WriteString(c.Out, b.String()); err != nil {
		return fmt.Errorf("print completion: %w", err)
	}
	return nil
}

// completed is what may follow one command, or nothing yet.
type completed struct {
	path     []string // of commands; empty: none yet
	commands []*kong.Node
	flags    []*kong.Flag
	values   []string // of arguments that have a fixed list
	named    bool     // an argument names an instance
}

// collect lists every visible command with what may follow it.
func collect(n *kong.Node, path []string, all *[]completed) {
	x := completed{path: slices.Clone(path)}
	for _, f := range n.Flags {
		if !f.Hidden {
			x.flags = append(x.flags, f)
		}
	}
	for _, a := range n.Positional {
		x.values = append(x.values, values(a.Enum)...)
		x.named = x.named || a.Name == "instance"
	}
	at := len(*all)
	*all = append(*all, x)
	for _, child := range n.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			x.commands = append(x.commands, child)
			collect(child, append(path, child.Name), all)
		}
	}
	(*all)[at] = x
}

// bash writes a completion function for bash, which zsh understands too. Where nothing
// of ours fits, files are offered.
func bash(b *strings.Builder, all []completed) {
	b.WriteString("_bulkhead() {\n  local cur=\"${COMP_WORDS[COMP_CWORD]}\" path=\"\" words=\"\" word i\n")
	b.WriteString("  for ((i = 1; i < COMP_CWORD; i++)); do\n    word=\"${COMP_WORDS[i]}\"\n    case \"$path $word\" in\n      ")
	var paths []string
	for _, x := range all {
		if len(x.path) > 0 {
			paths = append(paths, `" `+strings.Join(x.path, " ")+`"`)
		}
	}
	b.WriteString(strings.Join(paths, " | ") + ") path=\"$path $word\" ;;\n    esac\n  done\n")
	b.WriteString("  case \"$path ${COMP_WORDS[COMP_CWORD-1]}\" in\n")
	for _, x := range all {
		for _, f := range x.flags {
			if f.Enum != "" {
				fmt.Fprintf(b, "    %q) words=%q ;;\n", prefix(x.path)+" --"+f.Name, strings.Join(values(f.Enum), " "))
			}
		}
	}
	b.WriteString("    *) case \"$path\" in\n")
	for _, x := range all {
		words := slices.Clone(x.values)
		for _, n := range x.commands {
			words = append(words, n.Name)
		}
		for _, f := range x.flags {
			words = append(words, "--"+f.Name)
		}
		if !slices.Contains(words, "--help") {
			words = append(words, "--help")
		}
		if x.named {
			words = append(words, "$("+instanceNames+")") // asked when it is completed
		}
		fmt.Fprintf(b, "      %q) words=%q ;;\n", prefix(x.path), strings.Join(words, " "))
	}
	b.WriteString("    esac ;;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _bulkhead bulkhead\n")
}

// instanceNames is the command that prints what instances can be called.
const instanceNames = "bulkhead names 2>/dev/null"

func prefix(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return " " + strings.Join(path, " ")
}

func values(enum string) []string {
	list := strings.Split(enum, ",")
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// fish writes completions for fish.
func fish(b *strings.Builder, all []completed) {
	for _, x := range all {
		condition := "__fish_use_subcommand"
		if len(x.path) > 0 {
			var seen []string
			for _, name := range x.path {
				seen = append(seen, "__fish_seen_subcommand_from "+name)
			}
			condition = strings.Join(seen, "; and ")
		}
		for _, n := range x.commands {
			fmt.Fprintf(b, "complete -c bulkhead -n %s -a %s -d %s\n", single(condition), n.Name, single(n.Help))
		}
		if len(x.values) > 0 {
			fmt.Fprintf(b, "complete -c bulkhead -n %s -x -a %s\n", single(condition), single(strings.Join(x.values, " ")))
		}
		if x.named {
			fmt.Fprintf(b, "complete -c bulkhead -n %s -x -a %s\n", single(condition), single("("+instanceNames+")"))
		}
		for _, f := range x.flags {
			fmt.Fprintf(b, "complete -c bulkhead -n %s -l %s -d %s", single(condition), f.Name, single(f.Help))
			switch {
			case f.Enum != "":
				fmt.Fprintf(b, " -x -a %s", single(strings.Join(values(f.Enum), " ")))
			case !f.IsBool():
				b.WriteString(" -r")
			}
			b.WriteByte('\n')
		}
	}
}

// single quotes a text for fish.
func single(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// namesTime is how long a shell waits for names.
const namesTime = 2 * time.Second

type namesCommand struct{ remote }

// Run implements the command, for completion: it prints what there is, or nothing.
func (m *namesCommand) Run(c *console) error {
	x, err := m.open(c)
	if err != nil {
		return said(exitFailed)
	}
	defer x.Close()
	ctx, cancel := context.WithTimeout(c.ctx, namesTime)
	defer cancel()
	customers := map[id.Customer]string{}
	for k, err := range client.All(func(cursor string) (*api.Page[api.Customer], error) {
		return x.Customers(ctx, client.List{Cursor: cursor})
	}) {
		if err != nil {
			return said(exitFailed)
		}
		customers[k.ID] = k.ExternalID
	}
	for k, err := range client.All(func(cursor string) (*api.Page[api.Instance], error) {
		return x.Instances(ctx, client.InstanceQuery{}, client.List{Cursor: cursor})
	}) {
		if err != nil {
			return said(exitFailed)
		}
		if name := customers[k.Customer]; name != "" && !strings.ContainsAny(name, " \t\n\"'`$\\;&|<>()*?[]{}~#!") {
			fmt.Fprintf(c.Out, "%s/%s\n", name, k.Name)
		}
	}
	return nil
}
