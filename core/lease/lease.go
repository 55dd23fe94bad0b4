// Package lease says who writes now and until when. It is about liveness only: it keeps two writers out of each other's
// way. Safety comes from the log (core/wal): a writer that wrongly believes it holds the lease is fenced there.
//
//	l, err := lease.Acquire(ctx, lease.Options{Store: st, Holder: id, TTL: 30 * time.Second}, 10*time.Second)
//	err = l.Ensure(ctx)     // at the start of every request: renews if it has run out
//	err = l.Release(ctx)
//
// The object `lease` is JSON, with all fields of State in that order. It is created once and changes by compare and swap
// only; a release clears the holder, unless the lease ran out too long ago for anyone to wait for it. It is never
// deleted: that would restart its history. An object that is not a lease counts as free, since a holder whose lease was
// overwritten has lost it: it is replaced, by a swap of the generation that was read, and Options.Damaged is called.
//
// No background work is needed: a request renews a lease that has run out, and an idle holder sends nothing. Survives: a
// lost reply (the write id tells), a write that is applied after its sender gave up (its write id is remembered), a
// holder that died (the lease runs out), clocks that differ (a holder trusts only its own monotonic clock; a rival that
// takes over too early is a nuisance, not a danger).
package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// Key is the key of the object.
const Key = "lease"

// Format is the format version that this package writes.
const Format = 1

// Errors of leases.
var (
	// ErrLocked: another writer holds the lease. Wait until it expires, or stop the holder. Every such error is a
	// *LockedError.
	ErrLocked = errors.New("the database is locked")
	// ErrLost: the lease was ours and another writer has taken it. Stop serving; open the database again.
	ErrLost = errors.New("the lease was lost")
	// ErrCorrupt: the object is not a lease. Acquire treats it as a free one, and replaces it.
	ErrCorrupt = fmt.Errorf("the lease is damaged: %w", store.ErrCorrupt)
	// ErrNewer: written by a newer version of this program. Upgrade.
	ErrNewer = errors.New("written by a newer version")
)

// LockedError says who holds the lease and until when.
type LockedError struct {
	Holder, Address string
	ExpiresAt       time.Time
}

func (e *LockedError) Error() string {
	text := "locked by " + e.Holder
	if e.Address != "" {
		text += " at " + e.Address
	}
	if !e.ExpiresAt.IsZero() {
		text += " until " + e.ExpiresAt.UTC().Format(time.RFC3339Nano)
	}
	return text + ": wait until it is done, or stop it"
}

// Unwrap makes errors.Is(err, ErrLocked) hold.
func (e *LockedError) Unwrap() error { return ErrLocked }

// State is the content of the object.
type State struct {
	Format   int       `json:"format"`
	Holder   string    `json:"holder"` // empty: released
	Address  string    `json:"address"`
	Acquired time.Time `json:"acquired"`
	Expires  time.Time `json:"expires"`
	WriteID  string    `json:"write_id"`
}

// Bounds of the object.
const (
	MaxBytes = 4 << 10
	maxText  = 512 // holder, address, write id
)

// Encode returns the object's bytes. A state that Decode would refuse is store.ErrInvalid.
func Encode(s State) ([]byte, error) {
	s.Acquired, s.Expires = s.Acquired.UTC().Round(0), s.Expires.UTC().Round(0)
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode the lease: %w: %w", store.ErrInvalid, err)
	}
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the lease: %w: %w", store.ErrInvalid, err)
	}
	if len(body) > MaxBytes {
		return nil, fmt.Errorf("encode the lease: %w: %d bytes, the limit is %d", store.ErrInvalid, len(body), MaxBytes)
	}
	return body, nil
}

