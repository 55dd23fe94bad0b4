package main

import (
	"fmt"
	"testing"

	"blobpglite/faults/gcsfront"
)

// TestOneRefusedRequestCutsNobody: whatever the service answers to one write of the log, the clients keep their session.
func TestOneRefusedRequestCutsNobody(t *testing.T) {
	t.Parallel()
	answers := []gcsfront.Rule{
		{Status: 401, Reason: "authError"}, {Status: 403, Reason: "userRateLimitExceeded"}, {Status: 403, Reason: "forbidden"},
		{Status: 409, Reason: "conflict"}, {Status: 400, Reason: "invalid"}, {Status: 404, Reason: "notFound"}, {Status: 408},
		{Status: 413, Reason: "uploadTooLarge"}, {Status: 429, Reason: "rateLimitExceeded"}, {Status: 502, Form: gcsfront.Bare}, {Status: 503, Reason: "backendError"},
	}
	const apart = 4 // requests; the fence and the first commit go before
	for i := range answers {
		r := &answers[i]
		r.Op, r.KeyClass, r.Phase, r.Do, r.Nth = gcsfront.OpPut, "wal", gcsfront.Before, gcsfront.Refuse, apart*(i+1)
	}
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{"bucket"}, Rules: answers})
	if err != nil {
		t.Fatal(err)
	}
	base, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c := start(t, "-bucket", "gs://bucket/p", "-endpoint", base)
	conn := c.connect(t)
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE t (a int)"); err != nil {
		t.Fatal(err)
	}
	commits := apart * (len(answers) + 2)
	for n := range commits {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO t VALUES (%d)", n)); err != nil {
			t.Fatalf("commit %d: %v", n, err)
		}
	}
	for _, f := range front.Fired() {
		if f.Fired != 1 {
			t.Errorf("%s: struck %d times", f.Rule, f.Fired)
		}
	}
	var rows int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&rows); err != nil || rows != commits {
		t.Errorf("%d rows of %d: %v", rows, commits, err)
	}
}
