package gcsfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
)

func TestMain(m *testing.M) {
	// Started by the init function of a dependency of the emulator.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

func TestRefusesWhatItDoesNotEmulate(t *testing.T) {
	front, base := serveFront(t, Options{})
	w := wire{t, base}
	w.put("key", "body")
	list := "/storage/v1/b/" + testBucket + "/o"
	for _, tt := range []struct {
		name, method, path string
		header             []string
	}{
		{"resumable upload", http.MethodPost, "/upload/storage/v1/b/" + testBucket + "/o?uploadType=resumable&name=key", nil},
		{"upload without a type", http.MethodPost, "/upload/storage/v1/b/" + testBucket + "/o?name=key", nil},
		{"signed upload", http.MethodPut, "/" + testBucket + "/key", nil},
		{"XML read", http.MethodGet, "/" + testBucket + "/key", nil},
		{"download host", http.MethodGet, "/download/storage/v1/b/" + testBucket + "/o/key", nil},
		{"batch", http.MethodPost, "/batch/storage/v1", nil},
		{"internal", http.MethodPost, "/_internal/delete_all", nil},
		{"metageneration", http.MethodGet, objectPath("key", "?ifMetagenerationMatch=1"), nil},
		{"versions", http.MethodGet, list + "?versions=true", nil},
		{"delimiter", http.MethodGet, list + "?delimiter=%2F", nil},
		{"glob", http.MethodGet, list + "?matchGlob=*", nil},
		{"unknown parameter", http.MethodGet, objectPath("key", "?fancy=1"), nil},
		{"update", http.MethodPut, objectPath("key", ""), nil},
		{"object ACL", http.MethodGet, objectPath("key", "/acl"), nil},
		{"delete bucket", http.MethodDelete, "/storage/v1/b/" + testBucket, nil},
		{"list buckets", http.MethodGet, "/storage/v1/b", nil},
		{"method override", http.MethodPost, list, []string{"X-HTTP-Method-Override", "PATCH"}},
		{"etag condition", http.MethodGet, objectPath("key", ""), []string{"If-None-Match", "x"}},
		{"encryption key", http.MethodGet, objectPath("key", "?alt=media"), []string{"X-Goog-Encryption-Algorithm", "AES256"}},
		{"compressed request", http.MethodPost, uploadPath("key", ""), []string{"Content-Encoding", "gzip"}},
		{"predefined ACL", http.MethodPost, uploadPath("key", "&predefinedAcl=publicRead"), nil},
		{"slash not escaped", http.MethodGet, "/storage/v1/b/" + testBucket + "/o/a/b/c", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := wire{t, base}.do(tt.method, tt.path, strings.NewReader("{}"), tt.header...)
			if a.status != http.StatusNotImplemented {
				t.Errorf("status %d, want 501", a.status)
			}
		})
	}
	if body, ok := w.body("key"); !ok || body != "body" {
		t.Errorf("a refused request changed the object: %q, %v", body, ok)
	}
	if c := front.Counters(); c.ClassA != 1 || c.Delete != 0 {
		t.Errorf("refused requests were billed: %+v", c)
	}
}

func TestBadRequests(t *testing.T) {
	_, base := serveFront(t, Options{})
	for _, tt := range []struct {
		name, path, body string
		want             int
	}{
		{"condition that is no number", uploadPath("key", "&ifGenerationMatch=x"), "", http.StatusBadRequest},
		{"no name", uploadPath("", ""), "body", http.StatusBadRequest},
		{"bucket that is not there", "/upload/storage/v1/b/absent/o?uploadType=media&name=key", "body", http.StatusNotFound},
		{"multipart that is none", "/upload/storage/v1/b/" + testBucket + "/o?uploadType=multipart&name=key", "body", http.StatusBadRequest},
		{"compose without a body", objectPath("key", "/compose"), "", http.StatusBadRequest},
	} {
		if a := (wire{t, base}).do(http.MethodPost, tt.path, strings.NewReader(tt.body)); a.status != tt.want {
			t.Errorf("%s: status %d, want %d: %s", tt.name, a.status, tt.want, a.body)
		}
	}
}

