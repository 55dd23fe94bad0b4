package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Limits for all files.
const (
	maxFileLines = 600
	maxFileBytes = 1 << 20
	// maxResultsBytes limits each file of results/, which only grows.
	maxResultsBytes = 50 << 20
)

// skips holds the allowed calls of t.Skip: the file, and the text that it gives
// as the reason. A reason is something that the machine lacks, never a defect.
func skips() map[string][]string {
	return map[string][]string{
		"reports/browser_test.go":         {"no Chromium on this machine (Debian: apt-get install chromium)"},
		"core/httpapi/browser_test.go":    {"no Chromium on this machine (Debian: apt-get install chromium); TestWebPages sends what it would"},
		"core/pglite/kept_test.go":        {"this program has no build ID"},
		"cloud/pgserve/readme_test.go":    {"no curl on this machine"},
		"cloud/pgserve/temporary_test.go": {"no /dev/shm in memory on this machine"},
	}
}

// source is one file of the repository.
type source struct {
	name string // slash-separated, from the root
	text string
}

// repository lists all files that are or could be committed, and reads those that are
// text.
func repository(t *testing.T) []source {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []source
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		if os.IsNotExist(err) { // deleted, not yet committed
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, source{name, string(text)})
	}
	if len(files) < 20 {
		t.Fatalf("only %d files found", len(files))
	}
	return files
}

// lint returns what is wrong with one file.
func lint(f source) []string {
	var found []string
	complain := func(format string, args ...any) {
		found = append(found, f.name+": "+fmt.Sprintf(format, args...))
	}
	inResults := strings.HasPrefix(f.name, "results/")
	switch limit := map[bool]int{false: maxFileBytes, true: maxResultsBytes}[inResults]; {
	case len(f.text) > limit:
		complain("has %d bytes, more than %d: fetch it, or make it where it is needed", len(f.text), limit)
	case !utf8.ValidString(f.text) || strings.Contains(f.text, "\x00") || inResults || inTestdata(f.name):
		return found // data: only its size is checked
	}
	rules := lineRules()
	for number, line := range strings.Split(f.text, "\n") {
		for _, rule := range rules {
			if rule.mayMatch(line) && rule.pattern.MatchString(line) && !slices.Contains(rule.except, f.name) {
				found = append(found, fmt.Sprintf("%s:%d: %s: %.80s", f.name, number+1, rule.fault, strings.TrimSpace(line)))
			}
		}
	}
	if lines := strings.Count(f.text, "\n"); lines > maxFileLines && slices.Contains([]string{".go", ".sh", ".tmpl", ".yaml", ".yml", ".md"}, path.Ext(f.name)) {
		complain("has %d lines, more than %d: split it by what it does", lines, maxFileLines)
	}
	if path.Ext(f.name) == ".go" {
		found = append(found, lintGo(f)...)
	}
	return found
}

func inTestdata(name string) bool {
	return slices.Contains(strings.Split(name, "/"), "testdata")
}

// lineRule is a text that no line may contain.
type lineRule struct {
	fault   string
	parts   []string // each such text contains one of them: searching for these is cheaper than the expression
	pattern *regexp.Regexp
	except  []string
}

func (r lineRule) mayMatch(line string) bool {
	return slices.ContainsFunc(r.parts, func(part string) bool { return strings.Contains(line, part) })
}

// lineRules holds its patterns in pieces, so that this file does not break them.
func lineRules() []lineRule {
	return []lineRule{
		{fault: "unfinished work is done or dropped, not marked", parts: []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}, pattern: regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)},
		{fault: "a path of somebody's machine", parts: []string{"/Use" + "rs", "/wo" + "rk", "/ro" + "ot", "/mn" + "t", "/ho" + "me"}, pattern: regexp.MustCompile(`(^|[^\w.:/])/(Use` + `rs|wo` + `rk|ro` + `ot|mn` + `t)/\w|(^|[^\w.:/])/ho` + `me/(run|ubuntu|user)`)},
		{fault: "a registry's host: the ordinary client knows where to ask", parts: []string{"registry", "proxy", "sum", "arti" + "factory"}, pattern: regexp.MustCompile(`registry` + `\.\w+\.(org|com|io)|proxy` + `\.golang\.org|sum` + `\.golang\.org|arti` + `factory`)},
		{fault: "a conflict of a merge", parts: []string{"<<<<<<<", ">>>>>>>"}, pattern: regexp.MustCompile(`^(<{7}|>{7}) `)},
	}
}

