package wal

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/store"
)

// ReadOptions are options of Read.
type ReadOptions struct {
	// From is the record before the first one to read: Start, or the position named by the manifest.
	From       Position
	DatabaseID string
	// Parallel is how many records are fetched concurrently; 0: DefaultParallel. 1 makes one request after the other.
	Parallel int
	// Probe finds the end by requesting names until one is absent, instead of by a list: cheaper for a short log.
	Probe bool
}

// Bounds of a reading.
const (
	// DefaultParallel is ReadOptions.Parallel if that is 0.
	DefaultParallel = 32
	// maxInFlight bounds the bytes of records requested and not yet passed to each, not counting one record.
	maxInFlight = 64 << 20
	// maxEager is the largest body, uncompressed, that is opened ahead of its turn. A larger one, or one in parts, is opened when its turn
	// comes, so only one such body is in memory at a time.
	maxEager = 1 << 20
	// downloads is how many parts of one record are fetched concurrently.
	downloads = 8
)

// Read calls each for every record after o.From, in order and on the caller's goroutine, and returns the last one's position. The records
// have consecutive numbers, belong to this database, and each follows from the one before. On an error, each has been called for every
// sound record before it. What was read is authentic only if the manifest's wal_start was the same before and after: see core/takeover.
//
// Errors: ErrCorrupt, ErrNewer, ErrForeign, each naming the record; store.ErrNotFound (a listed record is gone: the log was collected in
// the meantime, read the manifest again); what each returned; the store's and the context's.
func Read(ctx context.Context, st store.Store, o ReadOptions, each func(Record) error) (Position, error) {
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &reader{st: st, o: o, at: o.From, each: each}
	defer r.unpacker.close()
	if o.Probe {
		return r.probe(ctx)
	}
	return r.list(ctx)
}

type reader struct {
	st   store.Store
	o    ReadOptions
	at   Position
	each func(Record) error

	unpacker unpacker
}

// fetched is one record that was read.
type fetched struct {
	record Record
	later  *frame // its body is still to be opened
	err    error
}

// fetch reads one record, and opens its body if that is small.
func (r *reader) fetch(ctx context.Context, seq uint64) fetched {
	o, err := r.st.Get(ctx, Key(seq))
	if err != nil {
		return fetched{err: fmt.Errorf("record %d: %w", seq, err)}
	}
	f, err := decodeFrame(o.Body)
	if err == nil && f.record.Seq != seq {
		err = fmt.Errorf("record %d: %w: the object holds record %d", seq, ErrCorrupt, f.record.Seq)
	}
	if err != nil {
		return fetched{err: fmt.Errorf("%s: %w", Key(seq), err)}
	}
	if f.flags&flagParts != 0 || f.raw > maxEager {
		return fetched{record: f.record, later: f}
	}
	if err := f.open(f.inline, &r.unpacker); err != nil {
		return fetched{err: err}
	}
	return fetched{record: f.record}
}

// finish opens a body whose turn has come.
func (r *reader) finish(ctx context.Context, f *frame) (Record, error) {
	body := f.inline
	if f.flags&flagParts != 0 {
		var err error
		if body, err = r.parts(ctx, f); err != nil {
			return Record{}, err
		}
	}
	err := f.open(body, &r.unpacker)
	return f.record, err
}

// parts fetches the parts of a body, several at a time.
func (r *reader) parts(ctx context.Context, f *frame) ([]byte, error) {
	refs, err := f.parts()
	if err != nil {
		return nil, err
	}
	total := 0
	for _, ref := range refs {
		if total += ref.bytes; total > f.raw { // a body is never larger when stored
			return nil, fmt.Errorf("record %d: %w: parts of more than %d bytes", f.record.Seq, ErrCorrupt, f.raw)
		}
	}
	body, at := make([]byte, total), 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(downloads, r.o.Parallel))
	for n, ref := range refs {
		to := body[at : at+ref.bytes]
		at += ref.bytes
		g.Go(func() error {
			key := partKey(f.record.Epoch, f.record.WriteID, n)
			o, err := r.st.Get(ctx, key)
			if err != nil {
				return fmt.Errorf("record %d: part %s: %w", f.record.Seq, key, err)
			}
			if len(o.Body) != ref.bytes || sum(o.Body) != ref.sum {
				return fmt.Errorf("record %d: part %s: %w: its %d bytes are not those that the record names", f.record.Seq, key, ErrCorrupt, len(o.Body))
			}
			copy(to, o.Body)
			return nil
		})
	}
	return body, g.Wait()
}

// start fetches a record in the background; with Parallel 1, it fetches it before it returns.
func (r *reader) start(ctx context.Context, seq uint64) chan fetched {
	c := make(chan fetched, 1)
	if r.o.Parallel == 1 {
		c <- r.fetch(ctx, seq)
		return c
	}
	go func() { c <- r.fetch(ctx, seq) }()
	return c
}

// listed is a record named by a listing.
type listed struct {
	seq  uint64
	size int64
}

