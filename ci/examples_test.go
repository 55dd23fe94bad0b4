package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc/comment"
	gcimporter "go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// example is a block of Go in documentation.
type example struct {
	at, pkg, code string // file:line of the comment, the package that it documents, and the code
}

// isGo distinguishes Go from pictures, commands and formats: Go assigns, declares or defers.
var isGo = regexp.MustCompile(`(?m):= |^\w*err = |^(var|func|defer) `)

// leftOut matches what an example leaves out: ... or … as a statement, an element or an argument; not x... , which is Go.
var leftOut = regexp.MustCompile(`(^|[\s{(,])(?:(\.\.\.|…),\s*|(\.\.\.|…)([\s})]|$))`)

// examples returns the blocks of Go in the documentation of packages and of what they export, and in the texts that contain Go.
func examples(files []source) (all []example, broken []string) {
	for _, f := range files {
		dir := path.Dir(f.name)
		switch {
		case path.Ext(f.name) == ".md": // four spaces, as in a comment
			for i, block := range regexp.MustCompile(`(?m)(?:^    .*\n|^\n)+`).FindAllString(f.text, -1) {
				code := strings.TrimSpace(regexp.MustCompile(`(?m)^    `).ReplaceAllString(block, ""))
				if isGo.MatchString(code) {
					all = append(all, example{fmt.Sprintf("%s, block %d", f.name, i+1), module, code})
				}
			}
			continue
		case path.Ext(f.name) != ".go" || strings.HasSuffix(f.name, "_test.go") || inTestdata(f.name):
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, f.name, f.text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			broken = append(broken, err.Error())
			continue
		}
		add := func(doc *ast.CommentGroup) {
			var p comment.Parser
			for _, block := range p.Parse(doc.Text()).Content {
				if code, ok := block.(*comment.Code); ok && isGo.MatchString(code.Text) {
					all = append(all, example{set.Position(doc.Pos()).String(), cmp.Or(strings.Trim(dir, "."), module), code.Text})
				}
			}
		}
		add(tree.Doc)
		for _, d := range tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() {
					add(d.Doc)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() {
						add(d.Doc)
						add(s.Doc)
					}
				}
			}
		}
	}
	return all, broken
}

