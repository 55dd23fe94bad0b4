package gcsfront

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"blobpglite/core/store"
)

// testBucket is the bucket on which the table is tried.
const testBucket = "bucket"

// reporter receives the outcome of a try: a test, or Fidelity. Fatalf does not return.
type reporter interface {
	Context() context.Context
	Helper()
	Fatalf(format string, args ...any)
}

// wire speaks the JSON API to one server, without the SDK.
type wire struct {
	t    reporter
	base string
}

// answer is a complete response.
type answer struct {
	status int
	header http.Header
	body   string
}

func (w wire) do(method, path string, body io.Reader, header ...string) answer {
	w.t.Helper()
	a, err := w.try(w.t.Context(), method, path, body, header...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (w wire) try(ctx context.Context, method, path string, body io.Reader, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.base+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

func objectPath(key, query string) string {
	return "/storage/v1/b/" + testBucket + "/o/" + url.PathEscape(key) + query
}

func uploadPath(key, query string) string {
	return "/upload/storage/v1/b/" + testBucket + "/o?uploadType=media&name=" + url.QueryEscape(key) + query
}

// put uploads and returns the generation.
func (w wire) put(key, body string) int64 {
	w.t.Helper()
	a := w.do(http.MethodPost, uploadPath(key, ""), strings.NewReader(body))
	var o struct {
		Generation string `json:"generation"`
	}
	if err := json.Unmarshal([]byte(a.body), &o); err != nil || a.status != http.StatusOK {
		w.t.Fatalf("upload %q: status %d, %v", key, a.status, err)
	}
	generation, err := strconv.ParseInt(o.Generation, 10, 64)
	if err != nil {
		w.t.Fatalf("upload %q: generation %q", key, o.Generation)
	}
	return generation
}

// body returns what is stored; "" and false if there is nothing.
func (w wire) body(key string) (string, bool) {
	w.t.Helper()
	a := w.do(http.MethodGet, objectPath(key, "?alt=media"), nil)
	return a.body, a.status == http.StatusOK
}

// lie is one thing that the bare emulator does differently from Google Cloud Storage.
type lie struct {
	name string
	real string // what the service does (documented)
	bare string // what the emulator does (measured)
	// faithful reports whether the server behaves like the service. It gets an object "key" of generation g.
	faithful func(w wire, g int64) bool
	// refused: the front does not correct it but answers 501, which faithful then also accepts.
	refused bool
}

// status is a lie about the status of one request at a stale generation; want is the service's.
func status(want int, method string, path func(stale string) string, body string) func(w wire, g int64) bool {
	return func(w wire, g int64) bool {
		return w.do(method, path(strconv.FormatInt(g-1, 10)), strings.NewReader(body)).status == want
	}
}

// lies is the table. When a new version of the emulator gets a row right, TestEmulatorLies and Fidelity report it: then the code that
// corrects it here can be deleted.
func lies() []lie {
	copyBody := ""
	composeBody := `{"sourceObjects":[{"name":"key"}],"destination":{}}`
	return []lie{
		{name: "delete at a stale generation", real: "412", bare: "deletes",
			faithful: func(w wire, g int64) bool {
				a := w.do(http.MethodDelete, objectPath("key", fmt.Sprintf("?ifGenerationMatch=%d", g-1)), nil)
				_, kept := w.body("key")
				return a.status == http.StatusPreconditionFailed && kept
			}},
		{name: "read at a stale generation", real: "412", bare: "200",
			faithful: status(412, http.MethodGet, func(g string) string { return objectPath("key", "?alt=media&ifGenerationMatch="+g) }, "")},
		{name: "read attributes at a stale generation", real: "412", bare: "200",
			faithful: status(412, http.MethodGet, func(g string) string { return objectPath("key", "?ifGenerationMatch="+g) }, "")},
		{name: "read unless the generation is the current one", real: "304", bare: "200",
			faithful: func(w wire, g int64) bool {
				return w.do(http.MethodGet, objectPath("key", fmt.Sprintf("?alt=media&ifGenerationNotMatch=%d", g)), nil).status == http.StatusNotModified
			}},
		{name: "patch at a stale generation", real: "412", bare: "patches",
			faithful: status(412, http.MethodPatch, func(g string) string { return objectPath("key", "?ifGenerationMatch="+g) }, `{"metadata":{"a":"b"}}`)},
		{name: "compose onto a stale generation", real: "412", bare: "replaces",
			faithful: status(412, http.MethodPost, func(g string) string { return objectPath("key", "/compose?ifGenerationMatch="+g) }, composeBody)},
		{name: "compose onto an object that must be absent", real: "412", bare: "replaces",
			faithful: status(412, http.MethodPost, func(string) string { return objectPath("key", "/compose?ifGenerationMatch=0") }, composeBody)},
		{name: "compose a source of a stale generation", real: "412", bare: "composes",
			faithful: func(w wire, g int64) bool {
				body := fmt.Sprintf(`{"sourceObjects":[{"name":"key","objectPreconditions":{"ifGenerationMatch":"%d"}}],"destination":{}}`, g-1)
				return w.do(http.MethodPost, objectPath("composed", "/compose"), strings.NewReader(body)).status == http.StatusPreconditionFailed
			}},
		{name: "copy onto a stale generation", real: "412", bare: "replaces",
			faithful: status(412, http.MethodPost, func(g string) string {
				return objectPath("key", "/copyTo/b/"+testBucket+"/o/key?ifGenerationMatch="+g)
			}, copyBody)},
		{name: "copy from a stale generation", real: "412", bare: "copies",
			faithful: status(412, http.MethodPost, func(g string) string {
				return objectPath("key", "/copyTo/b/"+testBucket+"/o/copy?ifSourceGenerationMatch="+g)
			}, copyBody)},
		{name: "rewrite onto an object that must be absent", real: "412", bare: "replaces",
			faithful: status(412, http.MethodPost, func(string) string {
				return objectPath("key", "/rewriteTo/b/"+testBucket+"/o/key?ifGenerationMatch=0")
			}, copyBody)},
		{name: "upload at a wrong metageneration", real: "412", bare: "replaces", refused: true,
			faithful: func(w wire, _ int64) bool {
				return w.do(http.MethodPost, uploadPath("key", "&ifMetagenerationMatch=99"), strings.NewReader("x")).status == http.StatusPreconditionFailed
			}},
		{name: "patch at a wrong metageneration", real: "412", bare: "patches", refused: true,
			faithful: func(w wire, _ int64) bool {
				return w.do(http.MethodPatch, objectPath("key", "?ifMetagenerationMatch=99"), strings.NewReader("{}")).status == http.StatusPreconditionFailed
			}},
		{name: "status query of a resumable upload", real: "308, nothing published", bare: "publishes what has arrived", refused: true,
			faithful: resumableQueryPublishesNothing},
		{name: "chunk of a resumable upload sent again", real: "not stored twice", bare: "stored twice", refused: true,
			faithful: resumableChunkIsNotDoubled},
		{name: "final chunk of a resumable upload sent again", real: "200", bare: "404", refused: true,
			faithful: resumableFinalChunkRepeats},
		{name: "page of a list without a limit", real: "1,000 objects", bare: "all",
			faithful: listPageIsBounded},
		{name: "slow upload", real: "delays nobody", bare: "holds the lock: every request waits",
			faithful: slowUploadDelaysNobody},
		{name: "status of a delete", real: "204", bare: "200",
			faithful: func(w wire, _ int64) bool {
				return w.do(http.MethodDelete, objectPath("key", ""), nil).status == http.StatusNoContent
			}},
		{name: "compose of nothing", real: "400", bare: "makes an empty object",
			faithful: func(w wire, _ int64) bool {
				return w.do(http.MethodPost, objectPath("composed", "/compose"), strings.NewReader(`{"sourceObjects":[]}`)).status == http.StatusBadRequest
			}},
		{name: "compose of an absent source", real: "404", bare: "500",
			faithful: func(w wire, _ int64) bool {
				return w.do(http.MethodPost, objectPath("composed", "/compose"), strings.NewReader(`{"sourceObjects":[{"name":"absent"}]}`)).status == http.StatusNotFound
			}},
	}
}

// startResumable begins a resumable upload and returns the path of its session; "" if that was refused.
func startResumable(w wire) string {
	w.t.Helper()
	a := w.do(http.MethodPost, "/upload/storage/v1/b/"+testBucket+"/o?uploadType=resumable&name=resumed", strings.NewReader("{}"),
		"Content-Type", "application/json")
	if a.status != http.StatusOK {
		return ""
	}
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return u.RequestURI()
}

func resumableQueryPublishesNothing(w wire, _ int64) bool {
	session := startResumable(w)
	if session == "" {
		return false
	}
	w.do(http.MethodPut, session, strings.NewReader("half"), "Content-Range", "bytes 0-3/8")
	w.do(http.MethodPut, session, nil, "Content-Range", "bytes */8")
	_, published := w.body("resumed")
	return !published
}

func resumableChunkIsNotDoubled(w wire, _ int64) bool {
	session := startResumable(w)
	if session == "" {
		return false
	}
	w.do(http.MethodPut, session, strings.NewReader("half"), "Content-Range", "bytes 0-3/8")
	w.do(http.MethodPut, session, strings.NewReader("half"), "Content-Range", "bytes 0-3/8")
	w.do(http.MethodPut, session, strings.NewReader("rest"), "Content-Range", "bytes 4-7/8")
	body, _ := w.body("resumed")
	return body == "halfrest"
}

func resumableFinalChunkRepeats(w wire, _ int64) bool {
	session := startResumable(w)
	if session == "" {
		return false
	}
	w.do(http.MethodPut, session, strings.NewReader("all"), "Content-Range", "bytes 0-2/3")
	return w.do(http.MethodPut, session, strings.NewReader("all"), "Content-Range", "bytes 0-2/3").status == http.StatusOK
}

func listPageIsBounded(w wire, _ int64) bool {
	for i := range store.PageSize {
		w.put(fmt.Sprintf("many/%04d", i), "")
	}
	var page struct {
		Items         []struct{} `json:"items"`
		NextPageToken string     `json:"nextPageToken"`
	}
	for _, limit := range []string{"", "?maxResults=5000"} {
		a := w.do(http.MethodGet, "/storage/v1/b/"+testBucket+"/o"+limit, nil)
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			w.t.Fatalf("%v", err)
		}
		if len(page.Items) != store.PageSize || page.NextPageToken == "" {
			return false
		}
	}
	return true
}

// slowUploadDelaysNobody begins an upload that does not end, and reads another object during it. The upload holds the lock if a read does
// not come back: up to 200 are tried, as the upload's first bytes may still be on their way.
func slowUploadDelaysNobody(w wire, _ int64) bool {
	const reads, patience = 200, 500 * time.Millisecond
	ctx, cancel := context.WithCancel(w.t.Context())
	body, send := io.Pipe()
	uploaded := make(chan struct{})
	go func() {
		defer close(uploaded)
		_, _ = w.try(ctx, http.MethodPost, uploadPath("slow", ""), body) // canceled below
	}()
	defer func() {
		cancel()
		_ = send.CloseWithError(errors.New("given up"))
		<-uploaded
	}()
	if _, err := send.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
		w.t.Fatalf("%v", err)
	}
	for range reads {
		limited, cancel := context.WithTimeout(ctx, patience)
		_, err := w.try(limited, http.MethodGet, objectPath("key", "?alt=media"), nil)
		cancel()
		if err != nil {
			return false
		}
	}
	return true
}
