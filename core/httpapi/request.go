package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	maxBatch  = 1000  // statements per request
	maxParams = 65535 // per statement. Source: postgresql.org/docs/current/protocol-message-formats.html, Bind: an Int16
)

// request is the body of a POST /sql.
type request struct {
	SQL    string            `json:"sql"`
	Params []json.RawMessage `json:"params"`
	Batch  []statement       `json:"batch"`
}

type statement struct {
	SQL    string            `json:"sql"`
	Params []json.RawMessage `json:"params"`
}

type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// result is what one statement returned.
type result struct {
	Columns []column            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
	Tag     string              `json:"tag"`
}

// decode reads a request; unknown fields are errors.
func (a *API) decode(w http.ResponseWriter, r *http.Request) (statements []statement, batch bool, err error) {
	if err := jsonOnly(r); err != nil {
		return nil, false, err
	}
	body, err := a.body(w, r)
	if err != nil {
		return nil, false, err
	}
	if err := exactText(body); err != nil {
		return nil, false, err
	}
	var q request
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, false, bad(http.StatusBadRequest, "the request must be {\"sql\": text, \"params\": [...]} or {\"batch\": [...]}: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false, bad(http.StatusBadRequest, "there is data after the JSON object of the request: send only the object")
	}
	switch {
	case q.SQL != "" && q.Batch != nil:
		return nil, false, bad(http.StatusBadRequest, "the request has both \"sql\" and \"batch\": send only one of them")
	case q.SQL != "":
		return []statement{{q.SQL, q.Params}}, false, nil
	case q.Params != nil && q.Batch != nil:
		return nil, false, bad(http.StatusBadRequest, "the request has both \"params\" and \"batch\": give each statement of the batch its own \"params\"")
	case len(q.Batch) == 0:
		return nil, false, bad(http.StatusBadRequest, "the request has neither \"sql\" nor \"batch\": send one of them")
	case len(q.Batch) > maxBatch:
		return nil, false, bad(http.StatusBadRequest, "the batch has %d statements, the limit is %d", len(q.Batch), maxBatch)
	}
	for i, s := range q.Batch {
		if s.SQL == "" {
			return nil, false, bad(http.StatusBadRequest, "statement %d of the batch has no \"sql\"", i+1)
		}
		if endsTransaction(s.SQL) {
			return nil, false, bad(http.StatusBadRequest, "statement %d: a batch is one transaction already: leave out statements that begin or end one", i+1)
		}
	}
	return q.Batch, true, nil
}

// endsTransaction says whether a statement begins or ends a transaction. The text holds a single statement.
func endsTransaction(sql string) bool {
	word := words(sql, 3)
	switch word[0] {
	case "BEGIN", "START", "COMMIT", "END", "ABORT":
		return true
	case "PREPARE":
		return word[1] == "TRANSACTION"
	case "ROLLBACK":
		return word[1] != "TO" && word[2] != "TO"
	}
	return false
}

// words returns the first n words of a statement, in upper case; an empty one stands for something that is not a word.
func words(sql string, n int) []string {
	out := make([]string, n)
	for i := range out {
		sql = skipComments(sql)
		end := 0
		for end < len(sql) && isWordByte(sql[end]) {
			end++
		}
		out[i], sql = strings.ToUpper(sql[:end]), sql[end:]
	}
	return out
}

// database is the database of a request: the query parameter's, or Options.Database.
func (a *API) database(r *http.Request) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", bad(http.StatusBadRequest, "the URL's query is malformed: %v", err)
	}
	given, ok := query["database"]
	switch {
	case !ok:
		return a.o.Database, nil
	case len(given) > 1:
		return "", bad(http.StatusBadRequest, "the URL names %d databases: name one", len(given))
	case given[0] == "" || !utf8.ValidString(given[0]) || strings.ContainsRune(given[0], 0):
		return "", bad(http.StatusBadRequest, "the URL's database, %q, is not a valid name", given[0])
	}
	return given[0], nil
}

func accepts(r *http.Request, kind string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if name, _, err := mime.ParseMediaType(strings.TrimSpace(part)); err == nil && name == kind {
			return true
		}
	}
	return false
}

// parameters returns JSON values as PostgreSQL's text; null becomes nil.
func parameters(values []json.RawMessage) ([][]byte, error) {
	if len(values) > maxParams {
		return nil, bad(http.StatusBadRequest, "the statement has %d parameters, the limit is %d: send rows as one JSON array (json_to_recordset), or in a batch", len(values), maxParams)
	}
	out := make([][]byte, len(values))
	for i, v := range values {
		v = bytes.TrimSpace(v)
		switch {
		case len(v) == 0 || string(v) == "null":
		case v[0] == '"':
			var text string
			if err := json.Unmarshal(v, &text); err != nil {
				return nil, bad(http.StatusBadRequest, "parameter %d: %v", i+1, err)
			}
			out[i] = []byte(text)
		default:
			out[i] = v
		}
	}
	return out, nil
}
