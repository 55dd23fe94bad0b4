package soak

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func touch(t *testing.T, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestAFileThatIsLeftIsCounted: in the run's own folder any new file, in a shared one those with a name of ours; files that were there
// before, or are gone again, do not count.
func TestAFileThatIsLeftIsCounted(t *testing.T) {
	t.Parallel()
	own, shared := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(own, spillFolder), filepath.Join(own, tempFolder), filepath.Join(shared, "compiled")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	touch(t, own, "time")
	touch(t, shared, "blobpglite-temp-before")
	g, err := survey([]string{own}, []string{shared, filepath.Join(shared, "is-not-there")})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) leavings {
		t.Helper()
		left, err := g.left()
		if err != nil || !slices.Equal(left, want) {
			t.Errorf("left: %q, %v, want %q", left, err, want)
		}
		return leavings{files: left}
	}
	if l := check(); l.count() != 0 || l.wrong() != "" {
		t.Errorf("nothing was left, and it says %q", l.wrong())
	}
	gone := touch(t, own, tempFolder, "short-lived")
	touch(t, shared, "somebody-else's")
	sorted := touch(t, own, spillFolder, "blobpglite-temp-1")
	compiled := touch(t, shared, "compiled", "postgres.sums.7.tmp")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if l := check(sorted, compiled); l.count() != 2 || !strings.Contains(l.wrong(), "2 files, blobpglite-temp-1 first") {
		t.Errorf("two were left, and it says %d, %q", l.count(), l.wrong())
	}
}

// Whatever is left counts, of whatever kind.
func TestAllThatIsLeftCounts(t *testing.T) {
	t.Parallel()
	for what, l := range map[string]leavings{
		"1 instances": {instances: 1}, "1 processes": {processes: []string{"/proc/7/exe"}}, "1 files": {files: []string{"a"}}, "1 objects": {objects: []string{"page/1"}},
	} {
		if l.count() != 1 || !strings.Contains(l.wrong(), what) {
			t.Errorf("%s: %d, %q", what, l.count(), l.wrong())
		}
	}
}
