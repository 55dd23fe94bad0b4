package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is the prefix of the import paths of the repository's own packages.
const module = "blobpglite"

// room is a row of the import table: which package may import which. Only what is compiled into
// programs counts; tests may reach further.
type room struct {
	// path is the package, or with a trailing /... the package and everything below it. The
	// row with the longest path that matches a package is its row.
	path string
	// own holds the packages of this module that it may import, in the same form.
	own []string
	// others holds the modules, or trees of packages, that it may import.
	others []string
}

// rooms returns the import table; ARCHITECTURE.md explains it.
func rooms() []room {
	engine := []string{"core/..."}
	return append(experiments(), []room{
		{path: module, own: engine, others: []string{"github.com/jackc/pgx/v5"}}, // the root: what programs import
		{path: "core/clock"},
		{path: "core/point"},
		{path: "core/store", own: []string{"core/clock"}, others: []string{"github.com/oklog/ulid/v2"}},
		{
			path: "core/store/gcs", own: []string{"core/store", "core/clock"},
			others: []string{"cloud.google.com/go/auth", "cloud.google.com/go/storage", "google.golang.org/api", "github.com/googleapis/gax-go/v2"},
		},
		{path: "core/store/file", own: []string{"core/store", "core/clock"}},
		{path: "core/store/location", own: []string{"core/store", "core/store/gcs", "core/store/file"}},
		{path: "core/store/mem", own: []string{"core/store", "core/clock"}},
		{path: "core/store/storetest", own: []string{"core/store", "core/clock"}},
		{path: "core/manifest", own: []string{"core/store", "core/point", "core/clock"}},
		{path: "core/memfs"},
		{path: "core/pgdata"},
		{
			path: "core/base", own: []string{"core/store", "core/memfs", "core/manifest", "core/point", "core/clock"},
			others: []string{"github.com/klauspost/compress", "golang.org/x/sync"},
		},
		{
			path: "core/wal", own: []string{"core/store", "core/point", "core/clock"},
			others: []string{"github.com/klauspost/compress", "golang.org/x/sync"},
		},
		{path: "core/lease", own: []string{"core/store", "core/point", "core/clock"}},
		{
			path: "core/takeover", own: []string{"core/store", "core/lease", "core/manifest", "core/wal", "core/base", "core/memfs", "core/pgdata", "core/point", "core/clock"},
			others: []string{"golang.org/x/sync"},
		},
		{
			path: "core/gc", own: []string{"core/store", "core/manifest", "core/wal", "core/base", "core/point", "core/clock"},
			others: []string{"golang.org/x/sync"},
		},
		{
			path: "core/pglite/...", own: []string{"core/memfs", "core/pgdata", "core/clock", "core/point", "core/pglite/..."},
			others: []string{"github.com/tetratelabs/wazero", "github.com/jackc/pgx/v5", "github.com/klauspost/compress", "golang.org/x/sys", "golang.org/x/sync"},
		},
		{path: "cloud/runemu", own: []string{"cloud/runemu/platform"}},
		{path: "cloud/runemu/platform"},
		{path: "cloud/bill", own: []string{"cloud/runemu/platform", "runner/record"}},
		{path: "core/replica", own: []string{"core/engine", "core/takeover", "core/manifest", "core/wal", "core/base", "core/pgdata", "core/store", "core/clock"}},
		{path: "core/keeper", own: []string{"core/engine", "core/clock"}},
		{
			path: "core/httpapi", own: []string{"core/keeper", "core/engine", "core/pglite", "core/pgdata", "core/store", "core/clock"},
			others: []string{"github.com/jackc/pgx/v5", "github.com/prometheus/client_golang"},
		},
		{
			path: "cloud/pgserve", own: []string{"core/..."},
			others: []string{"github.com/prometheus/client_golang", "github.com/fsouza/fake-gcs-server"},
		},
		{
			path: "core/pgwire", own: []string{"core/engine", "core/pglite", "core/lease", "core/store", "core/clock"},
			others: []string{"github.com/jackc/pgx/v5"},
		},
		{path: "core/engine", own: engine, others: []string{"github.com/jackc/pgx/v5", "github.com/xdg-go/scram", "golang.org/x/sync"}},
		{
			path: "faults/...", own: []string{"core/store", "core/store/file", "core/clock", "core/point", "faults/model"},
			others: []string{"github.com/fsouza/fake-gcs-server", "golang.org/x/sys"},
		},
		{path: "scenarios"},
		{path: "runner/record", others: []string{"github.com/HdrHistogram/hdrhistogram-go"}},
		{
			path: "runner/scenario", own: []string{"runner/record", "scenarios"},
			others: []string{"al.essio.dev/pkg/shellescape", "github.com/expr-lang/expr", "github.com/goccy/go-yaml"},
		},
		{
			path: "runner/check", own: []string{"runner/history"}, // never core: it judges what was recorded
			others: []string{"github.com/anishathalye/porcupine", "github.com/klauspost/compress"},
		},
		{path: "runner/cloudrun", own: []string{"core/clock"}, others: []string{"al.essio.dev/pkg/shellescape"}},
		{path: "runner/cloudrun/rehearsal", own: []string{"cloud/runemu/platform"}},
		{
			path: "runner/pgsuite", own: []string{"core/clock", "runner/service", "runner/pgsuite/isolation"},
			others: []string{"github.com/jackc/pgx/v5", "github.com/pmezard/go-difflib", "golang.org/x/sync"},
		},
		{path: "runner/pgsuite/isolation", own: []string{"core/clock"}, others: []string{"github.com/jackc/pgx/v5"}},
		{
			path: "runner/interleave", own: []string{"core/clock"}, // never the engine: it knows addresses
			others: []string{"github.com/jackc/pgx/v5", "github.com/klauspost/compress"},
		},
		{path: "runner/npm"},
		{path: "runner/axe", own: []string{"runner/npm"}},
		{path: "runner/history", own: []string{"core/clock"}},
		{
			path: "runner/...", own: []string{"core/...", "faults/...", "scenarios", "runner/...", "cloud/runemu/platform"},
			others: []string{"github.com/jackc/pgx/v5", "github.com/mattn/go-isatty", "github.com/prometheus/common", "github.com/schollz/progressbar/v3", "golang.org/x/sync", "golang.org/x/sys", "golang.org/x/term"},
		},
		{path: "reports", own: []string{"runner/record", "runner/scenario", "runner/registry", "scenarios"}},
		{path: "ci", own: []string{"scenarios"}},
	}...)
}