// check returns how a state contradicts itself.
func (s State) check() error {
	for _, text := range []struct{ name, value string }{{"holder", s.Holder}, {"address", s.Address}, {"write_id", s.WriteID}} {
		if len(text.value) > maxText {
			return fmt.Errorf("%s has %d bytes, the limit is %d", text.name, len(text.value), maxText)
		}
		if !utf8.ValidString(text.value) {
			return fmt.Errorf("%s %q is not UTF-8", text.name, text.value)
		}
	}
	switch {
	case s.Format != Format:
		return fmt.Errorf("format is %d, want %d", s.Format, Format)
	case s.WriteID == "":
		return errors.New("write_id is empty")
	case s.Holder == "" && s.Address != "":
		return fmt.Errorf("it has an address, %q, but no holder", s.Address)
	}
	return nil
}

// Decode reads the object. It is strict: in a format that this version knows, every field is present once, in State's
// order, and there are no others; a newer format is ErrNewer whatever else it holds. White space is allowed anywhere.
// Errors: ErrCorrupt, ErrNewer.
func Decode(body []byte) (State, error) {
	if len(body) > MaxBytes {
		return State{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrCorrupt, len(body), MaxBytes)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if version.Format > Format {
		return State{}, fmt.Errorf("read the lease: %w: format %d, this program reads up to %d: upgrade it", ErrNewer, version.Format, Format)
	}
	var s State
	if err := json.Unmarshal(body, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	// What the decoder ignores (fields that are missing, duplicated, unknown or spelled differently) changes the
	// encoding.
	want, err := Encode(s)
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, body); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		return State{}, fmt.Errorf("%w: a field is missing, unknown, duplicated, out of order or misspelled", ErrCorrupt)
	}
	return s, nil
}

// Defaults of Options.
const (
	DefaultTTL = 30 * time.Second
	// retry is how long a waiter sleeps between two checks.
	retry = 250 * time.Millisecond
	// maxTries bounds the swaps of one operation against rivals and lost replies.
	maxTries = 16
)

// Options of Acquire.
type Options struct {
	Store   store.Store
	Holder  string // unique: one opening of one process
	Address string // where the holder can be reached; informational
	// Process is the prefix of holders that are earlier openings of this process, which have ended: "host/<id>" of
	// "host/<id>/<opening>", with a random ID of the process. Acquire does not wait for their lease. Empty: there are
	// none.
	Process string
	TTL     time.Duration
	Clock   clock.Clock
	Hook    point.Hook
	WriteID func() string // nil: store.NewWriteID
	// New is called before the object is created, if there is none; its error is Acquire's. Nil: not called.
	New func(context.Context) error
	// Damaged is called with the error about an object that is not a lease and is about to be replaced. Nil: not called.
	Damaged func(error)
	// Waits is called, once for each holder that Acquire waits for, with the longest possible wait. Nil: not called.
	Waits func(held *LockedError, atMost time.Duration)
}

// Lease is an acquired lease. It is safe for concurrent use.
type Lease struct {
	o Options

	swap  turn       // held while the object is being written
	mu    sync.Mutex // guards the fields below, never held during a request
	gen   store.Gen
	until time.Duration // by the monotonic clock, a margin before it expires for others
	at    time.Time     // when it was acquired
	lost  error
	// undecided are writes of ours whose outcome was never seen, oldest first. Each was a swap of the generation that we
	// still hold: one of them may have been applied, or may still be.
	undecided []attempt

	// While acquiring: the generation last seen, and since when, by our monotonic clock; and whether Acquire has looked
	// before.
	seen   store.Gen
	stands time.Duration
	waited bool
}

// turn is a lock whose waiters can give up: its holder waits for the bucket, which may not answer.
type turn chan struct{}

// take waits for the turn. Error: the context's, if the turn has not become free by then.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}: // tried first: a free turn is taken even if ctx has ended
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a write of the lease that is in progress: %w", ctx.Err())
	}
}

func (t turn) end() { <-t }

// attempt is one write.
type attempt struct {
	id    string
	began time.Duration
}

