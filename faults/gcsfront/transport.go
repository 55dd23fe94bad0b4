package gcsfront

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"blobpglite/core/clock"
)

// Transport puts the same rules between a client and a real bucket.
//
//	t, err := gcsfront.NewTransport(authenticated, gcsfront.TransportOptions{Rules: rules, Seed: 1})
//	st, err := gcs.Open(ctx, gcs.Options{Bucket: "bucket", HTTPClient: &http.Client{Transport: t}})
//
// It cannot show a fault in the network itself: here Lose and Reset are errors of the client's transport. A request that is not the JSON
// API's passes untouched, and is never counted.
type Transport struct {
	next  http.RoundTripper
	rules *rules
	clock clock.Clock
}

// TransportOptions configures a Transport.
type TransportOptions struct {
	Rules []Rule
	Seed  uint64
	Clock clock.Clock // of delays; nil: the system clock
}

// NewTransport makes a Transport. next gets every request that no rule keeps from it; nil: http.DefaultTransport. An error names a rule
// that could never strike.
func NewTransport(next http.RoundTripper, o TransportOptions) (*Transport, error) {
	checked, err := newRules(o.Rules, o.Seed)
	if err != nil {
		return nil, fmt.Errorf("make a faulty transport: %w", err)
	}
	if next == nil {
		next = http.DefaultTransport
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	return &Transport{next: next, rules: checked, clock: o.Clock}, nil
}

// Fired returns, for each rule in order, how often it matched and fired.
func (t *Transport) Fired() []Fired { return t.rules.fired() }

// RoundTrip sends a request, as far as the rules let it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	q, problem := parse(r)
	if problem != nil {
		return t.next.RoundTrip(r)
	}
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		if err = r.Body.Close(); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = readCloser{bytes.NewReader(body)}, int64(len(body))
	}
	if problem := q.readEnvelope(r, body); problem != nil {
		return t.next.RoundTrip(r)
	}
	before := t.rules.before(q)
	if err := t.wait(r.Context(), before.delay); err != nil {
		return nil, err
	}
	if before.action != "" {
		return before.instead(r, nil)
	}
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	whole, err := io.ReadAll(answer.Body)
	if closeErr := answer.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	after := t.rules.after(q, &reply{status: answer.StatusCode, header: answer.Header, body: whole})
	if err := t.wait(r.Context(), after.delay); err != nil {
		return nil, err
	}
	answer.Body = readCloser{bytes.NewReader(whole)}
	if after.action != "" {
		return after.instead(r, answer)
	}
	return answer, nil
}

func (t *Transport) wait(ctx context.Context, d time.Duration) error { return t.clock.Sleep(ctx, d) }

// instead is what the client gets in place of the answer; nil: the request was not sent.
func (e effect) instead(r *http.Request, answer *http.Response) (*http.Response, error) {
	if e.status() != 0 {
		f := e.reply()
		return &http.Response{
			Status: http.StatusText(f.status), StatusCode: f.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: f.header, Body: readCloser{bytes.NewReader(f.body)}, ContentLength: int64(len(f.body)), Request: r,
		}, nil
	}
	cause := io.ErrUnexpectedEOF
	if e.action == Reset {
		cause = syscall.ECONNRESET
	}
	if answer == nil || e.bytes == 0 && e.action != Cut {
		return nil, fmt.Errorf("injected: %s: %w", e.action, cause)
	}
	answer.Body = &torn{answer.Body, int64(e.bytes), cause}
	return answer, nil
}

// torn is a body that ends early.
type torn struct {
	io.ReadCloser
	left  int64
	cause error
}

func (t *torn) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, t.cause
	}
	n, err := t.ReadCloser.Read(p[:min(int64(len(p)), t.left)])
	t.left -= int64(n)
	return n, err
}
