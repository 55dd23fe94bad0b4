// Package passing is a clock that several processes share, and that a test advances instead of waiting in real time.
//
//	f, err := passing.Create(path)              // in the test
//	f.Pass(20 * time.Minute)                    // advances both readings of every clock that is opened at path
//	f.Step(-90 * time.Second)                   // moves only the wall clocks: like a step of NTP
//
//	clk, err := passing.Open(path)              // in a process under test
//	same, err := passing.FromEnvironment()      // the same, with the path in BLOBPGLITE_PASSING
//
// A clock adds the time skipped, which is in a mapped file, to the system's clock, so every reading sees it immediately. A process that is
// stopped (SIGSTOP) finds the time passed when it continues, as it really would: its timers look again at SIGCONT. Send SIGCONT also to a
// running process, so that its timers notice. Time never runs slower than it really does, and only the wall clock can go backwards.
//
// Waits in real time are not shortened: those in the network, in the kernel, in libraries.
package passing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"blobpglite/core/clock"
)

// Environment is the variable that FromEnvironment reads.
const Environment = "BLOBPGLITE_PASSING"

// fileBytes is the size of two 64-bit words in the machine's byte order: the time skipped, and the wall clock's steps, in nanoseconds.
const fileBytes = 16

// File is the test's side of the shared time.
type File struct {
	path  string
	words *words
	own   *Clock
}

type words struct{ passed, stepped atomic.Int64 }

// Create makes the file.
func Create(path string) (*File, error) {
	if err := os.WriteFile(path, make([]byte, fileBytes), 0o600); err != nil {
		return nil, fmt.Errorf("let time pass: %w", err)
	}
	w, err := mapped(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, words: w, own: newClock(w, false)}, nil
}

// mapped maps the file. It stays mapped as long as the process lives: clocks are read from everywhere.
func mapped(path string) (*words, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("let time pass: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != fileBytes {
		return nil, errors.Join(fmt.Errorf("let time pass: %s is no file of this package", path), err)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, fileBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("let time pass: map %s: %w", path, err)
	}
	return (*words)(unsafe.Pointer(&b[0])), nil
}

// Pass advances every clock of the file by d.
func (f *File) Pass(d time.Duration) {
	f.words.passed.Add(int64(max(d, 0)))
	f.own.look()
}

// Reach advances every clock until Passed is d.
func (f *File) Reach(d time.Duration) { f.Pass(d - f.Passed()) }

// Passed is how far the clocks have been advanced so far.
func (f *File) Passed() time.Duration { return time.Duration(f.words.passed.Load()) }

// Step sets by how much the wall clocks of the processes are wrong from now on.
func (f *File) Step(off time.Duration) { f.words.stepped.Store(int64(off)) }

// Clock returns a clock with the right time: what has passed counts, steps do not.
func (f *File) Clock() clock.Clock { return f.own }

// Variable is the environment setting, NAME=value, through which FromEnvironment finds the file.
func (f *File) Variable() string { return Environment + "=" + f.path }

// Clock is a clock.Clock of a process under test.
type Clock struct {
	base  clock.Clock
	words *words
	steps bool // steps of the wall clock are seen

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when timers must look again
}

func newClock(w *words, steps bool) *Clock {
	return &Clock{base: clock.System(), words: w, steps: steps, changed: make(chan struct{})}
}

// Open opens the clock of a process under test. From then on its timers look again at SIGCONT.
func Open(path string) (*Clock, error) {
	w, err := mapped(path)
	if err != nil {
		return nil, err
	}
	c := newClock(w, true)
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	go func() {
		for range goesOn {
			c.look()
		}
	}()
	return c, nil
}

// FromEnvironment opens the clock named by the environment; if it names none, it returns the system's clock.
func FromEnvironment() (clock.Clock, error) {
	path := os.Getenv(Environment)
	if path == "" {
		return clock.System(), nil
	}
	return Open(path)
}

// look makes timers look again.
func (c *Clock) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// again returns a channel that closes when timers must look again.
func (c *Clock) again() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Now implements clock.Clock.
func (c *Clock) Now() time.Time {
	off := c.words.passed.Load()
	if c.steps {
		off += c.words.stepped.Load()
	}
	return c.base.Now().Add(time.Duration(off))
}

// Monotonic implements clock.Clock.
func (c *Clock) Monotonic() time.Duration {
	return c.base.Monotonic() + time.Duration(c.words.passed.Load())
}

type timer struct {
	fire chan time.Time
	stop chan struct{}
	once sync.Once
	done atomic.Bool
}

// NewTimer implements clock.Clock.
func (c *Clock) NewTimer(d time.Duration) clock.Timer {
	t := &timer{fire: make(chan time.Time, 1), stop: make(chan struct{})}
	if d <= 0 {
		t.done.Store(true)
		t.fire <- c.Now()
		return t
	}
	go t.run(c, c.Monotonic()+d)
	return t
}

func (t *timer) run(c *Clock, until time.Duration) {
	for {
		again := c.again() // before the reading: nothing is missed
		left := until - c.Monotonic()
		if left <= 0 {
			if t.done.CompareAndSwap(false, true) {
				t.fire <- c.Now()
			}
			return
		}
		base := c.base.NewTimer(left)
		select {
		case <-base.C():
		case <-again:
		case <-t.stop:
		}
		base.Stop()
		if t.done.Load() {
			return
		}
	}
}

func (t *timer) C() <-chan time.Time { return t.fire }

func (t *timer) Stop() bool {
	was := t.done.CompareAndSwap(false, true)
	t.once.Do(func() { close(t.stop) })
	return was
}

// Sleep implements clock.Clock.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
