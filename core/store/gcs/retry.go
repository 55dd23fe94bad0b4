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

// answer is what one request came to.
type answer int

const (
	answerTransient answer = iota // no answer, 408, 5xx: a write may or may not have been applied
	answerOK
	answerMissing      // 404
	answerPrecondition // 412
	answerThrottled    // 429: not applied
	answerDenied       // 401, 403, no token: not applied
	answerCorrupt      // bytes do not match their checksum
	answerRange        // 416
	answerRefused      // any other 4xx, or 501: not applied, and useless to repeat
)

// classify reads an answer off an error of the SDK, by type and status, never by text.
func classify(err error) answer {
	var status *googleapi.Error
	var token *auth.Error
	switch {
	case err == nil:
		return answerOK
	case errors.Is(err, store.ErrCorrupt):
		return answerCorrupt
	case errors.Is(err, storage.ErrObjectNotExist), errors.Is(err, storage.ErrBucketNotExist):
		return answerMissing
	case errors.As(err, &token):
		if token.Temporary() {
			return answerTransient
		}
		return answerDenied
	case !errors.As(err, &status):
		return answerTransient
	}
	switch code := status.Code; {
	case code == http.StatusNotFound:
		return answerMissing
	case code == http.StatusPreconditionFailed:
		return answerPrecondition
	case code == http.StatusTooManyRequests:
		return answerThrottled
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return answerDenied
	case code == http.StatusRequestedRangeNotSatisfiable:
		return answerRange
	case code == http.StatusRequestTimeout:
		return answerTransient
	case code == http.StatusNotImplemented, code >= 400 && code < 500:
		return answerRefused
	default:
		return answerTransient
	}
}

// repeat makes up to Attempts requests, with growing pauses between, until one is answered for good. For operations
// that change nothing, or that may be applied twice. It returns the last answer and its error.
func (s *Store) repeat(ctx context.Context, request func(ctx context.Context) error) (answer, error) {
	var last error
	var a answer
	for n := range s.o.Attempts {
		if err := s.pause(ctx, n); err != nil {
			return answerTransient, interrupted(err, last)
		}
		last = s.attempt(ctx, request)
		a = classify(last)
		switch a {
		case answerTransient, answerThrottled, answerCorrupt:
			if err := ctx.Err(); err != nil {
				return answerTransient, interrupted(err, last)
			}
		default:
			return a, last
		}
	}
	return a, fmt.Errorf("%d attempts, the last: %w", s.o.Attempts, last)
}

// interrupted is the context's error, with what the last request came to.
func interrupted(err, last error) error {
	if last == nil {
		return err
	}
	return fmt.Errorf("%w (the last request: %w)", err, last)
}

// attempt makes one request within AttemptTimeout.
func (s *Store) attempt(ctx context.Context, request func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.AttemptTimeout)
	defer cancel()
	return request(ctx)
}

// pause waits before request n (0: not at all). It returns the context's error if that is done.
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
// and an earlier or the last request may have been applied.
func (s *Store) failed(ctx context.Context, op, key string, a answer, err error, outcomeUnknown bool) error {
	switch {
	case outcomeUnknown:
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	case a == answerDenied:
		err = s.denied(op, err)
	case a == answerThrottled:
		err = fmt.Errorf("%w: %w", store.ErrThrottled, err)
	case a == answerCorrupt: // err wraps it
	case a == answerMissing && op != "get":
		err = s.bucketMissing()
	case a == answerMissing:
		err = store.ErrNotFound
	case a == answerTransient && ctx.Err() != nil: // err wraps it
	default:
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return &store.OpError{Op: op, Key: s.url(key), Err: err}
}

func (s *Store) denied(op string, err error) error {
	var status *googleapi.Error
	if errors.As(err, &status) && status.Code == http.StatusForbidden {
		return fmt.Errorf("%w: bucket %q does not let this identity %s objects: grant it roles/storage.objectUser on the bucket "+
			"(gcloud storage buckets add-iam-policy-binding gs://%s --member=PRINCIPAL --role=roles/storage.objectUser): %w",
			store.ErrDenied, s.o.Bucket, op, s.o.Bucket, err)
	}
	return fmt.Errorf("%w: bucket %q got no valid credentials: run `gcloud auth application-default login`, or run as a service "+
		"account that has roles/storage.objectUser on the bucket: %w", store.ErrDenied, s.o.Bucket, err)
}

func (s *Store) bucketMissing() error {
	return fmt.Errorf("%w: bucket %q does not exist: check its name, or create it "+
		"(gcloud storage buckets create gs://%s --uniform-bucket-level-access --location=REGION)",
		store.ErrDenied, s.o.Bucket, s.o.Bucket)
}
