package bulkhead

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bulkheadhq/bulkhead/"

// layers is the order of packages: a package imports only packages of lower
// layers. Where two of one layer are used by each other, the lower one is named in
// sameLayer with the reason.
var layers = map[string]int{
	"internal/registry": 3,
	"internal/id":       0, "internal/secret": 0, "internal/seal": 0, "internal/wire": 0, "internal/children": 0, "internal/source": 0, "internal/canon": 0, "internal/redtwin": 0,
	"internal/credential": 1, "internal/certificate": 1,
	"internal/expr": 1, "internal/connector": 1, "internal/flow": 1, "internal/flowfile": 1,
	"internal/jail/seccomp": 1, "internal/jail/landlock": 1, "internal/store/sqlite": 1,
	"internal/sign": 2, "internal/oauth": 2, "internal/lease": 2, "internal/store": 2, "internal/keystore": 2, "internal/blob": 2, "internal/dial": 2, "internal/jail": 2, "internal/bus": 2,
	"internal/vault": 3, "internal/egress": 3, "internal/worker": 3, "internal/sandbox": 3, "internal/runner": 3, "internal/engine": 3,
	"connectors": 0, "internal/connectorfile": 2, "internal/trigger": 3, "internal/backup": 3, "internal/openapi": 3, "internal/openapi/strict": 4, "internal/openapi/contract": 5,
	"internal/sandbox/transform": 3, "internal/api": 4, "internal/client": 4, "internal/connect": 4, "internal/sample": 4, "internal/role": 5, "internal/cli": 6,
	"internal/testkit": 7, "internal/suite": 7, "internal/bench": 8, "cmd/bulkhead-bench": 9,
	"cmd/bulkhead": 7, "cmd/bulkhead-worker": 7, "cmd/bulkhead-sandbox": 7,
}

// sameLayer are the imports within a layer, with the reason for each.
var sameLayer = map[string]string{
	"internal/oauth → internal/sign":           "some token requests are signed",
	"internal/connector → internal/credential": "a connector names its auth methods",
	"internal/connector → internal/expr":       "an action is built of resolved values",
	"internal/wire → internal/id":              "frames hold ids",
	"internal/wire → internal/seal":            "frames hold public keys, and the places of sealed values",
	"internal/flow → internal/expr":            "templates are parsed where a value is read",
	"internal/flow → internal/connector":       "a published integration carries what it uses of its connectors",
	"internal/flowfile → internal/flow":        "a document becomes a flow",
	"internal/flowfile → internal/connector":   "what a flow does with a connector is checked when a document is",
	"internal/flowfile → internal/expr":        "expressions are checked when a document is",
	"internal/jail → internal/secret":          "",
	"internal/store → internal/lease":          "days and places are lease's words",
	"internal/keystore → internal/lease":       "days are lease's words",
	"internal/blob → internal/lease":           "days are lease's words",
	"internal/engine → internal/sandbox":       "",
	"internal/api → internal/connect":          "the API of what connects customers",
	"internal/client → internal/api":           "the two sides of one contract",
	"internal/trigger → internal/engine":       "what triggers a flow is accepted by the engine",
}

// capability is something that only named packages may do.
type capability struct {
	what    string
	imports []string          // import paths that give the capability
	calls   []string          // or selectors pkg.Name that give it
	allowed map[string]string // package → reason
}

