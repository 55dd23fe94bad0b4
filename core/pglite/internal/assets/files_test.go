package assets

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesAndExtensions(t *testing.T) {
	s := newFakePackage(t).set(t, createFile)
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	want := []File{{"/pglite/bin/postgres", []byte("0123"), true}, {"/pglite/a b", []byte("456789"), false}}
	checkFiles(t, files, want)
	dirs, err := s.Dirs()
	if err != nil || strings.Join(dirs, " ") != "/pglite /pglite/bin" {
		t.Errorf("dirs %q, %v", dirs, err)
	}
	if got := strings.Join(s.Extensions(), " "); got != "one two" {
		t.Errorf("extensions %q", got)
	}
	one, err := s.ExtensionFiles("one")
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, one, []File{{"/pglite/lib/postgresql/one.so", []byte("side"), true}, {"/pglite/share/one.sql", []byte("SELECT 1"), false}})
	two, err := s.ExtensionFiles("two")
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, two, []File{{"/pglite/share/two.sql", []byte("SELECT 2"), false}})
	_, err = s.ExtensionFiles("three")
	if err == nil {
		t.Fatal("an extension that is not there was read")
	}
	mustMention(t, err, "three", "one, two")
	if s.Version() != "1.2.3" || len(s.SHA256()) != 64 {
		t.Errorf("version %q, hash %q", s.Version(), s.SHA256())
	}
	for _, p := range []string{s.PGliteWasm(), s.InitdbWasm()} {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
}

func checkFiles(t *testing.T, got, want []File) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d files, want %d", len(got), len(want))
	}
	for i, w := range want {
		if got[i].Path != w.Path || string(got[i].Data) != string(w.Data) || got[i].Executable != w.Executable {
			t.Errorf("file %d: %+v, want %+v", i, got[i], w)
		}
	}
}

func TestParseFiles(t *testing.T) {
	one := func(name, start, end string) string {
		return `{filename:` + name + `,start:` + start + `,end:` + end + `}`
	}
	tests := map[string]struct {
		glue string
		want string // paths; empty: an error
	}{
		"minified":         {one(`"/a"`, "0", "4") + "," + one(`"/b/c"`, "4", "10"), "/a /b/c"},
		"pretty":           {"{ 'filename' : '/a',\n \"start\" : 0 ,\n end : 10, audio: 0 }", "/a"},
		"escapes":          {one(`"/a\"\u00e9"`, "0", "1e1"), `/a"é`},
		"single quotes":    {one(`'/it\'s "x"'`, "0", "10"), `/it's "x"`},
		"empty file":       {one(`"/a"`, "0", "0") + one(`"/b"`, "0", "10"), "/a /b"},
		"none":             {"", ""},
		"gap":              {one(`"/a"`, "0", "4") + one(`"/b"`, "5", "10"), ""},
		"overlap":          {one(`"/a"`, "0", "4") + one(`"/b"`, "3", "10"), ""},
		"ends early":       {one(`"/a"`, "0", "9"), ""},
		"ends late":        {one(`"/a"`, "0", "11"), ""},
		"backwards":        {one(`"/a"`, "0", "4") + one(`"/b"`, "4", "3"), ""},
		"fraction":         {one(`"/a"`, "0", "1.05"), ""},
		"huge":             {one(`"/a"`, "0", "1e300"), ""},
		"relative":         {one(`"a"`, "0", "10"), ""},
		"climbs":           {one(`"/a/../../b"`, "0", "10"), ""},
		"root":             {one(`"/"`, "0", "10"), ""},
		"bad escape":       {one(`"/a\q"`, "0", "10"), ""},
		"one entry hidden": {one(`"/a"`, "0", "4") + `{file:"/b",start:4,end:6}` + one(`"/c"`, "6", "10"), ""},
	}
	for name, tc := range tests {
		files, err := parseFiles([]byte(tc.glue), []byte("0123456789"))
		var paths []string
		for _, f := range files {
			paths = append(paths, f.Path)
		}
		if got := strings.Join(paths, " "); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tc.want)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v does not match ErrDamaged", name, err)
		}
	}
}