// experiments returns the rooms of the runner that have verbs, and what these build on. None knows another one, except as its row
// says, and none knows the list of all, which is the registry's.
func experiments() []room {
	common := []string{
		"core/...", "faults/...", "runner/bench", "runner/check", "runner/history", "runner/node", "runner/record", "runner/scenario", "runner/service", "runner/workload",
	}
	others := []string{"github.com/jackc/pgx/v5", "github.com/prometheus/common", "golang.org/x/sync", "golang.org/x/sys"}
	verbs := func(path string, more ...string) room {
		return room{path: path, own: append(slices.Clone(common), more...), others: others}
	}
	return []room{
		verbs("runner/bench/...", "runner/cloudrun"),
		verbs("runner/protocol", "runner/explore"),
		verbs("runner/perf", "runner/pgsuite"),
		verbs("runner/layers"),
		verbs("runner/pages"),
		verbs("runner/cluster"),
		verbs("runner/crash", "runner/cluster", "runner/layers"),
		verbs("runner/chaos", "runner/cluster"),
		verbs("runner/mutants"),
		verbs("runner/clients", "runner/npm", "runner/pgsuite"),
		verbs("runner/conformance", "runner/interleave", "runner/pgsuite"),
		verbs("runner/edges"),
		verbs("runner/serverless", "runner/cloudrun", "cloud/runemu/platform"),
		verbs("runner/replica"),
		verbs("runner/soak", "runner/serverless", "runner/layers", "runner/mutants", "cloud/runemu/platform"),
		verbs("runner/gotests"),
		{path: "runner/registry", own: []string{
			"runner/bench", "runner/scenario", "runner/protocol", "runner/perf", "runner/layers", "runner/pages", "runner/crash", "runner/chaos", "runner/mutants",
			"runner/clients", "runner/conformance", "runner/edges", "runner/serverless", "runner/replica", "runner/soak", "runner/gotests",
		}},
	}
}

// exclusive holds trees that only these rooms may import.
func exclusive() map[string][]string {
	return map[string][]string{
		"github.com/tetratelabs/wazero":     {"core/pglite/..."},
		"cloud.google.com/go/storage":       {"core/store/gcs"},
		"github.com/fsouza/fake-gcs-server": {"faults/...", "cloud/pgserve"}, // -store fake-gcs
	}
}

// listed is go list's description of a package.
type listed struct {
	ImportPath string
	Name       string
	Standard   bool
	Imports    []string
	Deps       []string
}

// goList returns the packages of the module, or with -deps also everything that they need.
func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Name,Standard,Imports,Deps"}, args...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// fits reports whether the path equals the pattern, or is below it if the pattern ends in /... .
func fits(pattern, path string) bool {
	tree, isTree := strings.CutSuffix(pattern, "/...")
	return path == tree || isTree && strings.HasPrefix(path, tree+"/")
}