// given holds the names that examples use without declaring them, as parameters of a function: everywhere, and by package.
func given() map[string]string {
	return map[string]string{
		"":                               "ctx context.Context, st store.Store, clk clock.Clock, body []byte, seed uint64, cache, folder, url string, run *bench.Run",
		"cloud/runemu/platform":          "flags []string, listener net.Listener",
		"core/base":                      "data *memfs.FS",
		"core/engine":                    "prefix store.Store, rt *pglite.Runtime",
		"core/keeper":                    "open func(context.Context) (*engine.Engine, error)",
		"core/lease":                     "id string",
		"core/manifest":                  "layer manifest.Layer",
		"core/memfs":                     "page []byte, f *memfs.File, off, n int64, source memfs.Source",
		"core/pgdata":                    "log *pgdata.Log, shipped pgdata.LSN",
		"core/pglite":                    "addr net.Addr, file io.Writer, socket net.Conn",
		"core/pglite/internal/assets":    "build func(context.Context, io.Writer) error",
		"core/pglite/internal/codecache": "dir string, loans []codecache.Loan, runtime wazero.Runtime, outline []byte, compiled wazero.CompiledModule",
		"core/pglite/internal/image":     "w io.Writer, tree *memfs.FS",
		"core/pglite/internal/layout":    "set *assets.Set",
		"core/pglite/internal/postlink":  "code []byte, begins []uint64",
		"core/pglite/internal/wasmbin":   "pgliteWasm, pgDumpWasm, plpgsqlSo []byte, place func(wasmbin.Import) (int32, bool), resolve func(wasmbin.Import) (string, string)",
		"core/pgwire":                    "keeper *keeper.Keeper, listener net.Listener",
		"core/point":                     "o struct{ Hook point.Hook }",
		"core/replica":                   "load func(context.Context) (*pglite.Runtime, error)",
		"core/store":                     "record []byte",
		"core/takeover":                  "restore func(manifest.Manifest, []wal.Record), ops []wal.Op",
		"core/wal":                       "tail, start wal.Position, id string, ops []wal.Op",
		"faults/clockfault/passing":      "path string",
		"faults/gcsfront":                "authenticated http.RoundTripper, rules []gcsfront.Rule",
		"faults/model":                   "key string, errThrottled error",
		"faults/mutant":                  "m mutant.Mutant, dir, program string",
		"faults/pointfault":              "tellRunner func(pointfault.Event)",
		"faults/procfault":               "cmd *exec.Cmd, pid int",
		"runner/bench":                   "metrics []record.Metric, cell scenario.Cell",
		"runner/check":                   "ops []history.Op, before, now history.State, objects []check.Object",
		"runner/clients":                 "progress func(string, int64, int64), port int, scratch string",
		"runner/cluster":                 "other *cluster.Member",
		"runner/edges":                   "metrics *record.Metrics",
		"runner/npm":                     "progress func(string, int64, int64)",
		"runner/cloudrun/rehearsal":      "pgserve, emulator string",
		"runner/axe":                     "page http.Handler",
		"runner/history":                 "file *os.File",
		"runner/interleave":              "native, ours string",
		"runner/node":                    "spec node.StoreSpec, opened, loaded any",
		"runner/pgsuite":                 "progress func(string, int64, int64), source, outputs, outputs2 string, settings pgsuite.Conditions, o pgsuite.RunOptions, each func(pgsuite.Outcome, bool), ours, server pgsuite.Server, limit time.Duration",
		"runner/pgsuite/isolation":       "text string, config *pgconn.Config, out io.Writer",
		"runner/progress":                "done, total int64",
		"runner/record":                  "elapsed time.Duration",
		"runner/scenario":                "metrics []record.Metric, registry scenario.Registry, checks []record.Check",
		"runner/workload":                "in *engine.Engine, h *history.History, holder workload.Target, outcomeOf func(error) history.Outcome",
	}
}

// compiled holds the compiled form of each package, and the path of each package by its name.
type compiled struct {
	exports map[string]string // by import path: the file
	paths   map[string]string // by name
	set     *token.FileSet
	from    types.Importer // reads each export file once, for all examples
}

func compile(t *testing.T) compiled {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-json=ImportPath,Name,Export,Standard", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -export: %v: %s", err, stderr.String())
	}
	c, standard := compiled{exports: map[string]string{}, paths: map[string]string{}, set: token.NewFileSet()}, map[string]bool{}
	c.from = gcimporter.ForCompiler(c.set, "gc", func(at string) (io.ReadCloser, error) { return os.Open(c.exports[at]) })
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Name, Export string
			Standard                 bool
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return c
		} else if err != nil {
			t.Fatal(err)
		}
		c.exports[p.ImportPath] = p.Export
		// Of several packages with one name, an example means this module's, else the standard library's, else the one with the shortest path.
		rank := func(at string) int {
			switch {
			case fits(module+"/...", at):
				return 0
			case standard[at]:
				return 1
			}
			return 1 + len(at)
		}
		standard[p.ImportPath] = p.Standard
		was, is := c.paths[p.Name], p.ImportPath
		if own := fits(module+"/...", is); (own || !strings.Contains(is, "internal")) && (was == "" || rank(is) < rank(was)) {
			c.paths[p.Name] = is
		}
	}
}

