package file

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"blobpglite/core/store"
)

// Put implements store.Store.
//
// The body is written without a name. Under the exclusive lock it gets its generation and, if the condition holds,
// its name: by link if there must be none, otherwise by rename. The answer leaves once both file and folder are
// synced.
func (s *Store) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	if err := store.CheckPut(key, body, writeID, cond); err != nil {
		return 0, s.failed("put", key, err)
	}
	if err := ctx.Err(); err != nil {
		return 0, s.failed("put", key, err)
	}
	p := &put{s: s, cond: cond, h: header{
		attrs: store.Attrs{Key: key, WriteID: writeID, Size: int64(len(body)), Updated: s.o.Clock.Now()},
		crc:   crc32.Checksum(body, castagnoli),
	}}
	err := p.prepare(body)
	if err == nil {
		err = s.exclusive(ctx, p.name)
	}
	err = errors.Join(err, p.drop())
	var conflict *store.OpError
	switch {
	case err == nil:
		return p.h.attrs.Gen, nil
	case errors.As(err, &conflict):
		return 0, conflict
	case p.named:
		return 0, s.failed("put", key, fmt.Errorf("%w: %w", store.ErrUnknown, err))
	}
	return 0, s.failed("put", key, err)
}

// put is one write.
type put struct {
	s    *Store
	h    header
	cond store.Cond

	tmp   string // its file, as long as it must be removed
	f     File
	named bool // it was given its name, perhaps not durably
}

// prepare writes the body after the space for the header.
func (p *put) prepare(body []byte) (err error) {
	name := tmpDir + "/" + store.NewWriteID()
	if p.f, err = p.s.disk.Create(name); err != nil {
		return err
	}
	p.tmp = name
	if _, err = p.f.WriteAt(body, p.h.bytes()); err != nil {
		return err
	}
	if len(body) > syncAhead { // so that no process waits for it under the lock
		return p.f.Sync()
	}
	return nil
}

// name names the object if the condition holds.
func (p *put) name(st *held) error {
	to := path(p.h.attrs.Key)
	current, err := p.s.stat(p.h.attrs.Key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !p.cond.Holds(current.Gen) {
		return p.refused(current)
	}
	if p.h.attrs.Gen, err = st.generation(); err != nil {
		return err
	}
	if _, err := p.f.WriteAt(p.h.encode(), 0); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	give := p.s.disk.Rename
	if g, conditional := p.cond.Precondition(); conditional && g == 0 {
		give = p.s.disk.Link
	} else {
		defer func() { p.tmp = "" }() // it is renamed away
	}
	p.named, err = st.change(func() error { return give(p.tmp, to) })
	return err
}

// refused handles a condition that does not hold: either this very write repeated, or another writer's object.
func (p *put) refused(current store.Attrs) error {
	if current.Gen != 0 && current.WriteID == p.h.attrs.WriteID {
		p.h.attrs.Gen = current.Gen
		return nil
	}
	return &store.OpError{Op: "put", Key: p.s.url(p.h.attrs.Key), Gen: current.Gen, Err: store.ErrConflict}
}

// drop removes the file without a name. If that fails, the next process that opens the store alone removes it.
func (p *put) drop() error {
	if p.f == nil {
		return nil
	}
	_ = p.f.Close() // it was synced before it was named; without a name it is not needed
	if p.tmp != "" {
		_ = p.s.disk.Remove(p.tmp)
	}
	return nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return s.failed("delete", key, err)
	}
	gone := false
	err := s.exclusive(ctx, func(st *held) error {
		if _, err := s.stat(key); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if !errors.Is(err, store.ErrCorrupt) { // a damaged object may be deleted
				return err
			}
		}
		done, err := st.change(func() error { return s.disk.Remove(path(key)) })
		gone = done
		return err
	})
	if err != nil && gone {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	if err != nil {
		return s.failed("delete", key, err)
	}
	return nil
}