// roomOf finds a package's row.
func roomOf(table []room, path string) (room, bool) {
	var best room
	for _, r := range table {
		if fits(r.path, path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

// violations returns the imports of the packages that the table does not allow. standard
// holds the packages of the standard library.
func violations(table []room, packages []listed, standard map[string]bool) []string {
	var found []string
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		r, ok := roomOf(table, name)
		if !ok {
			found = append(found, name+" has no row in the import table: add one here and in ARCHITECTURE.md")
			continue
		}
		for _, imported := range p.Imports {
			own, isOwn := strings.CutPrefix(imported, module+"/")
			switch {
			case standard[imported] || imported == "C":
			case isOwn && slices.ContainsFunc(r.own, func(pattern string) bool { return fits(pattern, own) }):
			case !isOwn && slices.ContainsFunc(r.others, func(tree string) bool { return fits(tree+"/...", imported) }):
			default:
				found = append(found, name+" may not import "+imported)
			}
			if imported == "C" {
				found = append(found, name+" uses cgo")
			}
			for tree, owners := range exclusive() {
				if fits(tree+"/...", imported) && !slices.ContainsFunc(owners, func(o string) bool { return fits(o, name) }) {
					found = append(found, name+" imports "+imported+", which only "+strings.Join(owners, " and ")+" may")
				}
			}
		}
	}
	return found
}

func standardLibrary(t *testing.T) map[string]bool {
	t.Helper()
	standard := map[string]bool{}
	for _, p := range goList(t, "std") {
		standard[p.ImportPath] = true
	}
	return standard
}

func TestImportTable(t *testing.T) {
	packages := goList(t, "./...")
	if len(packages) < 10 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, v := range violations(rooms(), packages, standardLibrary(t)) {
		t.Error(v)
	}
	for _, r := range rooms() {
		if !slices.ContainsFunc(packages, func(p listed) bool { return fits(r.path, strings.TrimPrefix(p.ImportPath, module+"/")) }) {
			t.Errorf("the import table has a row for %s, which is not there", r.path)
		}
	}
}

// What is delivered must link without the code that breaks it and judges it: the engine as a
// library, and every program of cloud/ except those for experiments: the Cloud Run emulator, and the one that reads a bill.
func TestProductLinksWithoutFaultsAndRunner(t *testing.T) {
	checked := 0
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		isProgram := p.Name == "main" && fits("cloud/...", name) && !fits("cloud/runemu/...", name) && name != "cloud/bill"
		if !isProgram && !fits("core/...", name) && p.ImportPath != module {
			continue
		}
		checked++
		for _, dep := range p.Deps {
			own, isOwn := strings.CutPrefix(dep, module+"/")
			for _, pattern := range []string{"faults/...", "runner/...", "reports", "ci", "scenarios"} {
				if isOwn && fits(pattern, own) {
					t.Errorf("%s links %s", name, dep)
				}
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d packages were checked", checked)
	}
}

// The table must catch each kind of violation.
func TestImportTableCatches(t *testing.T) {
	standard := map[string]bool{"fmt": true}
	for _, tt := range []struct{ name, imported, want string }{
		{"core/clock", "fmt", ""},
		{"core/engine", module + "/core/base", ""},
		{"core/engine", module + "/faults/gcsfront", "core/engine may not import"},
		{"core/memfs", module + "/core/store", "core/memfs may not import"},
		{"core/memfs", "github.com/oklog/ulid/v2", "core/memfs may not import"},
		{"core/pglite/internal/x", "github.com/tetratelabs/wazero/api", ""},
		{"core/base", "github.com/tetratelabs/wazero", "which only core/pglite/... may"},
		{"runner/bench", "cloud.google.com/go/storage", "which only core/store/gcs may"},
		{"runner/crash", module + "/runner/registry", "runner/crash may not import"},
		{"runner/crash", module + "/runner/chaos", "runner/crash may not import"},
		{"reports", module + "/runner/node", "reports may not import"},
		{"core/novelty", "fmt", "has no row in the import table"},
		{"core/memfs", "C", "uses cgo"},
	} {
		got := violations(rooms(), []listed{{ImportPath: module + "/" + tt.name, Imports: []string{tt.imported}}}, standard)
		if tt.want == "" && len(got) > 0 || tt.want != "" && !strings.Contains(strings.Join(got, "; "), tt.want) {
			t.Errorf("%s imports %s: %q, want %q", tt.name, tt.imported, got, tt.want)
		}
	}
}
