package gcsfront

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"blobpglite/faults/model"
)

// Op is what a request does.
type Op string

// The emulated operations, as named by rules and latencies.
const (
	OpGet     Op = "get"     // a body, whole or a range
	OpStat    Op = "stat"    // the attributes of an object
	OpPut     Op = "put"     // an upload in one request
	OpDelete  Op = "delete"  //
	OpList    Op = "list"    // one page
	OpPatch   Op = "patch"   // of metadata
	OpCompose Op = "compose" //
	OpCopy    Op = "copy"    // and rewrite
	OpBucket  Op = "bucket"  // the attributes of the bucket
)

func (o Op) mutates() bool {
	return slices.Contains([]Op{OpPut, OpDelete, OpPatch, OpCompose, OpCopy}, o)
}

// work is what the operation counts as in the model of latencies.
func (o Op) work() model.Work {
	switch o {
	case OpGet, OpStat, OpBucket:
		return model.Get
	case OpList:
		return model.List
	case OpDelete:
		return model.Delete
	default:
		return model.Put
	}
}

// request is one parsed request.
type request struct {
	op           Op
	bucket, key  string // of the object read or written; for a list the key is its prefix
	sourceBucket string // of a copy
	sourceKey    string
	query        url.Values
	conditions   conditions
	sources      []composeSource // of a compose
	contentBytes int64           // of an upload
	writeID      string          // of an upload: its custom metadata field "writeid"
}

// conditions are the conditions stated by a request; nil: not stated.
type conditions struct {
	match, notMatch, sourceMatch, sourceNotMatch *int64
}

type composeSource struct {
	Name                string           `json:"name"`
	Generation          json.Number      `json:"generation"`
	ObjectPreconditions objectConditions `json:"objectPreconditions"`
}

type objectConditions struct {
	IfGenerationMatch json.Number `json:"ifGenerationMatch"`
}

// parameters returns those that may be sent with an operation, in addition to those of any request. All others are refused: ignoring a
// parameter would break its promise.
func (o Op) parameters() []string {
	all := []string{"alt", "prettyPrint", "fields", "projection"}
	match := []string{"ifGenerationMatch", "ifGenerationNotMatch"}
	switch o {
	case OpGet, OpStat, OpDelete:
		return append(append(all, match...), "generation")
	case OpPut:
		return append(append(all, match...), "uploadType", "name")
	case OpPatch, OpCompose:
		return append(all, match...)
	case OpCopy:
		return append(append(all, match...), "sourceGeneration", "ifSourceGenerationMatch", "ifSourceGenerationNotMatch")
	case OpList:
		return append(all, "prefix", "startOffset", "endOffset", "pageToken", "maxResults")
	default:
		return all
	}
}

// parse recognises a request of the JSON API, or returns the answer that says why not.
func parse(r *http.Request) (*request, *reply) {
	q := &request{query: r.URL.Query()}
	if !q.route(r) {
		return nil, notEmulated("%s %s", r.Method, r.URL.Path)
	}
	allowed := q.op.parameters()
	for name, values := range q.query {
		unset := !slices.ContainsFunc(values, func(v string) bool { return v != "" && v != "false" })
		if !unset && !slices.Contains(allowed, name) {
			return nil, notEmulated("%s with parameter %q", q.op, name)
		}
	}
	for name := range r.Header {
		if !headerIsHarmless(name) {
			return nil, notEmulated("%s with header %q", q.op, name)
		}
	}
	if kind := q.query.Get("uploadType"); q.op == OpPut && kind != "multipart" && kind != "media" {
		return nil, notEmulated("upload of type %q", kind)
	}
	for name, target := range map[string]**int64{
		"ifGenerationMatch":          &q.conditions.match,
		"ifGenerationNotMatch":       &q.conditions.notMatch,
		"ifSourceGenerationMatch":    &q.conditions.sourceMatch,
		"ifSourceGenerationNotMatch": &q.conditions.sourceNotMatch,
	} {
		if !q.query.Has(name) {
			continue
		}
		n, err := strconv.ParseInt(q.query.Get(name), 10, 64)
		if err != nil {
			return nil, failure(http.StatusBadRequest, "parameter %s is %q, want a generation", name, q.query.Get(name))
		}
		*target = &n
	}
	return q, nil
}

