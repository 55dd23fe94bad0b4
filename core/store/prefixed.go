package store

import (
	"context"
	"iter"
	"strings"
)

// Prefixed returns a view of s that holds only the keys below prefix; keys passed to and returned by it are relative.
// A slash is added to prefix if it lacks one; the empty prefix returns s itself. The view is a RangeGetter if s is.
// Errors name the full key.
func Prefixed(s Store, prefix string) Store {
	if prefix == "" {
		return s
	}
	v := prefixed{s: s, prefix: strings.TrimSuffix(prefix, "/") + "/"}
	if r, ok := s.(RangeGetter); ok {
		return prefixedRanges{prefixed: v, r: r}
	}
	return v
}

type prefixed struct {
	s      Store
	prefix string
}

type prefixedRanges struct {
	prefixed
	r RangeGetter
}

// full returns the key in the store below. An invalid key stays invalid: an empty one gives a trailing slash, a
// leading slash gives an empty segment.
func (v prefixed) full(key string) string { return v.prefix + key }

func (v prefixed) relative(o Object) Object {
	o.Key = strings.TrimPrefix(o.Key, v.prefix)
	return o
}

func (v prefixed) Get(ctx context.Context, key string) (Object, error) {
	o, err := v.s.Get(ctx, v.full(key))
	return v.relative(o), err
}

func (v prefixed) Put(ctx context.Context, key string, body []byte, writeID string, cond Cond) (Gen, error) {
	return v.s.Put(ctx, v.full(key), body, writeID, cond)
}

// View implements Viewed.
func (v prefixed) View(key string) (Store, string) { return v.s, v.full(key) }

// CopyFrom implements Copier, if the store below does.
func (v prefixed) CopyFrom(ctx context.Context, key string, from Store, source, writeID string) (Attrs, error) {
	c, ok := v.s.(Copier)
	if !ok {
		return Attrs{}, elsewhere(v.full(key))
	}
	a, err := c.CopyFrom(ctx, v.full(key), from, source, writeID)
	a.Key = strings.TrimPrefix(a.Key, v.prefix)
	return a, err
}

func (v prefixed) Delete(ctx context.Context, key string) error {
	return v.s.Delete(ctx, v.full(key))
}

func (v prefixed) List(ctx context.Context, prefix, after string) iter.Seq2[Attrs, error] {
	if after != "" {
		after = v.full(after)
	}
	return func(yield func(Attrs, error) bool) {
		for a, err := range v.s.List(ctx, v.full(prefix), after) {
			a.Key = strings.TrimPrefix(a.Key, v.prefix)
			if !yield(a, err) {
				return
			}
		}
	}
}

func (v prefixedRanges) GetRange(ctx context.Context, key string, offset, length int64) (Object, error) {
	o, err := v.r.GetRange(ctx, v.full(key), offset, length)
	return v.relative(o), err
}