// lintGo returns what is wrong with a Go file beyond its lines.
func lintGo(f source) []string {
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, f.name, f.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	found := lintImports(files, tree)
	isTest := strings.HasSuffix(f.name, "_test.go")
	ast.Inspect(tree, func(n ast.Node) bool {
		complain := func(format string, args ...any) {
			found = append(found, fmt.Sprintf("%s: ", files.Position(n.Pos()))+fmt.Sprintf(format, args...))
		}
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				complain("has an init function: do it where it is needed")
			}
		case *ast.SelectorExpr:
			base, ok := n.X.(*ast.Ident)
			switch {
			case ok && isTest && base.Name == "time" && n.Sel.Name == "Sleep":
				complain("a test sleeps: wait for what it waits for")
			case ok && isLimit(base.Name, n.Sel.Name) && !isTest && fits("core/...", path.Dir(f.name)) && !mayLimitByTheSystem(f.name):
				complain("calls context.%s: in core a time limit runs by a clock, clock.WithTimeout", n.Sel.Name)
			case ok && isTime(base.Name, n.Sel.Name) && !isTest && fits("core/...", path.Dir(f.name)) && !mayReadTime(f.name):
				complain("reads time.%s: core reads time through core/clock", n.Sel.Name)
			}
		case *ast.CallExpr:
			if skip, ok := n.Fun.(*ast.SelectorExpr); ok && isTest && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, skip.Sel.Name) && !allowedSkip(f.name, n) {
				complain("a test is skipped for a reason that is not in the list of ci/lint_test.go")
			}
		}
		return true
	})
	return found
}

// lintImports finds groups of imports that mix the standard library, other modules and our own packages.
func lintImports(files *token.FileSet, tree *ast.File) (found []string) {
	kind, last := "", 0
	for _, spec := range tree.Imports {
		of, first := "another's", strings.SplitN(strings.Trim(spec.Path.Value, `"`), "/", 2)[0]
		switch {
		case first == module:
			of = "our own"
		case !strings.Contains(first, "."):
			of = "the standard library's"
		}
		line := files.Position(spec.Pos()).Line
		if line == last+1 && of != kind {
			found = append(found, fmt.Sprintf("%s: an import of %s in the group of %s: an empty line belongs between them", files.Position(spec.Pos()), of, kind))
		}
		kind, last = of, files.Position(spec.End()).Line
	}
	return found
}

// isTime reports whether the call reads the time or waits.
func isTime(base, name string) bool {
	return base == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, name)
}

// isLimit reports whether the call creates a context that ends by the system's clock.
func isLimit(base, name string) bool {
	return base == "context" && slices.Contains([]string{"WithTimeout", "WithTimeoutCause", "WithDeadline", "WithDeadlineCause"}, name)
}

// mayLimitByTheSystem holds the clock itself, and what limits real requests to a bucket or to a PostgreSQL: a test that lets hours pass makes
// neither slower.
func mayLimitByTheSystem(name string) bool {
	return fits("core/clock", path.Dir(name)) || slices.Contains([]string{"core/store/gcs/probe.go", "core/store/gcs/retry.go", "core/takeover/patience.go", "core/httpapi/session.go"}, name)
}

// mayReadTime holds the clock itself, and the files in memory, which import nothing and
// get the time from their creator.
func mayReadTime(name string) bool {
	return fits("core/clock", path.Dir(name)) || fits("core/memfs", path.Dir(name))
}

// allowedSkip reports whether a call of Skip gives a reason from the list.
func allowedSkip(name string, call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	reason, ok := call.Args[0].(*ast.BasicLit)
	return ok && slices.Contains(skips()[name], strings.Trim(reason.Value, "\"`"))
}

func TestHouseRules(t *testing.T) {
	for _, f := range repository(t) {
		for _, fault := range lint(f) {
			t.Error(fault)
		}
	}
}

// Every package says, in one place, what it is for.
func TestPackagesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range repository(t) {
		if path.Ext(f.name) != ".go" || strings.HasSuffix(f.name, "_test.go") || inTestdata(f.name) {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.name, f.text, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(f.name)
		documented[dir] = documented[dir] || len(strings.TrimSpace(tree.Doc.Text())) > 40
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("the package %s has no package comment", dir)
		}
	}
}