// maxUndecided bounds Lease.undecided. A holder that has dropped one may take a late write of its own for a rival's: it
// then stops serving needlessly, and nothing worse.
const maxUndecided = 256

// Acquire takes the lease; while another holder has it, it waits, for at most wait. Errors: *LockedError, ErrNewer,
// store.ErrUnknown, what New returned, the context's and the store's.
func Acquire(ctx context.Context, o Options, wait time.Duration) (*Lease, error) {
	switch {
	case o.Store == nil || o.Holder == "":
		return nil, fmt.Errorf("acquire the lease: %w: set Store and Holder", store.ErrInvalid)
	case o.TTL == 0:
		o.TTL = DefaultTTL
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.WriteID == nil {
		o.WriteID = store.NewWriteID
	}
	l := &Lease{o: o, swap: make(turn, 1), stands: -1}
	end := o.Clock.Monotonic() + wait
	told := "" // the holder that Waits was last called for
	for tries, first := 0, true; ; first = false {
		l.waited = !first
		err := l.try(ctx)
		var locked *LockedError
		left := end - o.Clock.Monotonic()
		switch {
		case err == nil:
			if err := o.Hook.Fire(ctx, point.LeaseAfterAcquire); err != nil {
				return nil, err
			}
			return l, nil
		case errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrThrottled): // a rival was faster: look again
			if tries++; tries == maxTries {
				return nil, fmt.Errorf("acquire the lease: other processes were faster %d times: %w", tries, err)
			}
			if ended := o.Clock.Sleep(ctx, min(retry, max(left, time.Millisecond))); ended != nil {
				return nil, fmt.Errorf("acquire the lease: %w (the last try: %w)", ended, err)
			}
		case errors.As(err, &locked) && left > 0:
			if o.Waits != nil && told != locked.Holder {
				told = locked.Holder
				o.Waits(locked, left)
			}
			pause := min(retry, left, max(locked.ExpiresAt.Sub(o.Clock.Now()), time.Millisecond))
			if err := o.Clock.Sleep(ctx, pause); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("acquire the lease: %w", err)
		}
	}
}

// try takes the lease if it is free.
func (l *Lease) try(ctx context.Context) error {
	if err := l.o.Hook.Fire(ctx, point.LeaseBeforeAcquire); err != nil {
		return err
	}
	cond := store.IfAbsent()
	o, err := l.o.Store.Get(ctx, Key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if l.o.New != nil {
			if err := l.o.New(ctx); err != nil {
				return err
			}
		}
	case err != nil:
		return err
	default:
		s, err := Decode(o.Body)
		if errors.Is(err, ErrCorrupt) {
			if l.o.Damaged != nil {
				l.o.Damaged(fmt.Errorf("%w; its generation %d is treated as free, and replaced", err, o.Gen))
			}
			s, err = State{}, nil
		}
		if err != nil {
			return err
		}
		if s.Holder != "" && s.Holder != l.o.Holder && !l.o.earlier(s.Holder) && l.o.Clock.Now().Before(s.Expires) && !l.stale(o.Gen) {
			return &LockedError{Holder: s.Holder, Address: s.Address, ExpiresAt: s.Expires}
		}
		cond = store.IfGen(o.Gen)
	}
	if err := l.swap.take(ctx); err != nil {
		return err
	}
	defer l.swap.end()
	l.at = l.o.Clock.Now()
	return l.write(ctx, l.o.Holder, cond)
}

// earlier reports whether a holder is an earlier opening of this process.
func (o Options) earlier(holder string) bool {
	return o.Process != "" && strings.HasPrefix(holder, o.Process+"/")
}

// stale reports whether the lease has not been renewed for a whole TTL while we watched: then its holder's clock is ahead
// of ours, and the expiry time in it means nothing.
func (l *Lease) stale(gen store.Gen) bool {
	now := l.o.Clock.Monotonic()
	if l.stands < 0 || gen != l.seen {
		l.seen, l.stands = gen, now
	}
	return now-l.stands >= l.o.TTL
}

