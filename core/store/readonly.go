package store

import (
	"context"
	"fmt"
)

// ReadOnly returns a view of s in which Put and Delete fail with ErrDenied, without a request.
func ReadOnly(s Store) Store {
	if r, ok := s.(RangeGetter); ok {
		return readOnlyRanges{readOnly{s}, r}
	}
	return readOnly{s}
}

type readOnly struct{ Store }

type readOnlyRanges struct {
	readOnly
	RangeGetter
}

func (readOnly) Put(_ context.Context, key string, _ []byte, _ string, _ Cond) (Gen, error) {
	return 0, &OpError{Op: "put", Key: key, Err: fmt.Errorf("%w: this view of the store is read-only", ErrDenied)}
}

func (readOnly) Delete(_ context.Context, key string) error {
	return &OpError{Op: "delete", Key: key, Err: fmt.Errorf("%w: this view of the store is read-only", ErrDenied)}
}

// View implements Viewed: a copy to another store may read through this view.
func (r readOnly) View(key string) (Store, string) { return r.Store, key }

// Above implements Placed.
func (r readOnly) Above() []Store { return Above(r.Store) }
