package pglite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/wasmbin"
)

// lent makes a folder with a small compiled module and its outline lent.
func lent(t *testing.T) (dir string, outline []byte) {
	t.Helper()
	dir = t.TempDir()
	outline, err := wasmbin.Outline(smallModule())
	if err != nil {
		t.Fatal(err)
	}
	lend(t, dir, outline)
	return dir, outline
}

func lend(t *testing.T, dir string, outline []byte) {
	t.Helper()
	c := openCache(t, dir)
	if _, _, err := c.compile(t.Context(), "it", smallModule()); err != nil {
		t.Fatal(err)
	}
	if err := c.lend(t.Context(), smallModule(), outline); err != nil {
		t.Fatal(err)
	}
}

// borrowed loads the outline as a process of its own, and runs it.
func borrowed(t *testing.T, dir string, outline []byte) error {
	t.Helper()
	c := openCache(t, dir)
	compiled, err := c.borrow(t.Context(), outline)
	if err != nil {
		return err
	}
	mod, err := c.runtime.InstantiateModule(t.Context(), compiled, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mod.ExportedFunction("grow").Call(t.Context(), 0); err != nil || got[0] != 0 {
		t.Fatalf("it runs otherwise: %v, %v", got, err)
	}
	return nil
}

// listing returns a folder's files with their content.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		all[name] = fmt.Sprintf("%d bytes, %v, %v", info.Size(), info.ModTime(), info.Mode())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLoans: a loan that is truncated anywhere, has any bit flipped, names another entry or is missing is not used; nothing is compiled for
// it, and it can be noted again.
func TestLoans(t *testing.T) {
	dir, outline := lent(t)
	if err := borrowed(t, dir, outline); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, loansDir, "*"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	path, whole := paths[0], read(t, paths[0])
	entry, _ := entryOf(t, dir)
	code := read(t, entry)
	refuse := func(what string, match error) {
		t.Helper()
		before := listing(t, dir)
		if err := borrowed(t, dir, outline); err == nil || match != nil && !errors.Is(err, match) {
			t.Errorf("%s: %v", what, err)
		}
		if after := listing(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: the folder was %v and is %v", what, before, after)
		}
	}
	for keep := range whole {
		put(t, path, whole[:keep])
		refuse("cut off", errDamaged)
	}
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		put(t, path, b)
		refuse("a bit flipped", errDamaged)
	}
	body := whole[:bytes.IndexByte(whole, '\n')+1]
	put(t, path, withSum(bytes.Replace(body, []byte("wazero-"), []byte("../zero-"), 1)))
	refuse("an entry outside", errDamaged)
	put(t, path, withSum(append([]byte("00"), body[2:]...)))
	refuse("of another processor", nil)
	put(t, path, bytes.Repeat([]byte("x"), maxSums+1))
	refuse("too long", errDamaged)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refuse("gone", errNoLoan)
	other := bytes.Replace(smallModule(), []byte("grow"), []byte("gros"), 1)
	if other, err = wasmbin.Outline(other); err != nil {
		t.Fatal(err)
	}
	if err := borrowed(t, dir, other); !errors.Is(err, errNoLoan) {
		t.Errorf("an outline with another bit: %v", err)
	}
	lend(t, dir, outline)
	if err := borrowed(t, dir, outline); err != nil || !bytes.Equal(read(t, path), whole) {
		t.Errorf("noted again: %v", err)
	}
	put(t, entry, code[:len(code)-1])
	refuse("the entry cut off", nil)
	if err := os.Remove(entry); err != nil {
		t.Fatal(err)
	}
	refuse("the entry gone", fs.ErrNotExist)
}