var capabilities = []capability{
	{
		what: "SQL", imports: []string{"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx"},
		allowed: map[string]string{"internal/store": "the server's database", "internal/store/sqlite": "its writer's connection", "internal/keystore": "the vault's store", "internal/bench": "reads when executions finished"},
	},
	{
		what:  "outbound dialling",
		calls: []string{"net.Dial", "net.DialTimeout", "net.DialTCP", "net.DialUDP", "net.DialUnix", "net.DialIP", "net.Dialer", "tls.Dial", "tls.Dialer", "http.Get", "http.Post", "http.DefaultClient", "http.DefaultTransport"},
		allowed: map[string]string{
			"internal/dial":    "the one way out",
			"internal/client":  "the command line speaks to its own server's Unix socket, and answers its callbacks in tests",
			"internal/testkit": "leads clients under test to a fake provider on loopback",
		},
	},
	{
		what: "HTTP clients", calls: []string{"http.Client", "http.Transport", "net.Resolver", "net.DefaultResolver"},
		allowed: map[string]string{
			"internal/egress": "the calls of integrations, through dial",
			"internal/dial":   "looks names up",
			"internal/client": "the command line speaks to its own server's Unix socket",
		},
	},
	{
		what: "starting processes", imports: []string{"os/exec"}, calls: []string{"os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec"},
		allowed: map[string]string{"internal/jail": "every child process is started into a jail", "internal/testkit": "starts the servers that tests need", "internal/bench": "starts the load, and what is measured", "internal/backup": "reads a role's files as that role's user, and runs pg_dump and pg_restore, which need the operator's network"},
	},
	{
		what: "ciphers", imports: []string{"crypto/aes", "crypto/cipher", "crypto/hpke", "crypto/rc4", "crypto/des", "github.com/tink-crypto/tink-go", "golang.org/x/crypto"},
		allowed: map[string]string{"internal/seal": "the small set of ciphers", "internal/vault": "the key hierarchy"},
	},
	{
		what: "the NATS server and client", imports: []string{"github.com/nats-io"},
		allowed: map[string]string{"internal/bus": "carries the frames", "internal/vault": "signs the bus's identities"},
	},
	{
		what: "JavaScript", imports: []string{"github.com/grafana/sobek", "github.com/evanw/esbuild"},
		allowed: map[string]string{"internal/sandbox": "runs code steps", "internal/sandbox/transform": "strips types"},
	},
	{
		what: "unsafe memory and cgo", imports: []string{"unsafe", "C", "plugin"},
		allowed: map[string]string{"internal/expr": "texts that point into a document which never changes", "internal/store/sqlite": "hands arguments to the database library where they are", "internal/jail": "system calls that Go has no wrapper for", "internal/jail/seccomp": "filter programs", "internal/jail/landlock": "system calls that Go has no wrapper for"},
	},
}

// reveals are the packages that may read a secret.Value.
var reveals = map[string]string{
	"internal/egress": "puts credentials into requests",
	"internal/oauth":  "puts client secrets, codes and refresh tokens into token requests",
	"internal/vault":  "seals credentials and opens its root",
	"internal/role":   "the supervisor passes the root secret to the vault, once, and destroys it",
}

// forbidden are packages that must not be in the import graph of a small program,
// so that what a hostile program can reach stays small and checkable.
var forbidden = map[string][]string{
	"./cmd/bulkhead-worker": {
		"database/sql", "net/http", "net", "os/exec", "plugin", "crypto/tls", "crypto/x509", "github.com/nats-io", "github.com/goccy/go-yaml",
		"github.com/grafana/sobek", "modernc.org/sqlite", module + "internal/vault", module + "internal/store", module + "internal/keystore", module + "internal/egress", module + "internal/dial",
	},
	"./cmd/bulkhead-sandbox": {
		"database/sql", "net/http", "net", "os/exec", "plugin", "crypto/tls", "crypto/x509", "github.com/nats-io", "github.com/goccy/go-yaml",
		"cel.dev/cel-go", "modernc.org/sqlite", module + "internal/vault", module + "internal/lease", module + "internal/worker", module + "internal/expr",
	},
	"./internal/runner": {
		"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx", module + "internal/vault", module + "internal/keystore", module + "internal/store", module + "internal/egress", module + "internal/dial",
	},
	"./internal/egress": {"database/sql", "modernc.org/sqlite", module + "internal/vault", module + "internal/keystore", module + "internal/store"},
	"./internal/vault":  {"net/http", module + "internal/egress", module + "internal/dial", module + "internal/store", module + "internal/worker", "cel.dev/cel-go", "github.com/grafana/sobek"},
}

const (
	maxFile     = 600
	maxTestFile = 1000
	maxFunction = 80
)

// source is one parsed Go file.
type source struct {
	path string // from the root
	pkg  string // directory from the root
	test bool
	file *ast.File
	fset *token.FileSet
	text string
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata" || d.Name() == "node_modules" || p == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, source{filepath.ToSlash(p), path.Dir(filepath.ToSlash(p)), strings.HasSuffix(p, "_test.go"), f, fset, string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d Go files found", len(out))
	}
	return out
}