// listing returns the records after o.From up to the first missing one, and what is wrong there.
func (r *reader) listing(ctx context.Context) (records []listed, damage error) {
	for a, err := range r.st.List(ctx, keyPrefix, Key(r.o.From.Seq)) {
		if err != nil {
			return records, fmt.Errorf("list the log: %w", err)
		}
		seq, err := ParseKey(a.Key)
		if err != nil {
			continue // not a record's name; a missing record is noticed by the numbers
		}
		if want := r.o.From.Seq + 1 + uint64(len(records)); seq != want {
			return records, fmt.Errorf("record %d: %w: it is missing, although record %d exists", want, ErrCorrupt, seq)
		}
		records = append(records, listed{seq, a.Size})
	}
	return records, nil
}

// list reads the records named by a listing.
func (r *reader) list(ctx context.Context) (Position, error) {
	records, damage := r.listing(ctx)
	if damage != nil && !errors.Is(damage, ErrCorrupt) {
		return r.at, damage // the listing itself failed
	}
	var window []chan fetched
	var sizes []int64
	inFlight := int64(0)
	for len(records) > 0 || len(window) > 0 {
		for len(records) > 0 && len(window) < r.o.Parallel && (len(window) == 0 || inFlight+records[0].size <= maxInFlight) {
			window, sizes = append(window, r.start(ctx, records[0].seq)), append(sizes, records[0].size)
			inFlight += records[0].size
			records = records[1:]
		}
		got := <-window[0]
		inFlight -= sizes[0]
		window, sizes = window[1:], sizes[1:]
		if err := r.take(ctx, got); err != nil {
			drain(window)
			return r.at, err
		}
	}
	return r.at, damage
}

// drain waits for requests in flight, so that none is left behind.
func drain(window []chan fetched) {
	for _, c := range window {
		<-c
	}
}

// probe requests consecutive names, in a growing window, until one is absent.
func (r *reader) probe(ctx context.Context) (Position, error) {
	var window []chan fetched
	next, width, largest := r.o.From.Seq+1, 1, 1
	for {
		for len(window) < min(width, r.o.Parallel) {
			window, next = append(window, r.start(ctx, next)), next+1
		}
		got := <-window[0]
		window = window[1:]
		if errors.Is(got.err, store.ErrNotFound) && r.absent(got.err) {
			drain(window)
			return r.at, nil
		}
		if err := r.take(ctx, got); err != nil {
			drain(window)
			return r.at, err
		}
		largest = max(largest, got.record.Bytes) // the size of the next ones is not known: assume the largest so far
		width = max(1, min(2*width, r.o.Parallel, maxInFlight/largest))
	}
}

// absent says whether a record is missing, rather than one of its parts.
func (r *reader) absent(err error) bool {
	var op *store.OpError
	if !errors.As(err, &op) {
		return false
	}
	_, parseErr := ParseKey(op.Key[max(0, len(op.Key)-len(keyPrefix)-seqDigits):])
	return parseErr == nil
}

// mayBreak says whether a record may follow a different record than the manifest names. An opener may have fenced after a record that was
// then collected, and whose name a dead fence of another stalled opener had taken. Its fence is then at wal_start, is valid, and refers to
// that other record. A fence carries no operations, so this does no harm.
func (r *reader) mayBreak(rec Record) bool {
	return rec.Kind == Fence && r.at.Seq == r.o.From.Seq && r.at.Seq > 0
}

// take checks that a record follows from the one before, and passes it to each.
func (r *reader) take(ctx context.Context, got fetched) error {
	if got.err != nil {
		return got.err
	}
	rec := got.record
	if err := r.follows(rec); err != nil {
		return err
	}
	if got.later != nil {
		var err error
		if rec, err = r.finish(ctx, got.later); err != nil {
			return err
		}
	}
	if err := r.each(rec); err != nil {
		return err
	}
	r.at = Position{Seq: rec.Seq, Epoch: rec.Epoch, Hash: rec.Hash}
	return nil
}

// follows returns why a record does not follow from the one before; nil: it does.
func (r *reader) follows(rec Record) error {
	switch {
	case rec.DatabaseID != r.o.DatabaseID:
		return fmt.Errorf("record %d: %w: %s, this is %s", rec.Seq, ErrForeign, rec.DatabaseID, r.o.DatabaseID)
	case r.at.Hash != [32]byte{} && rec.Prev != r.at.Hash && !r.mayBreak(rec):
		return fmt.Errorf("record %d: %w: it does not follow from record %d: the hash chain is broken", rec.Seq, ErrCorrupt, r.at.Seq)
	case rec.Epoch < r.at.Epoch:
		return fmt.Errorf("record %d: %w: epoch %d after epoch %d", rec.Seq, ErrCorrupt, rec.Epoch, r.at.Epoch)
	case rec.Kind == Data && rec.Epoch != r.at.Epoch && r.at.Epoch != 0:
		return fmt.Errorf("record %d: %w: data of epoch %d without its fence, after epoch %d", rec.Seq, ErrCorrupt, rec.Epoch, r.at.Epoch)
	}
	return nil
}