// TestLoansOfProcessors: noting a loan keeps those of other processors whose entries exist.
func TestLoansOfProcessors(t *testing.T) {
	dir, outline := lent(t)
	c := openCache(t, dir)
	path := c.loanPath(outline)
	body, _, _ := bytes.Cut(read(t, path), []byte("\n"))
	own := string(body) + "\n"
	other := strings.Repeat("5", entryDigits) + own[entryDigits:]
	gone := strings.Repeat("6", entryDigits) + strings.Replace(own, "-linux/", "-linux/6", 1)[entryDigits:]
	put(t, path, withSum([]byte(other+gone+own)))
	if err := borrowed(t, dir, outline); err != nil {
		t.Error(err)
	}
	lend(t, dir, outline)
	if got := string(read(t, path)); got != string(withSum([]byte(own+other))) {
		t.Errorf("noted: %s", got)
	}
}

// TestLoansOfSameShape: modules that differ only in their code, such as PostgreSQL with and without bounds checks, have an outline and a
// loan each, and never run each other's code.
func TestLoansOfSameShape(t *testing.T) {
	dir := t.TempDir()
	seven := slices.Concat(smallModule()[:len(smallModule())-13], []byte{10, 6, 1, 4, 0, 0x41, 7, 0x0b}) // (func (result i32) (i32.const 7))
	modules := map[uint64][]byte{0: smallModule(), 7: seven}
	outlines := map[uint64][]byte{}
	for want, bin := range modules {
		outline, err := wasmbin.Outline(bin)
		if err != nil {
			t.Fatal(err)
		}
		c := openCache(t, dir)
		if _, _, err := c.compile(t.Context(), "it", bin); err != nil {
			t.Fatal(err)
		}
		if err := c.lend(t.Context(), bin, outline); err != nil {
			t.Fatal(err)
		}
		outlines[want] = outline
	}
	if bytes.Equal(outlines[0], outlines[7]) || len(outlines[0]) != len(outlines[7]) {
		t.Error("the outlines are the same, or of another shape")
	}
	for want, outline := range outlines {
		c := openCache(t, dir)
		compiled, err := c.borrow(t.Context(), outline)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := c.runtime.InstantiateModule(t.Context(), compiled, wazero.NewModuleConfig())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := mod.ExportedFunction("grow").Call(t.Context(), 0); err != nil || got[0] != want {
			t.Errorf("%v, %v; want %d", got, err, want)
		}
		if err := c.lend(t.Context(), modules[7-want], outline); err == nil {
			t.Error("a module was lent to another one's outline")
		}
	}
}

// TestOutlineOfAnotherBuild: an outline under PostgreSQL's name that belongs to another module than the one there is made again with that
// one.
func TestOutlineOfAnotherBuild(t *testing.T) {
	dir := copyOfCache(t)
	rt, _ := wake(t, dir)
	path := filepath.Join(dir, filepath.Base(testRuntime(t).assets.Dir)+".derived", rt.outlineName())
	whole := read(t, path)
	b := bytes.Clone(whole)
	b[len(b)-1] ^= 1
	put(t, path, b)
	put(t, path+".sum", fmt.Appendf(nil, "%d %x\n", len(b), sha256.Sum256(b)))
	if rt, steps := wake(t, dir); rt.Cold() || !slices.Contains(steps, "loading pglite") {
		t.Errorf("compiled %v: %q", rt.Cold(), steps)
	}
	if !bytes.Equal(read(t, path), whole) {
		t.Error("it was not drawn anew")
	}
}