// Each rule must catch what it is for, and nothing similar.
func TestHouseRulesCatch(t *testing.T) {
	long := strings.Repeat("// a line\n", maxFileLines+1)
	for _, tt := range []struct{ name, text, want string }{
		{"a/b.go", "package b\n", ""},
		{"a/b.go", "package b\n// TO" + "DO: later\n", "a/b.go:2: unfinished work"},
		{"a/b.go", "package b\n\nconst dir = \"/wo" + "rk/main\"\n", "a path of somebody's machine"},
		{"a/b.go", "package b\n\nconst dir = \"/home/postgres\"\nconst url = \"https://example.com/root/x\"\n", ""},
		{"a/b.go", "package b\n// FIX" + "ME\n", "a/b.go:2: unfinished work"},
		{"a/b.go", "package b\n// XX" + "X\n", "a/b.go:2: unfinished work"},
		{"a/b.go", "package b\n// HA" + "CK\n", "a/b.go:2: unfinished work"},
		{"a.md", "in /Use" + "rs/a or\n", "a path of somebody's machine"},
		{"a.md", "in /ro" + "ot/a or\n", "a path of somebody's machine"},
		{"a.md", "in /mn" + "t/a or\n", "a path of somebody's machine"},
		{"a.md", "in /ho" + "me/user/a\n", "a path of somebody's machine"},
		{"a.md", "npm asks registry" + ".npmjs.org\n", "a registry's host"},
		{"a.md", "go asks proxy" + ".golang.org\n", "a registry's host"},
		{"a.md", "go asks sum" + ".golang.org\n", "a registry's host"},
		{"a.md", "behind an arti" + "factory\n", "a registry's host"},
		{"a.md", "<<<<" + "<<< HEAD\n", "a conflict of a merge"},
		{"a.md", ">>>>" + ">>> other\n", "a conflict of a merge"},
		{"a/b.go", "package b\n" + long, "lines, more than 600"},
		{"go.sum", long, ""},
		{"a/b.bin", strings.Repeat("\x00", maxFileBytes+1), "bytes, more than"},
		{"results/e2.jsonl", strings.Repeat("x", maxFileBytes+1), ""},
		{"a/testdata/x.txt", "TO" + "DO\n", ""},
		{"a/b.go", "package b\n\nfunc init() {}\n", "a/b.go:3:1: has an init function"},
		{"a/b_test.go", "package b\n\nfunc f() { time.Sleep(1) }\n", "a test sleeps"},
		{"a/b.go", "package b\n\nimport (\n\t\"blobpglite/core/wal\"\n\t\"context\"\n)\n", "a/b.go:5:2: an import of the standard library's in the group of our own"},
		{"a/b.go", "package b\n\nimport (\n\t\"context\"\n\n\t\"cloud.google.com/go/storage\"\n\n\t\"blobpglite/core/wal\"\n)\n", ""},
		{"a/b_test.go", "package b\n\nfunc f(t *testing.T) { t.Skip(\"broken\") }\n", "a test is skipped"},
		{"core/base/x.go", "package base\n\nvar t = time.Now()\n", "core reads time through core/clock"},
		{"core/base/x_test.go", "package base\n\nvar t = time.Now()\n", ""},
		{"core/base/x.go", "package base\n\nvar f = context.WithTimeout\n", "a time limit runs by a clock"},
		{"core/base/x_test.go", "package base\n\nvar f = context.WithTimeout\n", ""},
		{"core/store/gcs/retry.go", "package gcs\n\nvar f = context.WithTimeout\n", ""},
		{"core/clock/x.go", "package clock\n\nvar t = time.Now()\n", ""},
		{"runner/x.go", "package runner\n\nvar t = time.Now()\n", ""},
	} {
		got := strings.Join(lint(source{tt.name, tt.text}), "; ")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s with %.60q: %q, want %q", tt.name, tt.text, got, tt.want)
		}
	}
}

// The script must be executable and work from any folder.
func TestScriptWorksFromAnywhere(t *testing.T) {
	script, err := filepath.Abs(filepath.Join("..", ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), script, "-no-such-flag")
	cmd.Dir = t.TempDir()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "flag provided but not defined: -no-such-flag") {
		t.Errorf("%v: %s", err, out.String())
	}
}
