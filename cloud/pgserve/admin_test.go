package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// tool is a client of the bucket, independent of this program.
func tool(t *testing.T, flags []string) *storage.BucketHandle {
	t.Helper()
	client, err := storage.NewClient(t.Context(), option.WithEndpoint(flags[3]+"/storage/v1/"), option.WithoutAuthentication(), storage.WithJSONReads())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client.Bucket("bucket")
}

// copyPrefix copies object by object, and nothing but the bytes.
func copyPrefix(t *testing.T, b *storage.BucketHandle, from, to string) int {
	t.Helper()
	n := 0
	for all := b.Objects(t.Context(), &storage.Query{Prefix: from}); ; n++ {
		a, err := all.Next()
		if err == iterator.Done {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.Object(a.Name).NewReader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w := b.Object(to + strings.TrimPrefix(a.Name, from)).NewWriter(t.Context())
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// ready says whether the database opens.
func (c *child) ready(t *testing.T) (bool, string) {
	t.Helper()
	answer, err := http.Get("http://" + c.http + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode == http.StatusOK, string(body)
}

// random9 fills a table with some ten megabytes that cannot be compressed, in one transaction: a record in parts.
const random9 = "INSERT INTO t SELECT g, sha512(g::text::bytea) || sha512((g + 1000000)::text::bytea) FROM generate_series(1, 60000) g"

// TestACopyLivesOn: a database that some tool copied object by object, without metadata, survives its collection and its next openings
// completely.
func TestACopyLivesOn(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	// Nothing is flushed until the end, so it leaves as one record, whatever else the machine does.
	c := start(t, append(bucket, "-restore-budget", "1h", "-durability", "sleep", "-idle-flush", "1h")...)
	c.query(t, "CREATE TABLE t (a int, b bytea)")
	c.query(t, random9)
	want := c.query(t, "SELECT count(*) || md5(string_agg(b, '' ORDER BY a, b)) FROM t")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if !slices.ContainsFunc(objects(t, bucket, "p"), func(key string) bool { return strings.HasPrefix(key, "part/") }) {
		t.Fatal("no record is in parts: the test shows nothing")
	}
	b := tool(t, bucket)
	if n := copyPrefix(t, b, "p/", "q/"); n == 0 {
		t.Fatal("nothing was copied")
	}
	copied := on(bucket, "q")
	for range 2 {
		if text := admin(t, 0, append([]string{"gc"}, copied...)...); !strings.Contains(text, " 0 parts\nlog ") {
			t.Errorf("collected: %s", text)
		}
		if text := admin(t, 0, append([]string{"verify"}, copied...)...); !strings.Contains(text, "\nsound") {
			t.Error(text)
		}
	}
	c = start(t, copied...)
	if got := c.query(t, "SELECT count(*) || md5(string_agg(b, '' ORDER BY a, b)) FROM t"); got != want {
		t.Errorf("the copy holds %s, the original %s", got, want)
	}
}

// TestALostManifest: no server makes a new database over the old one; verify says what is there, and adopt continues with it.
func TestALostManifest(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	c := start(t, bucket...)
	c.query(t, "CREATE TABLE t (a int)")
	c.query(t, "INSERT INTO t VALUES (1)")
	c.kill()
	if text := admin(t, 1, append([]string{"adopt"}, bucket...)...); !strings.Contains(text, "has its manifest") {
		t.Error(text)
	}
	if err := tool(t, bucket).Object("p/manifest").Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := objects(t, bucket, "p")
	c = start(t, bucket...)
	if ok, text := c.ready(t); ok {
		t.Errorf("it opened: %s", text)
	}
	c.kill()
	if log := c.log.String(); !strings.Contains(log, "pgserve adopt") {
		t.Errorf("the log does not say what to do: %s", log)
	}
	same := func(objects []string) []string {
		return slices.DeleteFunc(objects, func(key string) bool { return strings.HasPrefix(key, "lease") })
	}
	if got := same(objects(t, bucket, "p")); !slices.Equal(got, same(before)) {
		t.Errorf("a refused start changed %v to %v", before, got)
	}
	if text := admin(t, 1, append([]string{"verify"}, bucket...)...); !strings.Contains(text, "up to record 1,") || !strings.Contains(text, "pgserve adopt") {
		t.Error(text)
	}
	if text := admin(t, 1, append([]string{"status"}, bucket...)...); !strings.Contains(text, "pgserve verify") {
		t.Error(text)
	}
	if text := admin(t, 1, append([]string{"verify", "-json"}, bucket...)...); !strings.Contains(text, `"sound": false`) || !strings.Contains(text, `"up_to_record": 1,`) {
		t.Errorf("verify -json: %s", text)
	}
	if text := admin(t, 0, append([]string{"adopt", "-retain", "24h"}, bucket...)...); !strings.Contains(text, "adopted") {
		t.Error(text)
	}
	if text := admin(t, 0, append([]string{"verify"}, bucket...)...); !strings.Contains(text, "\nsound") {
		t.Error(text)
	}
	if text := admin(t, 0, append([]string{"status"}, bucket...)...); !strings.Contains(text, "the last 24h0m0s") {
		t.Error(text)
	}
	c = start(t, bucket...)
	if got := c.query(t, "SELECT sum(a)::int FROM t"); got != "1" {
		t.Errorf("after the adoption: %s", got)
	}
	for _, text := range []string{admin(t, 1, append([]string{"verify"}, on(bucket, "nothing")...)...), admin(t, 1, append([]string{"adopt"}, on(bucket, "nothing")...)...)} {
		if !strings.Contains(text, "gs://bucket/nothing") || strings.Contains(text, "lost") {
			t.Error(text)
		}
	}
}

// TestNestedPrefixes: a server makes no database within another one's prefix, nor around it, and a damaged lease stops no one.
func TestNestedPrefixes(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	bucket[1] = "gs://bucket/a/p"
	c := start(t, bucket...)
	c.query(t, "CREATE TABLE t (a int)")
	c.query(t, "INSERT INTO t VALUES (1)")
	c.kill()
	for prefix, says := range map[string]string{
		"a/p/wal": "inside another", "a/p/base/3-x": "inside another", "a/p/part/3-x": "inside another", "a": "not empty",
	} {
		inner := start(t, on(bucket, prefix)...)
		if ok, text := inner.ready(t); ok {
			t.Errorf("%s opened: %s", prefix, text)
		}
		inner.kill()
		if log := inner.log.String(); !strings.Contains(log, says) {
			t.Errorf("%s: the log does not say %q: %s", prefix, says, log)
		}
		if text := admin(t, 1, append([]string{"branch", "gs://bucket/" + prefix}, bucket...)...); !strings.Contains(text, "contain one another") {
			t.Errorf("branch to %s: %s", prefix, text)
		}
	}
	w := tool(t, bucket).Object("a/p/lease").NewWriter(context.Background())
	if _, err := w.Write([]byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"verify", "status"} {
		if text := admin(t, 0, append([]string{cmd}, bucket...)...); !strings.Contains(text, "the lease is damaged") {
			t.Errorf("%s: %s", cmd, text)
		}
	}
	c = start(t, bucket...)
	if got := c.query(t, "SELECT sum(a)::int FROM t"); got != "1" {
		t.Error(got)
	}
	c.kill()
	if log := c.log.String(); !strings.Contains(log, "the lease was overwritten") {
		t.Errorf("nobody was told of the lease: %s", log)
	}
}

// TestVerifyInstall: set-up leaves an unaltered installation, and says so, as verify-install does.
func TestVerifyInstall(t *testing.T) {
	for _, cmd := range []string{"set-up", "verify-install"} {
		if text := admin(t, 0, cmd); !strings.Contains(text, "sound: ") {
			t.Errorf("%s: %s", cmd, text)
		}
	}
	t.Setenv("BLOBPGLITE_CACHE", t.TempDir())
	if text := admin(t, 1, "verify-install"); !strings.Contains(text, "not available") && os.Getenv("BLOBPGLITE_ASSETS") == "" {
		t.Errorf("an empty cache: %s", text)
	}
}