// margin is the part of its time that a holder leaves unused, to allow for clocks that run at different speeds.
func (l *Lease) margin() time.Duration { return l.o.TTL / 10 }

// write swaps the lease. A try without an answer is repeated with the same write id until it is decided. l.swap is held.
//
// It cannot use store.CreateOnce: an object that is not this write may still be ours, an earlier write that was given up
// and applied late (adopt); this write then continues from its generation. And a write may end undecided here: it is
// remembered (doubt), which is enough because a lease is about liveness only.
func (l *Lease) write(ctx context.Context, holder string, cond store.Cond) error {
	began, now := l.o.Clock.Monotonic(), l.o.Clock.Now()
	s := State{Format: Format, Holder: holder, Acquired: l.at, Expires: now.Add(l.o.TTL), WriteID: l.o.WriteID()}
	if holder != "" {
		s.Address = l.o.Address
	} else {
		s.Expires = now
	}
	body, err := Encode(s)
	if err != nil {
		return err
	}
	asked := false // a try of this write may have been applied, or may still be
	for tries := 1; ; tries++ {
		gen, err := l.o.Store.Put(ctx, Key, body, s.WriteID, cond)
		if err == nil {
			l.held(gen, began)
			return nil
		}
		asked = asked || errors.Is(err, store.ErrUnknown)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrUnknown) {
			o, lookErr := l.o.Store.Get(ctx, Key)
			if lookErr == nil && writeID(o) == s.WriteID { // our own, its reply lost
				l.held(o.Gen, began)
				return nil
			}
			if lookErr == nil && tries < maxTries && l.adopt(o) { // an earlier one of ours, applied late
				cond = store.IfGen(o.Gen)
				continue
			}
			if lookErr == nil && errors.Is(err, store.ErrConflict) {
				return err
			}
		}
		if tries == maxTries || !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrThrottled) {
			l.doubt(asked, attempt{s.WriteID, began})
			return err
		}
		if ended := l.o.Clock.Sleep(ctx, retry); ended != nil {
			l.doubt(asked, attempt{s.WriteID, began})
			return fmt.Errorf("%w (the last try: %w)", ended, err)
		}
	}
}

// doubt remembers a write whose outcome was not seen.
func (l *Lease) doubt(asked bool, a attempt) {
	if !asked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.undecided = append(l.undecided, a)
	if n := len(l.undecided); n > maxUndecided {
		l.undecided = l.undecided[n-maxUndecided:]
	}
}

// writeID returns the ID of the write that made an object, from its body: the metadata may be lost or edited. Empty: it
// is not a lease.
func writeID(o store.Object) string {
	s, err := Decode(o.Body)
	if err != nil {
		return ""
	}
	return s.WriteID
}

// adopt reports whether an object is an earlier, undecided write of ours; that is then the lease that we hold.
func (l *Lease) adopt(o store.Object) bool {
	id := writeID(o)
	l.mu.Lock()
	i := slices.IndexFunc(l.undecided, func(a attempt) bool { return a.id == id })
	var a attempt
	if i >= 0 {
		a = l.undecided[i]
	}
	l.mu.Unlock()
	if i >= 0 {
		l.held(o.Gen, a.began)
	}
	return i >= 0
}

// held notes that the lease has been ours since began. Undecided writes were swaps of an earlier generation, so they can
// no longer be applied.
func (l *Lease) held(gen store.Gen, began time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gen, l.until, l.undecided = gen, began+l.o.TTL-l.margin(), nil
}

// ours returns the generation of the lease, or the reason why it is no longer ours.
func (l *Lease) ours() (store.Gen, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gen, l.lost
}

// lose notes why the lease is no longer ours.
func (l *Lease) lose(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = err
	return err
}

// Waited reports whether Acquire had to look more than once: then another holder had the lease in the meantime and may
// have written, and what was read of the database during Acquire may be out of date.
func (l *Lease) Waited() bool { return l.waited }

