package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"blobpglite/core/store"
)

// writeIDField is the custom metadata field that holds the write id.
const writeIDField = "writeid"

// errChanged: the object was replaced or deleted while its body was being read. Read it again.
var errChanged = errors.New("object changed while it was read")

// Get implements store.Store. Attrs.Updated has a resolution of one second.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := s.fits(key, store.CheckKey(key)); err != nil {
		return store.Object{}, &store.OpError{Op: "get", Key: s.url(key), Err: err}
	}
	return s.get(ctx, key, 0, -1)
}

// GetRange implements store.RangeGetter. A range is not covered by the object's checksum.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	if err := s.fits(key, store.CheckRange(key, offset, length)); err != nil {
		return store.Object{}, &store.OpError{Op: "get", Key: s.url(key), Err: err}
	}
	return s.get(ctx, key, offset, length)
}

// get reads length bytes (-1: to the end).
func (s *Store) get(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	var o store.Object
	a, err := s.repeat(ctx, kindRead, func(ctx context.Context, h *handle) (err error) {
		o, err = s.read(ctx, h, key, offset, length)
		return err
	})
	switch a {
	case answerOK:
		s.bucketSeen.Store(true)
		return o, nil
	case answerRange: // at or beyond the end, which only the attributes can tell
		o.Body = []byte{}
		if a, err = s.repeat(ctx, kindRead, func(ctx context.Context, h *handle) (err error) {
			o.Attrs, err = s.stat(ctx, h, key)
			return err
		}); a == answerOK {
			return o, nil
		}
	case answerMissing:
		if missing := s.checkBucketSeen(ctx); missing != nil {
			return store.Object{}, &store.OpError{Op: "get", Key: s.url(key), Err: missing}
		}
	}
	return store.Object{}, s.failed(ctx, "get", kindRead, key, a, err, false)
}

// read makes one request for a body.
func (s *Store) read(ctx context.Context, h *handle, key string, offset, length int64) (store.Object, error) {
	r, err := s.object(h, key).NewRangeReader(ctx, offset, length)
	if err != nil {
		return store.Object{}, err
	}
	defer r.Close()
	if r.Remain() > store.MaxBodyBytes {
		return store.Object{}, fmt.Errorf("%w: the object has %d bytes, the limit is %d: it was not written by this program",
			store.ErrCorrupt, r.Remain(), store.MaxBodyBytes)
	}
	var body bytes.Buffer
	body.Grow(int(max(r.Remain(), 0)) + bytes.MinRead)
	_, err = body.ReadFrom(io.LimitReader(r, store.MaxBodyBytes+1))
	whole := length < 0 && int64(body.Len()) == r.Attrs.Size
	switch {
	case errors.Is(err, storage.ErrObjectNotExist):
		return store.Object{}, errChanged
	case whole && r.Attrs.CRC32C != crc32.Checksum(body.Bytes(), crc32.MakeTable(crc32.Castagnoli)):
		return store.Object{}, fmt.Errorf("%w: the body does not match its CRC32C", store.ErrCorrupt)
	case err != nil:
		return store.Object{}, err
	case length < 0 && !whole, r.Remain() > 0:
		return store.Object{}, fmt.Errorf("read %d of %d bytes: %w", body.Len(), r.Attrs.Size, io.ErrUnexpectedEOF)
	}
	return store.Object{
		Attrs: store.Attrs{
			Key:     key,
			Gen:     store.Gen(r.Attrs.Generation),
			WriteID: writeID(r.Metadata()),
			Size:    r.Attrs.Size,
			Updated: r.Attrs.LastModified,
		},
		Body: body.Bytes(),
	}, nil
}

// stat makes one request for the attributes of an object.
func (s *Store) stat(ctx context.Context, h *handle, key string) (store.Attrs, error) {
	raw, err := s.object(h, key).Attrs(ctx)
	if err != nil {
		return store.Attrs{}, err
	}
	return s.attrs(raw), nil
}

// checkBucketSeen tells a missing object from a missing bucket, for which the service has the same status: the first
// time that an object is not found, before any other sign of the bucket, it requests a list.
func (s *Store) checkBucketSeen(ctx context.Context) error {
	if s.bucketSeen.Load() {
		return nil
	}
	a, _ := s.repeat(ctx, kindList, func(ctx context.Context, h *handle) error {
		objects := h.bucket.Objects(ctx, &storage.Query{Prefix: s.prefix, Projection: storage.ProjectionNoACL})
		objects.PageInfo().MaxSize = 1
		_, err := objects.Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		return err
	})
	switch a {
	case answerNoBucket:
		return s.bucketMissing()
	case answerOK:
		s.bucketSeen.Store(true)
	}
	return nil
}

// List implements store.Store. A page is fetched when its first object is needed.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		if err := store.CheckList(prefix, after); err != nil {
			yield(store.Attrs{}, &store.OpError{Op: "list", Key: s.url(prefix), Err: err})
			return
		}
		query := &storage.Query{Prefix: s.prefix + prefix, Projection: storage.ProjectionNoACL}
		if after != "" {
			query.StartOffset = s.prefix + after // inclusive
		}
		for token := ""; ; {
			var page []*storage.ObjectAttrs
			var next string
			a, err := s.repeat(ctx, kindList, func(ctx context.Context, h *handle) (err error) {
				page = nil
				next, err = iterator.NewPager(h.bucket.Objects(ctx, query), store.PageSize, token).NextPage(&page)
				return err
			})
			if a != answerOK {
				yield(store.Attrs{}, s.failed(ctx, "list", kindList, prefix, a, err, false))
				return
			}
			s.bucketSeen.Store(true)
			for _, raw := range page {
				if attrs := s.attrs(raw); attrs.Key != after && !yield(attrs, nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}

func (s *Store) attrs(raw *storage.ObjectAttrs) store.Attrs {
	return store.Attrs{
		Key:     strings.TrimPrefix(raw.Name, s.prefix),
		Gen:     store.Gen(raw.Generation),
		WriteID: writeID(raw.Metadata),
		Size:    raw.Size,
		Updated: raw.Updated,
	}
}

// writeID finds the write id: the field's case is lost where metadata travels as headers.
func writeID(metadata map[string]string) string {
	for field, value := range metadata {
		if strings.EqualFold(field, writeIDField) {
			return value
		}
	}
	return ""
}