// faults type-checks an example as the body of a function, and returns the compiler's errors. A variable that is only set is not an error.
func (c compiled) faults(e example, given map[string]string) (found []string) {
	code := regexp.MustCompile(`(?m)^import .*\n`).ReplaceAllString(e.code, "")
	code = regexp.MustCompile(`(?m)^\s*(\.\.\.|…)$`).ReplaceAllString(code, "panic(0)")
	code = regexp.MustCompile(`\{ (\.\.\.|…) \}`).ReplaceAllString(code, "{ panic(0) }")
	code = leftOut.ReplaceAllString(code, "$1$4")
	if !strings.HasPrefix(code, "func ") {
		parameters := given[""]
		if own := given[e.pkg]; own != "" {
			parameters += ", " + own
		}
		code = "func _(" + parameters + ") error {\n{\n" + code + "\n}\nreturn nil\n}\n"
	}
	text := "package example\n\n"
	for _, name := range sortedNames(code) {
		at, ok := c.paths[name]
		if e.pkg != module && name == path.Base(e.pkg) {
			at, ok = module+"/"+e.pkg, true
		}
		if ok {
			text += "import " + name + " " + strconv.Quote(at) + "\n"
		}
	}
	tree, err := parser.ParseFile(c.set, "", text+code, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error() + "\n" + code}
	}
	config := types.Config{Importer: c.from, Error: func(err error) {
		var e types.Error
		if errors.As(err, &e) && !e.Soft {
			found = append(found, e.Msg)
		}
	}}
	_, _ = config.Check("example", c.set, []*ast.File{tree}, nil)
	return found
}

// sortedNames returns the names that precede a dot and an exported name: packages, and also variables.
func sortedNames(code string) (names []string) {
	for _, m := range regexp.MustCompile(`\b(\w+)\.[A-Z]`).FindAllStringSubmatch(code, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestExamplesCompile(t *testing.T) {
	all, broken := examples(repository(t))
	for _, b := range broken {
		t.Error(b)
	}
	if len(all) < 50 {
		t.Errorf("only %d examples were found", len(all))
	}
	c := compile(t)
	for _, e := range all {
		for _, f := range c.faults(e, given()) {
			t.Errorf("%s: %s", e.at, f)
		}
	}
	for pkg := range given() {
		if pkg != "" && !slices.ContainsFunc(all, func(e example) bool { return e.pkg == pkg }) {
			t.Errorf("no example of %s uses what is given for it", pkg)
		}
	}
	catchExamples(t, c)
}

// catchExamples: the check must find each kind of mistake, and allow what an example may leave out.
func catchExamples(t *testing.T, c compiled) {
	t.Helper()
	for _, tt := range []struct{ doc, want string }{
		{"\tgen, err := st.Put(ctx, \"key\", body, store.NewWriteID(), store.IfAbsent())\n", ""},
		{"\tlog := wal.NewLog(st, wal.Position{}, wal.Options{Epoch: 7})\n", "assignment mismatch"},
		{"\ta, err := wal.NewLog(st, wal.Position{}, wal.Options{Epoch: 7, ...})\n\t...\n\ta.Page(1)\n", "a.Page undefined"},
		{"\to, err := st.Get(ctx, 7)\n", "cannot use 7"},
		{"\to, err := store.Fetch(ctx, st)\n", "undefined: store.Fetch"},
		{"\terr := st.Delete(ctx, name)\n", "undefined: name"},
		{"\terr := st.Get(\n", "expected"},
		{"\tfor r := range rows { ... }\n\terr := f(args...)\n", "undefined: rows"},
		{"\tlog  ──► record\n", ""},
		{"\tgo run ./ci -v   # all\n", ""},
	} {
		text := "// Package a is here to be wrong:\n//\n//" + strings.ReplaceAll(strings.TrimRight(tt.doc, "\n"), "\n", "\n//") + "\npackage a\n"
		all, broken := examples([]source{{"core/a/a.go", text}})
		got := strings.Join(broken, "; ")
		for _, e := range all {
			got += strings.Join(c.faults(e, given()), "; ")
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.doc, got, tt.want)
		}
	}
}