func imports(s source) []string {
	var out []string
	for _, i := range s.file.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

// own is the package that a file belongs to in the tables: commands and helpers
// below a package's directory count as that package.
func own(pkg string) string {
	for p := pkg; p != "."; p = path.Dir(p) {
		if _, ok := layers[p]; ok {
			return p
		}
	}
	return pkg
}

func TestImportsPointDownwards(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test || s.pkg == "." {
			continue
		}
		from := own(s.pkg)
		level, ok := layers[from]
		if !ok {
			t.Errorf("%s: package %s has no layer: add it to the table", s.path, s.pkg)
			continue
		}
		for _, i := range imports(s) {
			to, ok := strings.CutPrefix(i, module)
			if !ok || own(to) == from {
				continue
			}
			switch l, ok := layers[own(to)]; {
			case !ok:
				t.Errorf("%s imports %s, which has no layer", s.path, to)
			case l > level:
				t.Errorf("%s (layer %d) imports %s (layer %d)", s.path, level, to, l)
			case l == level && sameLayer[from+" → "+own(to)] == "":
				t.Errorf("%s imports %s of its own layer, with no reason in the table", s.path, to)
			}
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test || strings.Contains(s.path, "/hostile/") || strings.Contains(s.path, "/container/") {
			continue // programs of tests
		}
		for _, c := range capabilities {
			if c.allowed[own(s.pkg)] != "" {
				continue
			}
			for _, i := range imports(s) {
				for _, forbidden := range c.imports {
					if i == forbidden || strings.HasPrefix(i, forbidden+"/") {
						t.Errorf("%s imports %s: %s is only for %v", s.path, i, c.what, keys(c.allowed))
					}
				}
			}
			for _, call := range selectors(s) {
				if slices.Contains(c.calls, call) {
					t.Errorf("%s uses %s: %s is only for %v", s.path, call, c.what, keys(c.allowed))
				}
			}
		}
		if reveals[own(s.pkg)] == "" && own(s.pkg) != "internal/secret" && slices.Contains(selected(s), "Reveal") {
			t.Errorf("%s reads a secret: only %v may", s.path, keys(reveals))
		}
	}
}

func keys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// selectors lists what a file uses of imported packages, as pkg.Name.
func selectors(s source) []string {
	var out []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if e, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := e.X.(*ast.Ident); ok {
				out = append(out, x.Name+"."+e.Sel.Name)
			}
		}
		return true
	})
	return out
}

// selected lists every name that a file selects from anything: fields and methods too.
func selected(s source) []string {
	var out []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if e, ok := n.(*ast.SelectorExpr); ok {
			out = append(out, e.Sel.Name)
		}
		return true
	})
	return out
}

func TestImportGraphsOfSmallPrograms(t *testing.T) {
	t.Parallel()
	for program, refused := range forbidden {
		out, err := exec.Command("go", "list", "-deps", program).Output()
		if err != nil {
			t.Errorf("go list -deps %s: %v", program, err)
			continue
		}
		deps := strings.Fields(string(out))
		t.Logf("%s: %d packages", program, len(deps))
		for _, d := range deps {
			for _, r := range refused {
				if d == r || strings.Contains(r, ".") && strings.HasPrefix(d, r+"/") {
					t.Errorf("%s has %s in its import graph", program, d)
				}
			}
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		limit := maxFile
		if s.test {
			limit = maxTestFile
		}
		if n := strings.Count(s.text, "\n"); n > limit && !ast.IsGenerated(s.file) {
			t.Errorf("%s has %d lines, more than %d", s.path, n, limit)
		}
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := lines(s, f) - literals(s, f); n > maxFunction {
				t.Errorf("%s: %s has %d lines, more than %d", s.path, f.Name.Name, n, maxFunction)
			}
		}
	}
}

func lines(s source, n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

// literals is how many lines of a function are tables: composite literals.
func literals(s source, f *ast.FuncDecl) int {
	n := 0
	ast.Inspect(f, func(x ast.Node) bool {
		if l, ok := x.(*ast.CompositeLit); ok {
			n += lines(s, l) - 1
			return false
		}
		return true
	})
	return n
}

func TestEverythingExportedIsDocumented(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	all := sources(t)
	for _, s := range all {
		if !s.test && s.file.Doc != nil {
			documented[s.pkg] = true
		}
	}
	for _, s := range all {
		if s.test {
			continue
		}
		if !documented[s.pkg] {
			t.Errorf("package %s has no comment that says what it is for", s.pkg)
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no comment", s.path, name)
			}
		}
	}
}

func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || exportedReceiver(d)) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var out []string
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					out = append(out, spec.Name.Name)
				}
			case *ast.ValueSpec:
				if spec.Names[0].IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					out = append(out, spec.Names[0].Name)
				}
			}
		}
		return out
	}
	return nil
}

func exportedReceiver(d *ast.FuncDecl) bool {
	x := d.Recv.List[0].Type
	if s, ok := x.(*ast.StarExpr); ok {
		x = s.X
	}
	i, ok := x.(*ast.Ident)
	return ok && i.IsExported()
}

func TestHabits(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s has an init function", s.path)
			}
		}
		if s.test && slices.Contains(selectors(s), "time.Sleep") {
			t.Errorf("%s sleeps: wait for an event, or use testing/synctest", s.path)
		}
		if s.path != "arch_test.go" {
			for _, word := range []string{"TO" + "DO", "FIX" + "ME"} {
				if strings.Contains(s.text, word) {
					t.Errorf("%s contains %s", s.path, word)
				}
			}
		}
	}
}