// A client that gives up half way has published nothing, whether or not it had announced the length.
func TestAbortedUploadPublishesNothing(t *testing.T) {
	const uploads, half = 50, 50_000
	front, err := New(Options{Buckets: []string{testBucket}})
	if err != nil {
		t.Fatal(err)
	}
	base, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for i := range uploads {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		how := fmt.Sprintf("Content-Length: %d\r\n\r\n", 2*half)
		if i%2 == 1 {
			how = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", half)
		}
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: front\r\n%s%s", uploadPath(fmt.Sprint("aborted", i), ""), how, strings.Repeat("x", half))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	for front.Counters().Requests < uploads { // all have arrived
		if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	stop() // waits for what is in flight
	for i := range uploads {
		if w := call(front, http.MethodGet, objectPath(fmt.Sprint("aborted", i), "?alt=media"), ""); w.Code != http.StatusNotFound {
			t.Fatalf("upload %d was given up; status %d, %d bytes are stored", i, w.Code, w.Body.Len())
		}
	}
}

func TestFaultsOnTheWire(t *testing.T) {
	const body = "0123456789"
	get := func(w wire) (answer, error) {
		return w.try(w.t.Context(), http.MethodGet, objectPath("wal/7", "?alt=media"), nil)
	}
	put := func(w wire) (answer, error) {
		return w.try(w.t.Context(), http.MethodPost, uploadPath("wal/7", ""), strings.NewReader("new"))
	}
	for _, tt := range []struct {
		rule    Rule
		request func(wire) (answer, error)
		status  int
		err     error // of the client
		got     string
		stored  string
	}{
		{Rule{Op: OpPut, Phase: Before, Do: Throttle}, put, 429, nil, "", body},
		{Rule{Op: OpPut, Phase: Before, Do: Unavailable}, put, 503, nil, "", body},
		{Rule{Op: OpPut, Phase: Before, Do: Deny}, put, 403, nil, "", body},
		{Rule{Op: OpPut, Phase: Before, Do: Lose}, put, 0, io.EOF, "", body},
		{Rule{Op: OpPut, Phase: Before, Do: Reset}, put, 0, syscall.ECONNRESET, "", body},
		{Rule{Op: OpPut, Phase: After, Do: Unavailable}, put, 503, nil, "", "new"},
		{Rule{Op: OpPut, Phase: After, Do: Lose}, put, 0, io.EOF, "", "new"},
		{Rule{Op: OpPut, Phase: After, Do: Reset}, put, 0, syscall.ECONNRESET, "", "new"},
		{Rule{Op: OpGet, Phase: After, Do: Cut, N: 4}, get, 200, io.ErrUnexpectedEOF, "0123", body},
		{Rule{Op: OpGet, Phase: After, Do: Delay, Delay: time.Millisecond}, get, 200, nil, body, body},
	} {
		tt.rule.KeyClass, tt.rule.Nth = "wal", 1
		if tt.rule.Op == OpPut {
			tt.rule.Nth = 2 // the first one makes the object
		}
		t.Run(tt.rule.String(), func(t *testing.T) {
			front, base := serveFront(t, Options{Rules: []Rule{tt.rule}})
			w := wire{t, base}
			w.put("wal/7", body)
			a, err := tt.request(w)
			if !errors.Is(err, tt.err) || (err != nil) != (tt.err != nil) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if a.status != tt.status || (tt.got != "" && a.body != tt.got) {
				t.Errorf("status %d, body %q; want %d, %q", a.status, a.body, tt.status, tt.got)
			}
			if stored, _ := w.body("wal/7"); stored != tt.stored {
				t.Errorf("%q is stored, want %q", stored, tt.stored)
			}
			if fired := front.Fired()[0]; fired.Fired != 1 {
				t.Errorf("the rule fired %d times of %d, want once", fired.Fired, fired.Matched)
			}
		})
	}
}

// A reset in the middle of a body: some of it may have arrived, never all.
func TestResetInMidBody(t *testing.T) {
	const size, after = 1 << 20, 1000
	_, base := serveFront(t, Options{Rules: []Rule{{Op: OpGet, Phase: After, Every: 1, Do: Reset, N: after}}})
	w := wire{t, base}
	w.put("key", strings.Repeat("x", size))
	a, err := w.try(t.Context(), http.MethodGet, objectPath("key", "?alt=media"), nil)
	if err == nil || len(a.body) > after {
		t.Errorf("error %v and %d bytes; want an error and at most %d", err, len(a.body), after)
	}
}

func TestARuleThatNeverFiredIsSeen(t *testing.T) {
	front, base := serveFront(t, Options{Rules: []Rule{
		{Op: OpPut, KeyClass: "wal", Phase: Before, Every: 1, Do: Delay, Delay: time.Nanosecond},
		{Op: OpPut, KeyClass: "manifest", Phase: Before, Every: 1, Do: Unavailable},
		{Op: OpPut, KeyClass: "wal", Phase: After, Every: 3, Do: Lose},
		{Op: OpGet, KeyClass: "wal", Phase: After, Every: 1, Do: Cut, N: 100},
	}})
	w := wire{t, base}
	w.put("db/wal/1", "body")
	w.put("db/walnut/1", "not of the class")
	w.put("db/wal/2", "body")
	if _, ok := w.body("db/wal/1"); !ok {
		t.Error("a body shorter than the cut was cut")
	}
	want := []string{"2/2", "0/0", "0/2", "0/0"}
	for i, f := range front.Fired() {
		if got := fmt.Sprintf("%d/%d", f.Fired, f.Matched); got != want[i] {
			t.Errorf("rule %q fired/matched %s, want %s", f.Rule, got, want[i])
		}
	}
}

func TestCounters(t *testing.T) {
	front, base := serveFront(t, Options{Rules: []Rule{{Op: OpPut, KeyClass: "lost", Phase: After, Every: 1, Do: Lose}}})
	w := wire{t, base}
	w.put("key", "12345")
	_, _ = w.try(t.Context(), http.MethodPost, uploadPath("lost", ""), strings.NewReader("123")) // applied, so billed
	w.body("key")
	w.body("absent")
	w.do(http.MethodGet, objectPath("key", ""), nil)
	w.do(http.MethodGet, "/storage/v1/b/"+testBucket+"/o", nil)
	w.do(http.MethodDelete, objectPath("key", ""), nil)
	got := front.Counters()
	var want Counters
	want.ClassA, want.ClassB, want.Delete, want.BytesUp, want.BytesDown = 3, 2, 1, 8, 5
	want.Requests, want.Refused = 7, 1
	if got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestRateLimit(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	_, base := serveFront(t, Options{Rate: &Rate{PerSecond: 1, Burst: 2}, Clock: clk})
	w := wire{t, base}
	write := func(key string) int {
		return w.do(http.MethodPost, uploadPath(key, "&ifGenerationMatch=0"), strings.NewReader("")).status
	}
	for i, want := range []int{200, 412, 429, 429} {
		if got := write("key"); got != want {
			t.Errorf("write %d: status %d, want %d", i, got, want)
		}
	}
	if got := write("other"); got != http.StatusOK {
		t.Errorf("another name: status %d, want 200", got)
	}
	if got := w.do(http.MethodDelete, objectPath("key", ""), nil).status; got != http.StatusTooManyRequests {
		t.Errorf("delete: status %d, want 429", got)
	}
	if _, ok := w.body("key"); !ok {
		t.Error("a read was refused, or a refused delete applied")
	}
	clk.Advance(1500 * time.Millisecond)
	for i, want := range []int{412, 429} {
		if got := write("key"); got != want {
			t.Errorf("write %d after a rest: status %d, want %d", i, got, want)
		}
	}
}

// A client that hangs up while its upload is under way does not stop it: it is applied later.
func TestAbandonedUploadStillArrives(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	_, base := serveFront(t, Options{Clock: clk, Rules: []Rule{{Op: OpPut, Phase: Before, Nth: 1, Do: Delay, Delay: time.Hour}}})
	w := wire{t, base}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := w.try(ctx, http.MethodPost, uploadPath("key", ""), strings.NewReader("late"))
		gone <- err
	}()
	if err := clk.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the client's error is %v", err)
	}
	if _, ok := w.body("key"); ok {
		t.Fatal("the upload was applied before its delay had passed")
	}
	clk.Advance(time.Hour)
	for {
		if body, ok := w.body("key"); ok {
			if body != "late" {
				t.Fatalf("%q is stored", body)
			}
			return
		}
	}
}

func TestStopEndsWhatIsInFlight(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	front, err := New(Options{Buckets: []string{testBucket}, Clock: clk,
		Rules: []Rule{{Phase: Before, Every: 1, Do: Delay, Delay: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	base, stop, err := front.Serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := wire{t, base}.try(t.Context(), http.MethodGet, objectPath("key", ""), nil)
		ended <- err
	}()
	if err := clk.AwaitPending(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel() // as stop does
	<-ended
	stop()
	stop()
	if _, err := (wire{t, base}).try(t.Context(), http.MethodGet, objectPath("key", ""), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after stop the error is %v, want a refused connection", err)
	}
}