// wake makes a runtime and takes a template, and returns what was reported during that. It does not start PostgreSQL.
func wake(t testing.TB, dir string) (rt *Runtime, steps []string) {
	t.Helper()
	rt, err := NewRuntime(t.Context(), Options{CacheDir: dir, AssetsFrom: testRuntime(t).assets.Dir, Progress: func(step string, _, _ int64) {
		steps = append(steps, step)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := rt.Template(t.Context(), memfs.Options{}); err != nil {
		t.Fatal(err)
	}
	return rt, steps
}

// fresh returns a new database of a runtime, removed at the end of the test.
func fresh(t testing.TB, rt *Runtime) *server {
	t.Helper()
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := tryStart(t, rt, ClusterOptions{Data: data}, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// works fails if a runtime's PostgreSQL does not work.
func works(t testing.TB, rt *Runtime) {
	t.Helper()
	in := fresh(t, rt)
	want(t, in, "SELECT 5", "5")
	in.Kill()
}

func told(steps []string, prefix string) bool {
	return slices.ContainsFunc(steps, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// codeOf returns the compilation of PostgreSQL in a copy of the cache.
func codeOf(t testing.TB, dir string) string {
	t.Helper()
	c := testRuntime(t).compilations
	outline, err := testRuntime(t).assets.ReadDerived(testRuntime(t).outlineName())
	if err != nil {
		t.Fatal(err)
	}
	loans, err := (&compilations{dir: compiledIn(dir)}).readLoans(read(t, c.loanPath(outline)))
	if err != nil {
		t.Fatal(err)
	}
	return loans[0].Path
}

// TestWakeWritesNothing: with everything in place, PostgreSQL is loaded by its outline, and nothing is written: the cache may be read-only.
func TestWakeWritesNothing(t *testing.T) {
	dir := copyOfCache(t)
	before := listing(t, dir)
	rt, steps := wake(t, dir)
	works(t, rt)
	if rt.Cold() || told(steps, "loading pglite in full") || !told(steps, "loading pglite") {
		t.Errorf("compiled %v: %q", rt.Cold(), steps)
	}
	if after := listing(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the cache was %v and is %v", before, after)
	}
}

// TestWakeWithoutOutline: a fault in an outline, the data or a loan costs time: the module itself is loaded, nothing is compiled, and the
// next process finds it repaired.
func TestWakeWithoutOutline(t *testing.T) {
	dir := copyOfCache(t)
	for _, c := range []struct {
		name, pattern string
		damage        func(name string)
	}{
		{"a bit of the outline", "*.outline.wasm", func(name string) { flipByte(t, name) }},
		{"the outline cut off", "*.outline.wasm", func(name string) { truncateFile(t, name, 1000) }},
		{"a bit of the data", "*.data.wasm", func(name string) { flipByte(t, name) }},
		{"the data gone", "*.data.wasm", func(name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}},
		{"a bit of the loan", "loans/*", func(name string) { flipByte(t, name) }},
	} {
		folder := filepath.Join(dir, filepath.Base(testRuntime(t).assets.Dir)+".derived")
		if loan, ok := strings.CutPrefix(c.pattern, "loans/"); ok {
			folder, c.pattern = filepath.Join(compiledIn(dir), loansDir), loan
		}
		each(t, folder, c.pattern, c.damage)
		rt, steps := wake(t, dir)
		if rt.Cold() {
			t.Errorf("%s: it was compiled: %q", c.name, steps)
		}
		works(t, rt)
		if rt, steps := wake(t, dir); rt.Cold() || slices.Contains(steps, "rewriting pglite") || told(steps, "loading pglite in full") {
			t.Errorf("%s, the next time: compiled %v: %q", c.name, rt.Cold(), steps)
		}
	}
}

// TestWakeOnDamagedCode: after a flipped bit in PostgreSQL's code the module is compiled again, once.
func TestWakeOnDamagedCode(t *testing.T) {
	dir := copyOfCache(t)
	flipByte(t, codeOf(t, dir))
	rt, steps := wake(t, dir)
	if !rt.Cold() || !told(steps, "loading pglite in full") || !told(steps, "the compilation of pglite in the cache is damaged") {
		t.Errorf("compiled %v: %q", rt.Cold(), steps)
	}
	works(t, rt)
	if rt, steps := wake(t, dir); rt.Cold() || told(steps, "loading pglite in full") {
		t.Errorf("the next time: compiled %v: %q", rt.Cold(), steps)
	}
}

// TestCacheDeletedMeanwhile: a runtime whose cache was deleted continues with everything that it has loaded, and opens and compiles the
// rest for itself.
func TestCacheDeletedMeanwhile(t *testing.T) {
	dir := copyOfCache(t)
	rt, _ := wake(t, dir)
	works(t, rt)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	works(t, rt)
	want(t, fresh(t, rt), "CREATE EXTENSION hstore; DO $$ BEGIN PERFORM 1; END $$; SELECT 'a=>7'::hstore -> 'a'", "7")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cache is there again: %v", err)
	}
}

// TestSetUpTogether: two processes that make the same outline concurrently leave one that can be loaded at any moment.
func TestSetUpTogether(t *testing.T) {
	dir, outline := lent(t)
	var all sync.WaitGroup
	for range 2 {
		c := openCache(t, dir)
		all.Go(func() {
			for range 20 {
				compiled, _, err := c.compile(context.Background(), "it", smallModule())
				if err == nil {
					err = c.lend(context.Background(), smallModule(), outline)
				}
				if err == nil {
					err = compiled.Close(context.Background())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if err := borrowed(t, dir, outline); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if err := borrowed(t, dir, outline); err != nil {
		t.Error(err)
	}
}

// flipIn flips a bit of a file within an image.
func flipIn(t testing.TB, dir, image string, content []byte) {
	t.Helper()
	each(t, dir, image, func(name string) {
		b := read(t, name)
		at := bytes.Index(b, content)
		if at < 0 || len(content) == 0 {
			t.Fatalf("%s does not hold it", name)
		}
		b[at+len(content)/2] ^= 4
		put(t, name, b)
	})
}

// TestDamagedImages: an image whose size or index differs is made again immediately; one in which a file has other bytes reports that when
// the file is opened, and the next process makes it again.
func TestDamagedImages(t *testing.T) {
	dir := copyOfCache(t)
	for _, c := range []struct{ pattern, step string }{
		{installationName(), "unpacking the installation"}, {templateName(), "making the template database"},
	} {
		for how, damage := range map[string]func(name string){
			"cut off": func(name string) { truncateFile(t, name, 5000) },
			"a bit of the index": func(name string) {
				b := read(t, name)
				b[1000] ^= 1
				put(t, name, b)
			},
			"gone": func(name string) {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			},
		} {
			each(t, dir, c.pattern, damage)
			rt, steps := wake(t, dir)
			if !told(steps, c.step) {
				t.Errorf("%s, %s: %q", c.pattern, how, steps)
			}
			works(t, rt)
		}
	}
	zones := "/pglite/share/postgresql/timezonesets/Default"
	content, err := testRuntime(t).installed().ReadFile(zones)
	if err != nil {
		t.Fatal(err)
	}
	flipIn(t, dir, installationName(), content)
	rt, _ := wake(t, dir)
	if err := doesNotStart(t, rt); !strings.Contains(err.Error(), zones) || !strings.Contains(err.Error(), installationName()) || !strings.Contains(err.Error(), "delete that file") {
		t.Errorf("it starts, or says something else: %v", err)
	}
	rt, steps := wake(t, dir)
	if !told(steps, "unpacking the installation") {
		t.Errorf("the next time: %q", steps)
	}
	works(t, rt)
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err == nil {
		content, err = data.ReadFile("/global/pg_control")
	}
	if err != nil {
		t.Fatal(err)
	}
	flipIn(t, dir, templateName(), content)
	rt, _ = wake(t, dir)
	if err := doesNotStart(t, rt); !strings.Contains(err.Error(), "pg_control") || !strings.Contains(err.Error(), templateName()) {
		t.Errorf("it starts, or says something else: %v", err)
	}
	rt, steps = wake(t, dir)
	if !told(steps, "making the template database") {
		t.Errorf("the next time: %q", steps)
	}
	works(t, rt)
}

// doesNotStart returns the error of a start that fails.
func doesNotStart(t testing.TB, rt *Runtime) error {
	t.Helper()
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.StartCluster(t.Context(), ClusterOptions{Data: data})
	if err == nil {
		c.Kill()
		t.Fatal("it starts")
	}
	return err
}
