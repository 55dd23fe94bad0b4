package layers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Stock lists what a database's prefix holds.
type Stock struct {
	manifest manifest.Manifest
	Layers   []*base.Layer // that the manifest names, oldest first
	Bytes    int64
	sizes    map[string]int64
	// Unreached are the objects that neither the manifest nor a kept record refers to, and that no rule keeps: a collection by the newest
	// writer deletes them.
	Unreached      []string
	UnreachedBytes int64
}

// TakeStock finds out which objects are reachable. It follows the rules of core/gc, but uses none of its code. Nothing may write during
// that.
func TakeStock(ctx context.Context, st store.Store) (Stock, error) {
	s := Stock{sizes: map[string]int64{}}
	var err error
	if s.manifest, _, err = manifest.Load(ctx, st); err != nil {
		return s, err
	}
	kept := map[string]bool{manifest.Key: true, lease.Key: true}
	for _, l := range s.manifest.Layers {
		layer, err := base.ReadIndex(ctx, st, l.Key, base.Expected(s.manifest, l))
		if err != nil {
			return s, err
		}
		s.Layers = append(s.Layers, layer)
		kept[base.IndexKey(l.Key)] = true
		for _, key := range layer.Objects() {
			kept[key] = true
		}
	}
	parts := map[string]bool{} // folders of those named by a record
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return s, fmt.Errorf("list the bucket: %w", err)
		}
		s.sizes[a.Key] = a.Size
		s.Bytes += a.Size
		if strings.HasPrefix(a.Key, wal.Prefix()) {
			if kept[a.Key], err = s.record(ctx, st, a.Key, parts); err != nil {
				return s, err
			}
		}
	}
	for key, size := range s.sizes {
		if !kept[key] && !s.part(key, parts) {
			s.Unreached = append(s.Unreached, key)
			s.UnreachedBytes += size
		}
	}
	return s, nil
}

// record says whether a record stays: a fence always does, another one from wal_start on. It records whose parts it names.
func (s *Stock) record(ctx context.Context, st store.Store, key string, parts map[string]bool) (bool, error) {
	o, err := st.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	r, inParts, err := wal.InParts(o.Body)
	if err != nil {
		return false, fmt.Errorf("%s: %w", key, err)
	}
	stays := r.Seq >= s.manifest.WalStart
	if stays && inParts {
		parts[wal.PartPrefix(r.Epoch, r.WriteID)] = true
	}
	return stays || r.Kind == wal.Fence, nil
}

// part says whether an object is one of a record that stays, or of the newest writer, one of whose records may be on its way.
func (s *Stock) part(key string, parts map[string]bool) bool {
	epoch, id, ok := wal.ParsePartKey(key)
	return ok && (epoch >= s.manifest.Epoch || parts[wal.PartPrefix(epoch, id)])
}

// Newest returns the layer that an opening starts from; nil: there is none.
func (s *Stock) Newest() *base.Layer {
	if len(s.Layers) == 0 {
		return nil
	}
	return s.Layers[len(s.Layers)-1]
}

// SharedSegments is how many segments the newest layer needs that were written for an earlier one.
func (s *Stock) SharedSegments() (n int) {
	l := s.Newest()
	if l == nil {
		return 0
	}
	for _, key := range l.Segments() {
		if o, ok := base.ParseSegment(key); ok && o.Layer != l.Key() {
			n++
		}
	}
	return n
}

// Left says which unreachable objects a collection has left; empty: none.
func (s *Stock) Left() string {
	if len(s.Unreached) == 0 {
		return ""
	}
	return fmt.Sprintf("%d objects are left that nothing reaches, %d bytes: %s …", len(s.Unreached), s.UnreachedBytes, s.Unreached[0])
}

// difference says where two trees differ, in names, kinds, sizes or bytes; empty: nowhere.
func difference(want, got *memfs.FS) (string, error) {
	names := map[string]bool{}
	wrong := ""
	err := want.Walk("/", func(path string, info memfs.Info) error {
		names[path] = true
		other, err := got.Lstat(path)
		switch {
		case err != nil:
			wrong = fmt.Sprintf("%s: %v", path, err)
		case other.Mode != info.Mode || other.Size != info.Size && !info.IsDir():
			wrong = fmt.Sprintf("%s: mode %o and %d bytes, want mode %o and %d", path, other.Mode, other.Size, info.Mode, info.Size)
		case info.IsRegular():
			wrong, err = differentBytes(want, got, path)
			if err != nil {
				return err
			}
		}
		if wrong != "" {
			return errDiffers
		}
		return nil
	})
	if err == nil {
		err = got.Walk("/", func(path string, _ memfs.Info) error {
			if !names[path] {
				wrong = path + " should not be there"
				return errDiffers
			}
			return nil
		})
	}
	if errors.Is(err, errDiffers) {
		err = nil
	}
	return wrong, err
}

// errDiffers ends a walk.
var errDiffers = errors.New("it differs")

func differentBytes(want, got *memfs.FS, path string) (string, error) {
	a, err := want.ReadFile(path)
	if err != nil {
		return "", err
	}
	b, err := got.ReadFile(path)
	if err != nil {
		return "", err
	}
	for i := range a {
		if a[i] != b[i] {
			return fmt.Sprintf("%s: byte %d is %d, want %d", path, i, b[i], a[i]), nil
		}
	}
	return "", nil
}
