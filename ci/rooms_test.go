package main

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// architecture reads ARCHITECTURE.md.
func architecture(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var quoted = regexp.MustCompile("`([^`]+)`")

// shown is a row of the table of rooms in ARCHITECTURE.md.
type shown struct {
	rooms   []string // as packages of the module; a trailing * is all below
	imports string   // the last column
}

// table reads the table of rooms. A name without a folder has the folder of the one before it.
func table(text string) (rows []shown) {
	_, text, _ = strings.Cut(text, "\n| room | purpose | may import |\n")
	for line := range strings.Lines(text) {
		columns := strings.Split(strings.Trim(line, "|\n"), " | ")
		if !strings.HasPrefix(line, "|") {
			return rows
		}
		if len(columns) != 3 {
			continue
		}
		row := shown{imports: strings.TrimSpace(columns[2])}
		for _, m := range quoted.FindAllStringSubmatch(columns[0], -1) {
			name := m[1]
			if last := len(row.rooms) - 1; last >= 0 && isRoot(name) {
				name = path.Join(path.Dir(row.rooms[last]), name)
			}
			row.rooms = append(row.rooms, name)
		}
		rows = append(rows, row)
	}
	return rows
}

// isRoot reports whether a name is not below another one's folder.
func isRoot(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return !slices.Contains([]string{"core", "cloud", "faults", "runner", "reports", "ci", "scenarios", module}, top)
}

// names returns what a column may call a pattern: store for core/store, pgsuite/isolation for runner/pgsuite/isolation, core for core/... .
func names(pattern string) (all []string) {
	name := strings.TrimSuffix(pattern, "/...")
	for all = []string{name}; ; all = append(all, name) {
		_, rest, found := strings.Cut(name, "/")
		if name = rest; !found {
			return all
		}
	}
}

// differences compares the table of ARCHITECTURE.md with the one that is checked.
func differences(rows []shown, rooms []room) (found []string) {
	covers := func(row shown, r room) bool {
		return slices.ContainsFunc(row.rooms, func(name string) bool {
			tree, all := strings.CutSuffix(name, "/*")
			return strings.TrimSuffix(r.path, "/...") == name || all && fits(tree+"/...", strings.TrimSuffix(r.path, "/..."))
		})
	}
	prose := []string{"std", "nothing", "as", "the", "verbs", "besides", "what", "each", "drives"}
	word := regexp.MustCompile(`[a-z][a-z0-9/]*`)
	common := experiments()[0].own // which rows with "as bench" also have
	for _, r := range rooms {
		at := slices.IndexFunc(rows, func(row shown) bool { return covers(row, r) })
		if at < 0 {
			found = append(found, r.path+" has no row")
			continue
		}
		said := word.FindAllString(rows[at].imports, -1)
		for _, own := range r.own {
			asBench := slices.Contains(said, "as") && slices.Contains(common, own)
			itself := fits(r.path, strings.TrimSuffix(own, "/..."))
			theVerbs := slices.Contains(said, "verbs") && slices.ContainsFunc(experiments(), func(v room) bool { return v.path == own })
			if !asBench && !itself && !theVerbs && !slices.ContainsFunc(names(own), func(n string) bool { return slices.Contains(said, n) }) {
				found = append(found, r.path+" may import "+own+", and its row does not say so: "+rows[at].imports)
			}
		}
	}
	for _, row := range rows {
		for _, said := range word.FindAllString(row.imports, -1) {
			known := slices.Contains(prose, said) || slices.ContainsFunc(row.rooms, func(name string) bool { return path.Base(name) == said })
			for _, name := range row.rooms {
				r, _ := roomOf(rooms, strings.Replace(name, "/*", "/x", 1))
				known = known || slices.ContainsFunc(r.own, func(own string) bool { return slices.Contains(names(own), said) })
			}
			if !known {
				found = append(found, strings.Join(row.rooms, ", ")+" may not import "+said)
			}
		}
		for _, name := range row.rooms {
			if name = strings.TrimSuffix(name, "/*"); !slices.ContainsFunc(rooms, func(r room) bool { return fits(r.path, name) || fits(name+"/...", r.path) }) {
				found = append(found, name+" is a row, and no room")
			}
		}
	}
	return found
}

// drawn returns the arrows of the picture of the runner: which room imports which.
func drawn(text string) map[string][]string {
	_, text, _ = strings.Cut(text, "\nThe runner, from the list down; arrows are imports:\n\n")
	picture, _, _ := strings.Cut(text, "\n\n")
	arrows := map[string][]string{}
	name := regexp.MustCompile(`[a-z]+`)
	var all []string // the verbs, whose lines meet on the right
	var after []string
	for line := range strings.Lines(picture) {
		left, right, meets := strings.Cut(line, "┼")
		from := []string{"registry"}
		for _, part := range strings.Split(left, "►") {
			to := name.FindAllString(part, -1)
			if len(to) == 0 || to[0] == "registry" {
				continue
			}
			for _, f := range from {
				arrows[f] = append(arrows[f], to...)
			}
			all, from = append(all, to...), to
		}
		if meets {
			after = strings.Split(right, "►")
		}
	}
	for _, part := range after {
		if to := name.FindAllString(part, -1); len(to) > 0 {
			for _, f := range all {
				arrows[f] = append(arrows[f], to...)
			}
			all = to
		}
	}
	return arrows
}

// reaches reports whether arrows lead from one room to another.
func reaches(arrows map[string][]string, from, to string) bool {
	return slices.ContainsFunc(arrows[from], func(next string) bool { return next == to || reaches(arrows, next, to) })
}

// misdrawn compares the picture of the runner with the table of imports: what is drawn must be allowed, and what is allowed between two of its rooms
// must be drawn, if only by way of others.
func misdrawn(arrows map[string][]string, rooms []room) (found []string) {
	may := map[string][]string{}
	for _, r := range rooms {
		from := strings.TrimPrefix(strings.TrimSuffix(r.path, "/..."), "runner/")
		for _, own := range r.own {
			may[from] = append(may[from], strings.TrimPrefix(own, "runner/"))
		}
	}
	there := map[string]bool{}
	for from, list := range arrows {
		there[from] = true
		for _, to := range list {
			there[to] = true
			if !slices.Contains(may[from], to) {
				found = append(found, from+" ──► "+to+" is drawn, and not allowed")
			}
		}
	}
	for from := range arrows {
		for _, to := range may[from] {
			if there[to] && to != from && !reaches(arrows, from, to) {
				found = append(found, from+" ──► "+to+" is allowed, and not drawn")
			}
		}
	}
	for _, to := range may["registry"] {
		if !there[to] {
			found = append(found, to+" is not drawn")
		}
	}
	return found
}

// TestArchitectureShowsTheRooms: the table and the picture of ARCHITECTURE.md are those of the table that is checked.
func TestArchitectureShowsTheRooms(t *testing.T) {
	text := architecture(t)
	rows, arrows := table(text), drawn(text)
	if len(rows) < 30 || len(arrows["registry"]) < 10 {
		t.Fatalf("only %d rows of the table, %q from the registry in the picture", len(rows), arrows["registry"])
	}
	for _, d := range append(differences(rows, rooms()), misdrawn(arrows, rooms())...) {
		t.Error("ARCHITECTURE.md:", d)
	}
}

// The comparison must notice each kind of difference.
func TestArchitectureIsCompared(t *testing.T) {
	text := architecture(t)
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{"| `core/gc` |", "| `core/other` |", "core/gc has no row"},
		{"| `core/lease` | who may write, until when | store, point, clock |", "| `core/lease` | who may write, until when | store, point |", "core/lease may import core/clock"},
		{"| `core/lease` | who may write, until when | store, point, clock |", "| `core/lease` | who may write, until when | store, point, clock, gc |", "core/lease may not import gc"},
		{"crash, chaos: `cluster`; ", "", "runner/crash may import runner/cluster"},
		{"  gotests ──", "  ──", "gotests is not drawn"},
		{"chaos ──► cluster", "chaos ──► cluster, layers", "chaos ──► layers is drawn, and not allowed"},
		{"crash ──► layers, cluster", "crash ──► layers", "crash ──► cluster is allowed, and not drawn"},
	} {
		if !strings.Contains(text, tt.old) {
			t.Errorf("ARCHITECTURE.md has no %q to change", tt.old)
		}
		changed := strings.Replace(text, tt.old, tt.new, 1)
		got := strings.Join(append(differences(table(changed), rooms()), misdrawn(drawn(changed), rooms())...), "; ")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%q for %q: %q, want %q", tt.new, tt.old, got, tt.want)
		}
	}
}