func TestParseDirs(t *testing.T) {
	tests := map[string]struct{ glue, want string }{
		"plain":    {`Module["FS_createPath"]("/","a",true,true);FS_createPath( '/a' , 'b' , true, true)`, "/a /a/b"},
		"none":     {`FS_createPath=(...args)`, ""},
		"relative": {`FS_createPath("a","b",true,true)`, ""},
		"climbs":   {`FS_createPath("/a","../../b",true,true)`, ""},
		"root":     {`FS_createPath("/","",true,true)`, ""},
	}
	for name, tc := range tests {
		dirs, err := parseDirs([]byte(tc.glue))
		if got := strings.Join(dirs, " "); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tc.want)
		}
	}
}

func TestUntarRefuses(t *testing.T) {
	tests := map[string]entry{
		"parent":   {name: "../evil", data: "x"},
		"inside":   {name: "share/../../evil", data: "x"},
		"absolute": {name: "/etc/evil", data: "x"},
		"symlink":  {name: "share/link", link: "/etc", kind: tar.TypeSymlink},
		"hardlink": {name: "share/link", link: "share/a", kind: tar.TypeLink},
		"device":   {name: "share/null", kind: tar.TypeChar},
		"folder":   {name: "../share/", kind: tar.TypeDir},
	}
	for name, e := range tests {
		_, err := untar(bytes.NewReader(tarOf(t, entry{name: "share/a", data: "fine"}, e)))
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, ErrDamaged)
		}
	}
	if _, err := untar(strings.NewReader("not zipped")); err == nil {
		t.Error("text was unpacked")
	}
	whole := tarOf(t, entry{name: "share/a", data: "fine"}, entry{name: "share", kind: tar.TypeDir})
	if files, err := untar(bytes.NewReader(whole)); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := untar(bytes.NewReader(whole[:len(whole)/2])); err == nil {
		t.Error("half an archive was unpacked")
	}
}

func TestUntarIsBounded(t *testing.T) {
	bomb := tarOf(t, entry{name: "share/zeros", data: string(make([]byte, maxExtensionBytes))})
	if _, err := untar(bytes.NewReader(bomb)); err == nil {
		t.Errorf("%d bytes unpacked to more than %d without an error", len(bomb), maxExtensionBytes)
	}
}

func TestNoticesFileIsCurrent(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "NOTICES"))
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != Notices() {
		t.Error("NOTICES at the top of the repository differs from notices.txt here: copy it there")
	}
	p := pglitePin()
	if !strings.Contains(Notices(), p.Package) || !strings.Contains(Notices(), "PGlite "+p.Version) {
		t.Errorf("notices do not name %s", p.spec())
	}
}

func FuzzParseFiles(f *testing.F) {
	f.Add([]byte(fakeGlue), []byte("0123456789"))
	f.Add([]byte(`{filename:'/\'',start:0,end:1e0}`), []byte("x"))
	f.Fuzz(func(t *testing.T, glue, data []byte) {
		if files, err := parseFiles(glue, data); err == nil {
			var all []byte
			for _, file := range files {
				all = append(all, file.Data...)
			}
			if !bytes.Equal(all, data) {
				t.Error("files do not add up to the data")
			}
		}
		if dirs, err := parseDirs(glue); err == nil && len(dirs) == 0 {
			t.Error("no folders, no error")
		}
	})
}

func FuzzUntar(f *testing.F) {
	f.Add(tarOf(f, entry{name: "share/a", data: "fine"}))
	f.Add(tarOf(f, entry{name: "../a", data: "evil"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		files, _ := untar(bytes.NewReader(archive))
		for _, file := range files {
			if !strings.HasPrefix(path.Clean(file.Path), installRoot+"/") {
				t.Errorf("%q leads out of %s", file.Path, installRoot)
			}
		}
	})
}
