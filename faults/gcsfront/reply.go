package gcsfront

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// reply is a whole response, held until no lock is held any more.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// recorder takes the emulator's response.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// refusal is the answer of a rule.
func refusal(r Rule) *reply {
	header := http.Header{}
	var body []byte
	switch r.Form {
	case Bare:
	case XML:
		header.Set("Content-Type", "application/xml; charset=UTF-8")
		body = fmt.Appendf(nil, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>injected</Message></Error>", r.Reason)
	case Details:
		header.Set("Content-Type", "application/json; charset=UTF-8")
		body = fmt.Appendf(nil, `{"error":{"code":%d,"message":"injected","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":%q}]}}`, r.Status, r.Reason)
	default:
		header.Set("Content-Type", "application/json; charset=UTF-8")
		body = fmt.Appendf(nil, `{"error":{"code":%d,"message":"injected","errors":[{"domain":"global","reason":%q,"message":"injected"}]}}`, r.Status, r.Reason)
	}
	return &reply{status: r.Status, header: header, body: body}
}

// failure is an error in the JSON API's form.
// Source: cloud.google.com/storage/docs/json_api/v1/status-codes.
func failure(status int, format string, args ...any) *reply {
	type detail struct {
		Domain  string `json:"domain"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	message := fmt.Sprintf(format, args...)
	body, _ := json.Marshal(map[string]any{"error": map[string]any{ // only strings and numbers: cannot fail
		"code":    status,
		"message": message,
		"errors":  []detail{{Domain: "global", Reason: reason(status), Message: message}},
	}})
	header := http.Header{}
	header.Set("Content-Type", "application/json; charset=UTF-8")
	return &reply{status: status, header: header, body: body}
}

func reason(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "invalid"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "notFound"
	case http.StatusPreconditionFailed:
		return "conditionNotMet"
	case http.StatusTooManyRequests:
		return "rateLimitExceeded"
	case http.StatusServiceUnavailable:
		return "backendError"
	case http.StatusNotImplemented:
		return "notImplemented"
	default:
		return http.StatusText(status)
	}
}

// notEmulated is the answer to requests that cannot be emulated faithfully.
func notEmulated(format string, args ...any) *reply {
	return failure(http.StatusNotImplemented, "not emulated: "+format, args...)
}

// send writes the reply, or as much of it as the fault lets through.
func (f *Front) send(w http.ResponseWriter, r *reply, fault effect) {
	switch fault.action {
	case Lose:
		panic(http.ErrAbortHandler) // closes the connection without a reply
	case Reset:
		if fault.bytes > 0 && r != nil {
			writeHead(w, r)
			writeSome(w, r, fault.bytes)
		}
		reset(w)
	case Cut:
		writeHead(w, r)
		writeSome(w, r, fault.bytes)
		panic(http.ErrAbortHandler)
	default:
		writeHead(w, r)
		_, _ = w.Write(r.body) // a client that has gone does not matter
	}
}

func writeHead(w http.ResponseWriter, r *reply) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	if r.status != http.StatusNoContent && r.status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	}
	w.WriteHeader(r.status)
}

// writeSome sends the first n bytes of the body.
func writeSome(w http.ResponseWriter, r *reply, n int) {
	_, _ = w.Write(r.body[:min(n, len(r.body))])
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
}

// reset ends the connection with a TCP reset. If the connection is not available (not HTTP/1.1 over TCP) it is closed.
func reset(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // drops what is unsent, and tells the peer so
	}
	_ = conn.Close()
}