// Valid reports whether the lease is held now, by this process's own monotonic clock.
func (l *Lease) Valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost == nil && l.o.Clock.Monotonic() < l.until
}

// Fresh reports whether the lease need not be renewed yet: more than half of its time is left. A lease with a short TTL
// may be used up to its last quarter, so that it is not written more often than a bucket allows for one name: a throttled
// renewal may end after the lease has run out, and then every request waits for it.
func (l *Lease) Fresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	written := l.until + l.margin() - l.o.TTL
	due := min(max(l.until-l.o.TTL/2, written+perName), l.until-l.o.TTL/4)
	return l.lost == nil && l.o.Clock.Monotonic() < due
}

// perName is the interval between writes to one name that a bucket allows in the long run: about one per second.
const perName = 1100 * time.Millisecond

// Ensure makes sure that the lease is held: while it is, it sends nothing; if it has run out, it renews it. Call it at
// the start of every request. Errors: ErrLost, the context's, the store's.
func (l *Lease) Ensure(ctx context.Context) error {
	if l.Valid() {
		return nil
	}
	if err := l.swap.take(ctx); err != nil {
		return err
	}
	defer l.swap.end()
	if l.Valid() { // of all that found it run out, another one has renewed it
		return nil
	}
	return l.renew(ctx)
}

// Renew extends the lease by a swap of our own generation, so it fails if another holder has taken it. Errors: ErrLost,
// the context's, the store's.
func (l *Lease) Renew(ctx context.Context) error {
	if err := l.swap.take(ctx); err != nil {
		return err
	}
	defer l.swap.end()
	return l.renew(ctx)
}

func (l *Lease) renew(ctx context.Context) error {
	gen, err := l.ours()
	if err != nil {
		return err
	}
	if err := l.o.Hook.Fire(ctx, point.LeaseBeforeRenew); err != nil {
		return err
	}
	err = l.write(ctx, l.o.Holder, store.IfGen(gen))
	if errors.Is(err, store.ErrConflict) {
		return l.lose(fmt.Errorf("renew: %w%s", ErrLost, l.by(ctx)))
	}
	return err
}

// by names the new holder, for a message.
func (l *Lease) by(ctx context.Context) string {
	o, err := l.o.Store.Get(ctx, Key)
	if err != nil {
		return ""
	}
	s, err := Decode(o.Body)
	if err != nil || s.Holder == "" {
		return ""
	}
	return " to " + s.Holder
}

// Release gives the lease up, so that the next opener need not wait. It does nothing to a lost lease, and sends no
// request for one that ran out so long ago that no opener waits for it, however clocks differ. Errors: the context's, the
// store's; the lease then runs out.
func (l *Lease) Release(ctx context.Context) error {
	if err := l.swap.take(ctx); err != nil {
		return err
	}
	defer l.swap.end()
	gen, lost := l.ours()
	if lost != nil {
		return nil
	}
	if l.longGone() {
		_ = l.lose(fmt.Errorf("%w: it expired, and was not renewed", ErrLost))
		return nil
	}
	if err := l.o.Hook.Fire(ctx, point.LeaseBeforeRelease); err != nil {
		return err
	}
	err := l.write(ctx, "", store.IfGen(gen))
	_ = l.lose(fmt.Errorf("%w: it was released", ErrLost))
	if errors.Is(err, store.ErrConflict) {
		return nil // another holder has already taken it
	}
	return err
}

// clocksApart is the largest expected difference between clocks. If they differ by more, the next opener waits as for a
// dead holder: until the lease has not changed for its TTL.
const clocksApart = time.Minute

// longGone reports whether the lease ran out more than clocksApart ago. It is false while a write is undecided, which may
// have extended the lease.
func (l *Lease) longGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.undecided) == 0 && l.o.Clock.Monotonic() > l.until+l.margin()+clocksApart
}
