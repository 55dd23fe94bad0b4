package edges

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// gate sits in front of the bucket and refuses requests with any status and reason, worded like Cloud Storage's.
type gate struct {
	inner http.Handler

	mu    sync.Mutex
	rules []*refusal
	ended chan struct{}
	once  sync.Once
}

// refusal is a rule. It strikes the first times requests that it fits.
type refusal struct {
	op     string // put, get, stat, list, delete; empty: any
	class  string // a part of the name; empty: any
	status int
	reason string // of the JSON error
	times  int    // how often; 0: always
	after  bool   // the request is carried out, and its answer replaced
	fired  int    // guarded by the gate's mu
}

func newGate(inner http.Handler) *gate { return &gate{inner: inner, ended: make(chan struct{})} }

func (g *gate) end() { g.once.Do(func() { close(g.ended) }) }

// refuse puts a rule in force and removes all others; nil: only the latter.
func (g *gate) refuse(r *refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = nil
	if r != nil {
		g.rules = append(g.rules, r)
	}
}

// fired is how often a rule struck.
func (g *gate) fired(r *refusal) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return r.fired
}

var nameInBody = regexp.MustCompile(`"name":\s*"([^"]+)"`)

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, name := kindOf(r)
	g.mu.Lock()
	watching := len(g.rules) > 0
	g.mu.Unlock()
	if !watching {
		g.inner.ServeHTTP(w, r)
		return
	}
	if op == "put" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if m := nameInBody.FindSubmatch(body[:min(len(body), 4096)]); name == "" && m != nil {
			name = string(m[1])
		}
	}
	hit := g.strike(op, name)
	if hit == nil {
		g.inner.ServeHTTP(w, r)
		return
	}
	if hit.after {
		g.inner.ServeHTTP(discard{http.Header{}}, r)
	}
	answer(w, hit.status, hit.reason)
}

func (g *gate) strike(op, name string) *refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.rules {
		if (r.op == "" || r.op == op) && strings.Contains(name, r.class) && (r.times == 0 || r.fired < r.times) {
			r.fired++
			return r
		}
	}
	return nil
}

// kindOf says what a request of the JSON API does, and to which object if the address says so.
func kindOf(r *http.Request) (op, name string) {
	path := r.URL.EscapedPath()
	_, object, named := strings.Cut(path, "/o/")
	name, err := url.PathUnescape(object)
	if err != nil {
		name = object
	}
	switch {
	case strings.HasPrefix(path, "/upload/"):
		return "put", r.URL.Query().Get("name")
	case r.Method == http.MethodDelete:
		return "delete", name
	case r.Method == http.MethodGet && named && r.URL.Query().Get("alt") == "media":
		return "get", name
	case r.Method == http.MethodGet && named:
		return "stat", name
	case r.Method == http.MethodGet && strings.HasSuffix(path, "/o"):
		return "list", r.URL.Query().Get("prefix")
	}
	return "other", name
}

// answer sends an error in the JSON API's form. Source: docs.cloud.google.com/storage/docs/json_api/v1/status-codes, read November 2026.
func answer(w http.ResponseWriter, status int, reason string) {
	message := fmt.Sprintf("%s (%s)", http.StatusText(status), reason)
	body, err := json.Marshal(map[string]any{"error": map[string]any{
		"code": status, "message": message, "errors": []map[string]string{{"domain": "global", "reason": reason, "message": message}},
	}})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// discard drops an answer.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// objects lists the names below a prefix, as anybody with access can.
func (t *Trial) objects(prefix string) ([]string, error) {
	var names []string
	for page := ""; ; {
		query := url.Values{"prefix": {prefix}, "pageToken": {page}}
		if page == "" {
			query.Del("pageToken")
		}
		var got struct {
			Items []struct {
				Name string `json:"name"`
			} `json:"items"`
			Next string `json:"nextPageToken"`
		}
		body, err := t.bucketRequest(http.MethodGet, "/storage/v1/b/"+Bucket+"/o?"+query.Encode(), nil)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &got); err != nil {
			return nil, fmt.Errorf("list the bucket: %w", err)
		}
		for _, o := range got.Items {
			names = append(names, o.Name)
		}
		if page = got.Next; page == "" {
			return names, nil
		}
	}
}

func (t *Trial) object(name string) ([]byte, error) {
	return t.bucketRequest(http.MethodGet, "/storage/v1/b/"+Bucket+"/o/"+url.PathEscape(name)+"?alt=media", nil)
}

// write stores an object with no metadata of its own.
func (t *Trial) write(name string, body []byte) error {
	_, err := t.bucketRequest(http.MethodPost, "/upload/storage/v1/b/"+Bucket+"/o?uploadType=media&name="+url.QueryEscape(name), body)
	return err
}

func (t *Trial) remove(name string) error {
	_, err := t.bucketRequest(http.MethodDelete, "/storage/v1/b/"+Bucket+"/o/"+url.PathEscape(name), nil)
	return err
}

// copyAll copies a prefix object by object, without metadata, as many tools do.
func (t *Trial) copyAll(from, to string) error {
	names, err := t.objects(from + "/")
	if err != nil {
		return err
	}
	for _, name := range names {
		body, err := t.object(name)
		if err != nil {
			return err
		}
		if err := t.write(to+strings.TrimPrefix(name, from), body); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trial) bucketRequest(method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequest(method, t.server.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the bucket: %w", err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err == nil && got.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %.100s: status %d: %.200s", method, path, got.StatusCode, text)
	}
	return text, err
}

// add puts a rule in force in addition to the others; drop removes it.
func (g *gate) add(r *refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = append(g.rules, r)
}

func (g *gate) drop(r *refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = slices.DeleteFunc(g.rules, func(o *refusal) bool { return o == r })
}
