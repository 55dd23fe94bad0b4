package wal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// ErrFenced: a record of a higher epoch stands where this writer's next one would be. Serve nothing more; open the
// database again if wanted. Every error of this kind is a *FencedError.
var ErrFenced = errors.New("fenced by a newer epoch")

// FencedError says by whom.
type FencedError struct {
	Seq, Epoch uint64 // of the record that stands there
	Ours       uint64
	By         string
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("record %d: fenced: %s has written there in epoch %d, ours is %d", e.Seq, e.By, e.Epoch, e.Ours)
}

// Unwrap makes errors.Is(err, ErrFenced) hold.
func (e *FencedError) Unwrap() error { return ErrFenced }

// TakenError is how a fence's append ends when another record stands there: read on from it.
type TakenError struct {
	Record Record
	// Undecided: an earlier try of ours had no answer. It may have been stored, read on by a successor, and collected, and
	// what stands there now may be the dead fence of an opener that was stalled.
	Undecided bool
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("record %d: a %v record of epoch %d by %s stands there", e.Record.Seq, e.Record.Kind, e.Record.Epoch, e.Record.Writer)
}

// Defaults of Options.
const (
	DefaultDeadline = 30 * time.Second
	firstPause      = 20 * time.Millisecond
	maxPause        = time.Second
	uploads         = 4 // parts in flight
)

// Options of a Log.
type Options struct {
	Epoch      uint64
	DatabaseID string
	Writer     string
	// Deadline is how long one append may stay undecided; 0: DefaultDeadline. Past it: store.ErrUnknown.
	Deadline time.Duration
	Clock    clock.Clock   // nil: the system's
	Hook     point.Hook    // nil: none
	WriteID  func() string // nil: store.NewWriteID
}

// Log appends. It is one writer's, and has one append in flight at most.
type Log struct {
	st   store.Store
	o    Options
	tail Position
	z    *zstd.Encoder
	busy atomic.Bool
	dead error
}

// NewLog continues a log behind tail.
func NewLog(st store.Store, tail Position, o Options) (*Log, error) {
	if o.Epoch == 0 || o.DatabaseID == "" {
		return nil, fmt.Errorf("open the log: %w: epoch %d, database %q", store.ErrInvalid, o.Epoch, o.DatabaseID)
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.WriteID == nil {
		o.WriteID = store.NewWriteID
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(pieceBytes), zstd.WithZeroFrames(false))
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return &Log{st: st, o: o, tail: tail, z: z}, nil
}

// Tail is the last record known.
func (l *Log) Tail() Position { return l.tail }

// Epoch is the writer's.
func (l *Log) Epoch() uint64 { return l.o.Epoch }

// Append makes operations durable as the next record. Its ends:
//
//	nil               durable: acknowledge it
//	ErrFenced         another writer has the database; what was appended is not in the log and never will be, unless the
//	                  error is store.ErrUnknown too
//	store.ErrUnknown  not decided before the deadline, or fenced after a try without an answer; it may be in the log. Never
//	                  report it as failed
//	others            the record is not in the log (denied, invalid), or the log is damaged (ErrCorrupt)
//
// After any error the log appends nothing more. A second append while one is in flight is a bug of the caller and
// panics.
func (l *Log) Append(ctx context.Context, ops []Op) (Position, error) {
	at, err := l.add(ctx, Data, ops)
	var taken *TakenError
	if errors.As(err, &taken) {
		r := taken.Record
		if r.Epoch > l.o.Epoch {
			err = &FencedError{Seq: r.Seq, Epoch: r.Epoch, Ours: l.o.Epoch, By: r.Writer}
			if taken.Undecided {
				err = fmt.Errorf("%w: a try without an answer may have been stored there before: %w", store.ErrUnknown, err)
			}
		} else {
			err = fmt.Errorf("%w: %w, and ours is %d", ErrCorrupt, err, l.o.Epoch)
		}
		l.dead = err
	}
	return at, err
}

// Fence appends a fence of the log's epoch. If another record stands there, the error is a *TakenError and the log can
// go on behind that record (Advance).
func (l *Log) Fence(ctx context.Context) (Position, error) {
	at, err := l.add(ctx, Fence, nil)
	var taken *TakenError
	if errors.As(err, &taken) {
		l.dead = nil
	}
	return at, err
}

// Advance moves the tail to a record that was read, and the epoch to one above it if it is not yet: for an opener
// that has not fenced.
func (l *Log) Advance(r Record) {
	l.tail = Position{Seq: r.Seq, Epoch: r.Epoch, Hash: r.Hash}
	l.o.Epoch = max(l.o.Epoch, r.Epoch+1)
}

// Raise gives an opener that has not written data a higher epoch for its next fence.
func (l *Log) Raise(epoch uint64) { l.o.Epoch = max(l.o.Epoch, epoch) }

func (l *Log) add(ctx context.Context, kind Kind, ops []Op) (Position, error) {
	if !l.busy.CompareAndSwap(false, true) {
		panic("wal: two appends in flight")
	}
	defer l.busy.Store(false)
	if l.dead != nil {
		return Position{}, l.dead
	}
	r := Record{
		Kind: kind, Seq: l.tail.Seq + 1, Epoch: l.o.Epoch, Time: l.o.Clock.Now(), Prev: l.tail.Hash,
		DatabaseID: l.o.DatabaseID, Writer: l.o.Writer, WriteID: l.o.WriteID(), Ops: ops,
	}
	if kind == Fence {
		r.WriteID = FenceID + r.WriteID
	}
	e, err := encode(r, l.z)
	if err == nil {
		err = l.putParts(ctx, r, e.parts)
	}
	if err == nil {
		err = l.put(ctx, r, e.body)
	}
	if err != nil {
		l.dead = err
		return Position{}, err
	}
	l.tail = Position{Seq: r.Seq, Epoch: r.Epoch, Hash: e.hash}
	return l.tail, nil
}

// putParts uploads the parts of a large record. Until the record names them they are nobody's.
func (l *Log) putParts(ctx context.Context, r Record, parts [][]byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploads)
	for n, p := range parts {
		g.Go(func() error {
			if err := l.o.Hook.Fire(ctx, point.WalBeforePart); err != nil {
				return err
			}
			key := partKey(r.Epoch, r.WriteID, n)
			err := l.decide(ctx, key, func() error {
				_, err := l.st.Put(ctx, key, p, r.WriteID, store.IfAbsent())
				return err
			}, p)
			if err != nil {
				return fmt.Errorf("record %d: upload part %d: %w", r.Seq, n, err)
			}
			return l.o.Hook.Fire(ctx, point.WalAfterPart)
		})
	}
	return g.Wait()
}

