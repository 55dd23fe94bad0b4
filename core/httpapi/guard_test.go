package httpapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"blobpglite/core/store/mem"
)

// raw sends a request verbatim, so that it can have any headers, and returns the answer.
func raw(t *testing.T, address, request, body string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	text := strings.ReplaceAll(strings.TrimSpace(request), "\n", "\r\n")
	if body != "" {
		text += fmt.Sprintf("\r\nContent-Length: %d", len(body))
	}
	if _, err := c.Write([]byte(text + "\r\n\r\n" + body)); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer
}

// TestWebPages sends what a browser sends for another site's page, byte by byte, and what programs send.
func TestWebPages(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.Hosts = []string{"db.example"} })
	address := s.Listener.Addr().String()
	const drop = `{"sql":"CREATE TABLE taken (a int)"}`
	for _, c := range []struct {
		name, request, body string
		status              int
	}{
		{"a simple request", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: https://evil.example\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\nContent-Type: text/plain;charset=UTF-8", drop, 403},
		{"the same of an old browser", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: https://evil.example\nContent-Type: text/plain", drop, 403},
		{"one that hides its origin", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: null\nContent-Type: text/plain", drop, 403},
		{"one that tells none", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: text/plain", drop, 415},
		{"a form", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: http://evil.example\nContent-Type: application/x-www-form-urlencoded", drop, 403},
		{"a form without an origin", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: application/x-www-form-urlencoded", drop, 415},
		{"a blob without a type", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: http://evil.example\nSec-Fetch-Site: cross-site", drop, 403},
		{"nothing but a body", "POST /sql HTTP/1.1\nHost: HERE", drop, 415},
		{"two types", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: application/json\nContent-Type: text/plain", drop, 415},
		{"a type in a type", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: text/plain; x=application/json", drop, 415},
		{"another encoding", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: application/json; charset=latin1", drop, 415},
		{"a preflight", "OPTIONS /sql HTTP/1.1\nHost: HERE\nOrigin: https://evil.example\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: content-type\nAccess-Control-Request-Private-Network: true", "", 403},
		{"behind a preflight", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: https://evil.example\nSec-Fetch-Site: cross-site\nContent-Type: application/json", drop, 403},
		{"another port of this machine", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: http://127.0.0.1:3000\nContent-Type: application/json", drop, 403},
		{"the same, by the site", "POST /sql HTTP/1.1\nHost: HERE\nOrigin: http://127.0.0.1:3000\nSec-Fetch-Site: same-site\nContent-Type: application/json", drop, 403},
		{"DNS rebinding", "POST /sql HTTP/1.1\nHost: evil.example:8080\nOrigin: http://evil.example:8080\nSec-Fetch-Site: same-origin\nContent-Type: application/json", drop, 421},
		{"DNS rebinding, reading", "GET /metrics HTTP/1.1\nHost: evil.example", "", 421},
		{"a name that begins like an address", "GET /metrics HTTP/1.1\nHost: 127.0.0.1.evil.example", "", 421},
		{"a name that ends like ours", "GET /metrics HTTP/1.1\nHost: localhost.evil.example", "", 421},
		{"another machine's address", "GET /metrics HTTP/1.1\nHost: 192.0.2.7", "", 421},
		{"no host", "POST /sql HTTP/1.0\nContent-Type: application/json", drop, 421},
		{"an image that would wake the database", "GET /healthz HTTP/1.1\nHost: HERE\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors", "", 403},

		{"whether it lives, from anywhere", "GET /livez HTTP/1.1\nHost: probe.example", "", 200},
		{"a person at the address bar", "GET /metrics HTTP/1.1\nHost: HERE\nSec-Fetch-Site: none", "", 200},
		{"its own page", "GET /metrics HTTP/1.1\nHost: HERE\nSec-Fetch-Site: same-origin", "", 200},
		{"a program", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: application/json", `{"sql":"SELECT 1"}`, 200},
		{"a program that names its encoding", "POST /sql HTTP/1.1\nHost: HERE\nContent-Type: Application/JSON; charset=UTF-8", `{"sql":"SELECT 1"}`, 200},
		{"by a name of this machine", "POST /sql HTTP/1.1\nHost: LocalHost:8080\nContent-Type: application/json", `{"sql":"SELECT 1"}`, 200},
		{"through a tunnel", "POST /sql HTTP/1.1\nHost: 127.0.0.1:9999\nContent-Type: application/json", `{"sql":"SELECT 1"}`, 200},
		{"by the other loopback address", "POST /sql HTTP/1.1\nHost: [::1]:8080\nContent-Type: application/json", `{"sql":"SELECT 1"}`, 200},
		{"by a name that was allowed", "POST /sql HTTP/1.1\nHost: DB.example.\nContent-Type: application/json", `{"sql":"SELECT 1"}`, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := raw(t, address, strings.ReplaceAll(c.request, "HERE", address), c.body)
			if answer.StatusCode != c.status {
				t.Errorf("%d, want %d", answer.StatusCode, c.status)
			}
			for name := range answer.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("a browser is given leave: %s", name)
				}
			}
		})
	}
	if _, body, _ := post(t, s, `{"sql":"SELECT to_regclass('taken') IS NULL AS safe"}`); !strings.Contains(body, `"rows":[[true]]`) {
		t.Errorf("a page has made a table: %s", body)
	}
	_, metrics := get(t, s, "/metrics")
	for _, reason := range []string{"host", "origin", "content type"} {
		if line := fmt.Sprintf("blobpglite_http_refused_total{reason=%q} ", reason); !strings.Contains(metrics, line) || strings.Contains(metrics, line+"0\n") {
			t.Errorf("refusals by %s are not counted", reason)
		}
	}
}

// TestAnyHost: where something else controls access, every host name is accepted; a page of another origin still is not.
func TestAnyHost(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.AnyHost, o.Token = true, "secret" })
	address := s.Listener.Addr().String()
	const from = "POST /sql HTTP/1.1\nHost: first-1234.europe-west1.run.app\nAuthorization: Bearer secret\nContent-Type: application/json"
	if answer := raw(t, address, from, `{"sql":"SELECT 1"}`); answer.StatusCode != 200 {
		t.Error(answer.StatusCode)
	}
	if answer := raw(t, address, from+"\nOrigin: https://evil.example", `{"sql":"SELECT 1"}`); answer.StatusCode != 403 {
		t.Error(answer.StatusCode)
	}
}

// TestExactText: text that would not be stored as sent is refused, with its place; other text passes.
func TestExactText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, want string }{
		{"{\"sql\":\"SELECT 'a\xe4b'\"}", "0xe4 at offset 17 "},
		{"{\"sql\":\"SELECT $1\",\"params\":[\"\xed\xa0\x80\"]}", "0xed at offset 30 "},
		{"{\"sql\":\"SELECT 'cut off \xc3", "0xc3 at offset 24 "},
		{`{"sql":"SELECT $1","params":["\ud800"]}`, `\ud800 at offset 30 `},
		{`{"sql":"SELECT $1","params":["\udc00\ud800"]}`, `\udc00 at offset 30 `},
		{`{"sql":"SELECT $1","params":["\ud83d\u0041"]}`, `\ud83d at offset 30 `},
		{`{"sql":"SELECT $1","params":[{"key\uD800":1}]}`, `\uD800 at offset 34 `},
		{`{"sql":"SELECT $1","params":[["a",["\u0000"]]]}`, `\u0000 at offset 36 `},
		{`{"sql":"SELECT 1\u0000"}`, `\u0000 at offset 16 `},
		{`{"batch":[{"sql":"SELECT '\\\u0000'"}]}`, `\u0000 at offset 28 `},
		{"{\"sql\":\"SELECT 1\"}\x00", "NUL at offset 18 "},
		{`{"sql":"SELECT $1","params":["\ud83d\ude00 \\ud800 \\\\u0000 ä � \ufffd \n \u0001"]}`, ""},
		{`{"sql":"SELECT 1\`, ""}, {`{"sql":"\u12`, ""}, {`\`, ""}, {``, ""}, // left to the decoder
	} {
		err := exactText([]byte(c.body))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.body, err, c.want)
		}
	}
}

// TestTextIsKept: through the whole stack, refused text is not stored, and stored text is what was sent.
func TestTextIsKept(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	post(t, s, `{"sql":"CREATE TABLE t (a text, j json)"}`)
	for _, body := range []string{
		"{\"sql\":\"INSERT INTO t VALUES ('\xff')\"}", "{\"sql\":\"INSERT INTO t VALUES ($1)\",\"params\":[\"\xff\"]}",
		`{"sql":"INSERT INTO t VALUES ($1)","params":["\ud800"]}`, `{"sql":"INSERT INTO t(j) VALUES ($1)","params":[{"a":["\udfff"]}]}`,
		`{"sql":"INSERT INTO t VALUES ('a\u0000b')"}`, `{"batch":[{"sql":"INSERT INTO t VALUES ($1)","params":["a\u0000"]}]}`,
	} {
		if status, answer, _ := post(t, s, body); status != 400 || !strings.Contains(answer, "offset") {
			t.Errorf("%q: %d %s", body, status, answer)
		}
	}
	if status, answer, _ := post(t, s, `{"sql":"INSERT INTO t VALUES ($1, $2) RETURNING a, j","params":["ä\ud83d\ude00�",{"a":"\u00e4"}]}`); status != 200 || !strings.Contains(answer, `["ä😀�",{"a":"ä"}]`) && !strings.Contains(answer, `["ä😀�",{"a":"\u00e4"}]`) {
		t.Errorf("%d %s", status, answer)
	}
	if _, answer, _ := post(t, s, `{"sql":"SELECT count(*) FROM t"}`); !strings.Contains(answer, "[[1]]") {
		t.Error(answer)
	}
}

// FuzzExactText: text that passes, and is JSON, is decoded without a replacement character.
func FuzzExactText(f *testing.F) {
	f.Add([]byte(`"\ud83d\ude00\u0000\\u0000"`))
	f.Add([]byte("\"\xff\""))
	f.Fuzz(func(t *testing.T, body []byte) {
		var text string
		if exactText(body) != nil || json.Unmarshal(body, &text) != nil {
			return
		}
		replaced := strings.Contains(string(body), "\ufffd") || strings.Contains(strings.ToLower(string(body)), `\ufffd`)
		if strings.Contains(text, "\x00") || strings.Contains(text, "\ufffd") && !replaced {
			t.Fatalf("%q became %q", body, text)
		}
	})
}
