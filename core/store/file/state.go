package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"blobpglite/core/store"
)

// state is the content of the state file. It is written in place, and synced only when generations are reserved:
// after a power cut it may be any version written since, all of which have next below reserved.
//
//	0   next generation     8   reserved: none at or above it was ever used     16   1: a name may not be durable
//	24  zero                28  CRC32C of the preceding bytes
type state struct {
	next, reserved store.Gen
	unsettled      bool
}

const stateBytes = 32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s state) encode() []byte {
	b := make([]byte, stateBytes)
	binary.LittleEndian.PutUint64(b, uint64(s.next))
	binary.LittleEndian.PutUint64(b[8:], uint64(s.reserved))
	if s.unsettled {
		b[16] = 1
	}
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b
}

func decodeState(b []byte) (state, error) {
	if len(b) != stateBytes || binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return state{}, fmt.Errorf("%w: its file %q is damaged: generations are unknown, so nothing more can be written there", store.ErrCorrupt, stateName)
	}
	s := state{
		next:     store.Gen(binary.LittleEndian.Uint64(b)),
		reserved: store.Gen(binary.LittleEndian.Uint64(b[8:])), unsettled: b[16] != 0,
	}
	if s.next <= 0 || s.next > s.reserved {
		return state{}, fmt.Errorf("%w: its file %q names generation %d, but only those up to %d are reserved", store.ErrCorrupt, stateName, s.next, s.reserved)
	}
	return s, nil
}

// held is the state under the lock.
type held struct {
	state
	s *Store
	f File
}

func (h *held) save() error {
	_, err := h.f.WriteAt(h.encode(), 0)
	return err
}

// generation returns the next generation.
func (h *held) generation() (store.Gen, error) {
	if h.next >= h.reserved {
		h.reserved = h.next + reserve
		if err := h.save(); err != nil {
			return 0, err
		}
		if err := h.f.Sync(); err != nil {
			return 0, err
		}
	}
	h.next++
	return h.next - 1, nil // saved with the change of names that uses it
}

// change changes names, and makes that durable. After an error the change may have been made, and a power cut may
// undo it; the next process that takes the lock makes it durable.
func (h *held) change(f func() error) (done bool, err error) {
	h.unsettled = true
	if err := h.save(); err != nil {
		return false, err
	}
	if err := f(); err != nil {
		return false, err // still unsettled: costs at most a superfluous fsync
	}
	return true, h.settle()
}

// settle makes the names durable.
func (h *held) settle() error {
	if err := h.s.disk.SyncDir(objectsDir); err != nil {
		return err
	}
	h.unsettled = false
	return h.save()
}

// exclusive runs f under the exclusive lock.
func (s *Store) exclusive(ctx context.Context, f func(h *held) error) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	return s.locked(ctx, true, func(h *held) error {
		if h.unsettled { // its previous user died
			if err := h.settle(); err != nil {
				return err
			}
		}
		return f(h)
	})
}

// shared runs f under a shared lock: no name changes during that, and each existing name is durable.
func (s *Store) shared(ctx context.Context, f func() error) error {
	for {
		unsettled := false
		err := s.locked(ctx, false, func(h *held) error {
			if unsettled = h.unsettled; unsettled {
				return nil
			}
			return f()
		})
		if err != nil || !unsettled {
			return err
		}
		if err := s.exclusive(ctx, func(*held) error { return nil }); err != nil {
			return err
		}
	}
}

func (s *Store) locked(ctx context.Context, exclusive bool, f func(h *held) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := s.disk.OpenWrite(stateName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := s.wait(ctx, func() (bool, error) { return file.Lock(exclusive) }); err != nil {
		return err
	}
	b := make([]byte, stateBytes)
	if _, err := file.ReadAt(b, 0); err != nil {
		return err
	}
	st, err := decodeState(b)
	if err != nil {
		return err
	}
	return f(&held{state: st, s: s, f: file})
}

// wait polls for a lock until it gets it, for at most LockTimeout.
func (s *Store) wait(ctx context.Context, lock func() (bool, error)) error {
	end := s.o.Clock.Monotonic() + s.o.LockTimeout
	for pause := time.Duration(firstPoll); ; pause = min(2*pause, longPoll) {
		if locked, err := lock(); err != nil || locked {
			return err
		}
		if s.o.Clock.Monotonic() >= end {
			return errBusy
		}
		if err := s.o.Clock.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}
