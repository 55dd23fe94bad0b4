package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestFolder: a database in a folder outlives its server, killed at any time, and every maintenance command for a bucket works on the
// folder.
func TestFolder(t *testing.T) {
	t.Parallel()
	dir := "file://" + filepath.ToSlash(t.TempDir())
	at := func(name string) []string { return []string{"-bucket", dir + "/" + name, "-lease-ttl", "1s"} }
	if text := admin(t, 1, append([]string{"status"}, at("db")...)...); !strings.Contains(text, "no such folder") {
		t.Errorf("status of what is not there: %s", text)
	}
	c := start(t, at("db")...)
	c.query(t, "CREATE TABLE t (a int)")
	c.query(t, "INSERT INTO t VALUES (1), (2)")
	if text := admin(t, 0, append([]string{"status"}, at("db")...)...); !strings.Contains(text, "held by") {
		t.Error(text)
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	c = start(t, at("db")...)
	if got := c.query(t, "SELECT sum(a)::int FROM t"); got != "3" {
		t.Fatalf("after SIGKILL: %s", got)
	}
	c.query(t, "INSERT INTO t VALUES (4)")
	if text := admin(t, 0, append([]string{"dump"}, at("db")...)...); !strings.Contains(text, "COPY public.t (a) FROM stdin;\n1\n2\n4\n") {
		t.Error("the dump lacks rows:", text)
	}
	for _, inside := range []string{"db", "db/below"} {
		if text := admin(t, 1, append([]string{"branch", dir + "/" + inside}, at("db")...)...); !strings.Contains(text, "belongs to it alone") {
			t.Error(text)
		}
	}
	admin(t, 0, append([]string{"branch", dir + "/copy"}, at("db")...)...)
	tar := filepath.Join(t.TempDir(), "data.tar")
	admin(t, 0, append([]string{"restore-to", tar}, at("db")...)...)
	_ = c.cmd.Process.Kill()
	<-c.done
	for _, name := range []string{"db", "copy"} {
		if text := admin(t, 0, append([]string{"verify"}, at(name)...)...); !strings.Contains(text, "\nsound") {
			t.Error(name, text)
		}
		admin(t, 0, append([]string{"gc"}, at(name)...)...)
	}
	c = start(t, at("copy")...)
	if got := c.query(t, "SELECT sum(a)::int FROM t"); got != "7" {
		t.Fatalf("in the copy: %s", got)
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	for name, why := range map[string]string{"copy/inside": "inside another store", "": "contains other files"} {
		flags := append(at(name), "-listen", "127.0.0.1:0", "-http", "127.0.0.1:0")
		if text := admin(t, 1, flags...); !strings.Contains(text, why) {
			t.Errorf("a database in %q: %s", name, text)
		}
	}
}