// put creates the record's object, or finds out whose stands there.
func (l *Log) put(ctx context.Context, r Record, body []byte) error {
	before, after := point.WalBeforePut, point.WalAfterPut
	if r.Kind == Fence {
		before, after = point.FenceBeforePut, point.FenceAfterPut
	}
	if err := l.o.Hook.Fire(ctx, before); err != nil {
		return err
	}
	key := Key(r.Seq)
	err := l.decide(ctx, key, func() error {
		_, err := l.st.Put(ctx, key, body, r.WriteID, store.IfAbsent())
		return err
	}, body)
	var other *otherObject
	switch {
	case errors.As(err, &other):
		f, decodeErr := decodeFrame(other.object.Body)
		if decodeErr != nil {
			return fmt.Errorf("append record %d: what stands at %s: %w", r.Seq, key, decodeErr)
		}
		if f.record.DatabaseID != r.DatabaseID {
			return fmt.Errorf("append record %d: %w: %s has written there, this is %s", r.Seq, ErrForeign, f.record.DatabaseID, r.DatabaseID)
		}
		return &TakenError{Record: f.record, Undecided: other.asked}
	case err != nil:
		return fmt.Errorf("append record %d: %w", r.Seq, err)
	}
	return l.o.Hook.Fire(ctx, after)
}

// otherObject says that an object of another write stands under a key; asked, that some try of ours may have been applied
// before.
type otherObject struct {
	object store.Object
	asked  bool
}

func (o *otherObject) Error() string {
	return fmt.Sprintf("another object stands at %s (write id %q)", o.object.Key, o.object.WriteID)
}

// decide repeats a create-if-absent, the same bytes under the same write id, until it has seen how it ended: nil,
// *otherObject, an error that means it was not applied, or store.ErrUnknown past the deadline.
//
// A conflict is never believed: the conflicting object may be our own, stored by a try whose reply was lost. A 429 on a
// name that should be new may mean that it no longer is. So both mean: look. What stands there is ours if it is these very
// bytes, which hold the write id (a part's key does): metadata beside an object can be lost or edited.
func (l *Log) decide(ctx context.Context, key string, try func() error, body []byte) error {
	end := l.o.Clock.Monotonic() + l.o.Deadline
	pause := firstPause
	asked := false // some try may have been applied
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrThrottled):
			o, lookErr := l.st.Get(ctx, key)
			switch {
			case lookErr == nil && bytes.Equal(o.Body, body):
				return nil
			case lookErr == nil:
				return &otherObject{o, asked}
			case !errors.Is(lookErr, store.ErrNotFound):
				asked, err = true, errors.Join(err, lookErr)
			}
		case errors.Is(err, store.ErrUnknown):
			asked = true
		case !asked:
			return err // refused, and never applied
		}
		if l.o.Clock.Monotonic() >= end {
			return fmt.Errorf("%w: not decided within %v: %w", store.ErrUnknown, l.o.Deadline, err)
		}
		if sleepErr := l.o.Clock.Sleep(ctx, pause); sleepErr != nil {
			return fmt.Errorf("%w: %w: %w", store.ErrUnknown, sleepErr, err)
		}
		pause = min(2*pause, maxPause)
	}
}

// sum is the hash of a part.
func sum(b []byte) [32]byte { return sha256.Sum256(b) }