// route finds the operation and the names in the path. Slashes inside a name arrive escaped.
func (q *request) route(r *http.Request) bool {
	var parts []string
	for part := range strings.SplitSeq(strings.Trim(r.URL.EscapedPath(), "/"), "/") {
		name, err := url.PathUnescape(part)
		if err != nil {
			return false
		}
		parts = append(parts, name)
	}
	if len(parts) == 6 && slices.Equal(parts[:4], []string{"upload", "storage", "v1", "b"}) && parts[5] == "o" {
		q.op, q.bucket, q.key = OpPut, parts[4], q.query.Get("name")
		return r.Method == http.MethodPost
	}
	if len(parts) < 4 || !slices.Equal(parts[:3], []string{"storage", "v1", "b"}) {
		return false
	}
	q.bucket = parts[3]
	parts = parts[4:]
	switch {
	case len(parts) == 0:
		q.op = OpBucket
		return r.Method == http.MethodGet
	case parts[0] != "o":
		return false
	case len(parts) == 1:
		q.op, q.key = OpList, q.query.Get("prefix")
		return r.Method == http.MethodGet
	case len(parts) == 2:
		q.key = parts[1]
		return q.objectOp(r)
	case len(parts) == 3 && parts[2] == "compose":
		q.op, q.key = OpCompose, parts[1]
		return r.Method == http.MethodPost
	case len(parts) == 7 && (parts[2] == "copyTo" || parts[2] == "rewriteTo") && parts[3] == "b" && parts[5] == "o":
		q.op, q.sourceBucket, q.sourceKey, q.bucket, q.key = OpCopy, q.bucket, parts[1], parts[4], parts[6]
		return r.Method == http.MethodPost
	}
	return false
}

func (q *request) objectOp(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet:
		q.op = OpStat
		if q.query.Get("alt") == "media" {
			q.op = OpGet
		}
	case http.MethodDelete:
		q.op = OpDelete
	case http.MethodPatch:
		q.op = OpPatch
	default:
		return false
	}
	return true
}

// headerIsHarmless rejects headers that would change what a request means.
func headerIsHarmless(name string) bool {
	for _, prefix := range []string{"X-Goog-Encryption", "X-Goog-Copy-Source", "X-Goog-If", "X-Goog-Upload", "X-Upload", "If-"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return !slices.Contains([]string{"X-Http-Method-Override", "X-Goog-Content-Length-Range", "Content-Encoding", "Content-Range"}, name)
}

// readEnvelope reads from the body what the path does not say: the name and size of an upload, the sources of a compose.
func (q *request) readEnvelope(r *http.Request, body []byte) *reply {
	switch {
	case q.op == OpCompose:
		var envelope struct {
			SourceObjects []composeSource `json:"sourceObjects"`
		}
		if err := json.Unmarshal(body, &envelope); err != nil || len(envelope.SourceObjects) == 0 {
			return failure(http.StatusBadRequest, "compose: the body names no source objects")
		}
		q.sources = envelope.SourceObjects
	case q.op == OpPut && q.query.Get("uploadType") == "multipart":
		if err := q.readMultipart(r, body); err != nil {
			return failure(http.StatusBadRequest, "upload: %v", err)
		}
	case q.op == OpPut:
		q.contentBytes = int64(len(body))
	}
	if q.op == OpPut && q.key == "" {
		return failure(http.StatusBadRequest, "upload: the object's name is missing")
	}
	return nil
}

// readMultipart reads the two parts of an upload: metadata and content.
func (q *request) readMultipart(r *http.Request, body []byte) error {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	part, err := reader.NextPart()
	if err != nil {
		return err
	}
	var metadata struct {
		Name     string `json:"name"`
		Metadata struct {
			WriteID string `json:"writeid"`
		} `json:"metadata"`
	}
	if err := json.NewDecoder(part).Decode(&metadata); err != nil {
		return err
	}
	if q.key == "" {
		q.key = metadata.Name
	}
	q.writeID = metadata.Metadata.WriteID
	if part, err = reader.NextPart(); err != nil {
		return err
	}
	q.contentBytes, err = io.Copy(io.Discard, part)
	return err
}
