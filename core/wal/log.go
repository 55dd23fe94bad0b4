package wal

import (
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

// ErrFenced: a record of a higher epoch has the name of this writer's next one. Serve nothing more; open the database again to take it
// back. Every error of this kind is a *FencedError.
var ErrFenced = errors.New("fenced by a newer epoch")

// FencedError says which record fenced a writer.
type FencedError struct {
	Seq, Epoch uint64 // of that record
	Ours       uint64
	By         string
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("record %d: fenced: %s wrote it in epoch %d, ours is %d", e.Seq, e.By, e.Epoch, e.Ours)
}

// Unwrap makes errors.Is(err, ErrFenced) hold.
func (e *FencedError) Unwrap() error { return ErrFenced }

// TakenError is how Fence fails when another record has the name: continue from that record.
type TakenError struct {
	Record Record
	// Undecided: an earlier try of ours got no answer. It may have been stored, read by a successor, and collected; the record that is
	// there now may be a dead fence, from an opener that was stalled.
	Undecided bool
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("record %d: there is a %v record of epoch %d by %s", e.Record.Seq, e.Record.Kind, e.Record.Epoch, e.Record.Writer)
}

// Defaults of Options.
const (
	DefaultDeadline = 30 * time.Second
	firstPause      = 20 * time.Millisecond
	maxPause        = time.Second
	uploads         = 4 // parts in flight
)

// Options are options of a Log.
type Options struct {
	Epoch      uint64
	DatabaseID string
	Writer     string
	// Deadline is how long one append may stay undecided before it fails with store.ErrUnknown. 0: DefaultDeadline.
	Deadline time.Duration
	Clock    clock.Clock   // nil: the system clock
	Hook     point.Hook    // nil: none
	WriteID  func() string // nil: store.NewWriteID
}

// Log appends records, for one writer, one at a time. It is not safe for concurrent use.
type Log struct {
	st   store.Store
	o    Options
	tail Position
	z    *zstd.Encoder
	busy atomic.Bool
	dead error
}

// NewLog continues a log after tail. It sends no request. Error: store.ErrInvalid (options).
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

// Tail is the position of the last record known to be in the log.
func (l *Log) Tail() Position { return l.tail }

// Epoch is the writer's epoch.
func (l *Log) Epoch() uint64 { return l.o.Epoch }

// Append makes operations durable as the next record. It returns:
//
//	nil               durable: acknowledge it
//	ErrFenced         another writer has the database; what was appended is not in the log and never will be, unless the
//	                  error is also store.ErrUnknown
//	store.ErrUnknown  not decided before the deadline, or fenced after a try without an answer; it may be in the log. Never
//	                  report it as failed
//	others            the record is not in the log (denied, invalid), or the log is damaged (ErrCorrupt)
//
// After any error the log appends nothing more. A second append while one is in flight is a bug in the caller, and panics.
func (l *Log) Append(ctx context.Context, ops []Op) (Position, error) {
	at, err := l.add(ctx, Data, ops)
	var taken *TakenError
	if errors.As(err, &taken) {
		r := taken.Record
		if r.Epoch > l.o.Epoch {
			err = &FencedError{Seq: r.Seq, Epoch: r.Epoch, Ours: l.o.Epoch, By: r.Writer}
			if taken.Undecided {
				err = fmt.Errorf("%w: an earlier try, which got no answer, may have been stored there: %w", store.ErrUnknown, err)
			}
		} else {
			err = fmt.Errorf("%w: %w, and ours is %d", ErrCorrupt, err, l.o.Epoch)
		}
		l.dead = err
	}
	return at, err
}

// Fence appends a fence of the log's epoch. If another record has the name, the error is a *TakenError, and the log can continue after that
// record (Advance). Other errors: those of Append.
func (l *Log) Fence(ctx context.Context) (Position, error) {
	at, err := l.add(ctx, Fence, nil)
	var taken *TakenError
	if errors.As(err, &taken) {
		l.dead = nil
	}
	return at, err
}

// Advance moves the tail to a record that was read, and raises the epoch above that record's. It is for an opener that has not fenced yet.
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

// putParts uploads the parts of a large record. They are garbage until a record names them.
func (l *Log) putParts(ctx context.Context, r Record, parts [][]byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploads)
	for n, p := range parts {
		g.Go(func() error {
			if err := l.o.Hook.Fire(ctx, point.WalBeforePart); err != nil {
				return err
			}
			key := partKey(r.Epoch, r.WriteID, n)
			if err := l.create(ctx, key, p, r.WriteID); err != nil {
				return fmt.Errorf("record %d: upload part %d: %w", r.Seq, n, err)
			}
			return l.o.Hook.Fire(ctx, point.WalAfterPart)
		})
	}
	return g.Wait()
}

// put creates the record's object, or finds out whose record has the name.
func (l *Log) put(ctx context.Context, r Record, body []byte) error {
	before, after := point.WalBeforePut, point.WalAfterPut
	if r.Kind == Fence {
		before, after = point.FenceBeforePut, point.FenceAfterPut
	}
	if err := l.o.Hook.Fire(ctx, before); err != nil {
		return err
	}
	key := Key(r.Seq)
	err := l.create(ctx, key, body, r.WriteID)
	var other *store.ExistsError
	switch {
	case errors.As(err, &other):
		f, decodeErr := decodeFrame(other.Object.Body)
		if decodeErr != nil {
			return fmt.Errorf("append record %d: read the object at %s: %w", r.Seq, key, decodeErr)
		}
		if f.record.DatabaseID != r.DatabaseID {
			return fmt.Errorf("append record %d: %w: it belongs to %s, this is %s", r.Seq, ErrForeign, f.record.DatabaseID, r.DatabaseID)
		}
		return &TakenError{Record: f.record, Undecided: other.Undecided}
	case err != nil:
		return fmt.Errorf("append record %d: %w", r.Seq, err)
	}
	return l.o.Hook.Fire(ctx, after)
}

// create makes an object of the log, once (store.CreateOnce): the write id is in a record's body, and in a part's key.
func (l *Log) create(ctx context.Context, key string, body []byte, writeID string) error {
	return store.CreateOnce(ctx, l.st, key, body, writeID, store.Bounds{
		Clock: l.o.Clock, Within: l.o.Deadline, Pause: firstPause, MaxPause: maxPause,
	})
}

// sum is the hash of a part.
func sum(b []byte) [32]byte { return sha256.Sum256(b) }
