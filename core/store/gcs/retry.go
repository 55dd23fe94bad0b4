package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"blobpglite/core/store"
)

// answer is the outcome of one request, according to rulings.
type answer int

const (
	answerTransient answer = iota // no usable answer: a write may or may not have been applied
	answerOK
	answerMissing      // there is no such object
	answerNoBucket     // not applied: no such bucket
	answerPrecondition // not applied
	answerThrottled    // not applied
	answerRefused      // not applied
	answerDenied       // not applied
	answerForbidden    // not applied
	answerCredentials  // not applied
	answerCorrupt      // bytes do not match their checksum
	answerRange        // beyond the end
)

// classify derives an answer from an SDK error, by type, status and reason, never by text.
func classify(k kind, err error) answer {
	var token *auth.Error
	switch r, ok := ruled(k, err); {
	case err == nil:
		return answerOK
	case errors.Is(err, store.ErrCorrupt):
		return answerCorrupt
	case ok:
		return r.answer
	case errors.Is(err, storage.ErrObjectNotExist):
		return rule(k, http.StatusNotFound, "").answer
	case errors.Is(err, storage.ErrBucketNotExist):
		return answerNoBucket
	case errors.As(err, &token) && !token.Temporary():
		return answerCredentials
	}
	return answerTransient
}

// again reports whether to retry request n (counted from 0), whose answer was a. A refusal by a bucket that has
// served before may be a transient fault of the service, of a proxy or of expired credentials: a few more requests
// cost nothing, and giving up costs every client its session.
func (s *Store) again(a answer, n int) bool {
	switch a {
	case answerTransient, answerThrottled, answerCorrupt:
		return true
	case answerCredentials:
		return n < 1 || s.bucketSeen.Load() && n+1 < maxRefusals
	case answerDenied, answerRefused, answerNoBucket:
		return s.bucketSeen.Load() && n+1 < maxRefusals
	}
	return false
}

// maxRefusals bounds the refused requests of one operation: about 1.5 s with the default pauses.
const maxRefusals = 5

// repeat makes up to Attempts requests, with growing pauses, until one has a final answer. It is for operations that
// change nothing, or that may be applied twice. It returns the last answer and its error.
func (s *Store) repeat(ctx context.Context, k kind, request func(ctx context.Context, h *handle) error) (answer, error) {
	var last error
	var a answer
	for n := range s.o.Attempts {
		if err := s.pauseAfter(ctx, n, last); err != nil {
			return answerTransient, interrupted(err, last)
		}
		a, last = s.attempt(ctx, k, request)
		if !s.again(a, n) {
			return a, last
		}
		if err := ctx.Err(); err != nil {
			return answerTransient, interrupted(err, last)
		}
	}
	return a, fmt.Errorf("%d attempts, the last: %w", s.o.Attempts, last)
}

// interrupted returns the context's error, with the outcome of the last request.
func interrupted(err, last error) error {
	if last == nil {
		return err
	}
	return fmt.Errorf("%w (the last request: %w)", err, last)
}

// attempt makes one request within AttemptTimeout. If the credentials were not accepted, the next one has new ones.
func (s *Store) attempt(ctx context.Context, k kind, request func(ctx context.Context, h *handle) error) (answer, error) {
	h := s.clients.current()
	bounded, cancel := context.WithTimeout(ctx, s.o.AttemptTimeout)
	defer cancel()
	err := request(bounded, h)
	a := classify(k, err)
	_, refused := ruled(k, err)
	s.clients.counts.count(k, refused)
	if a == answerCredentials {
		if renewErr := s.clients.renew(ctx, h); renewErr != nil {
			err = fmt.Errorf("%w; new ones: %w", err, renewErr)
		}
	}
	return a, err
}

// pauseAfter waits before request n, which follows err. It does not wait after a first request that broke with its
// connection: after a freeze the kept connections are dead, and no server is overloaded. net/http itself retries only
// requests without a body or with an idempotency key, on a connection that was used before.
func (s *Store) pauseAfter(ctx context.Context, n int, err error) error {
	if n == 1 && broken(err) {
		s.clients.current().dropIdle() // the other idle ones are just as dead
		return ctx.Err()
	}
	return s.pause(ctx, n)
}

// broken reports whether a request ended with its connection, and not with an answer or a timeout.
func broken(err error) bool {
	var status *googleapi.Error
	var token *auth.Error
	return err != nil && !errors.As(err, &status) && !errors.As(err, &token) && !errors.Is(err, store.ErrCorrupt) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// pause waits before request n (0: it does not wait). It returns the context's error if that is done.
func (s *Store) pause(ctx context.Context, n int) error {
	if n == 0 {
		return ctx.Err()
	}
	d := s.o.BackoffMax
	if shift := n - 1; shift < 20 { // beyond, the shift could overflow
		d = min(d, s.o.BackoffBase<<shift)
	}
	half := d / 2
	return s.o.Clock.Sleep(ctx, half+time.Duration(float64(d-half)*s.o.Jitter()))
}

// failed turns the final answer of an operation into its error. outcomeUnknown says that the operation was a write
// and that an earlier or the last request may have been applied.
func (s *Store) failed(ctx context.Context, op string, k kind, key string, a answer, err error, outcomeUnknown bool) error {
	switch {
	case outcomeUnknown:
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	case a == answerDenied, a == answerForbidden, a == answerCredentials:
		r, _ := ruled(k, err)
		err = fmt.Errorf("%w: %s: %w", store.ErrDenied, r.advice.text(s.o.Bucket, op, s.url(key)), err)
	case a == answerThrottled:
		err = fmt.Errorf("%w: %w", store.ErrThrottled, err)
	case a == answerCorrupt: // err wraps it
	case a == answerNoBucket:
		err = s.bucketMissing()
	case a == answerMissing:
		err = store.ErrNotFound
	case a == answerTransient && ctx.Err() != nil: // err wraps it
	default:
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return &store.OpError{Op: op, Key: s.url(key), Err: err}
}

func (s *Store) bucketMissing() error {
	return fmt.Errorf("%w: bucket %q does not exist: check its name, or create it "+
		"(gcloud storage buckets create gs://%s --uniform-bucket-level-access --location=REGION)",
		store.ErrDenied, s.o.Bucket, s.o.Bucket)
}
