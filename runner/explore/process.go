package explore

import (
	"context"
	"errors"
	"iter"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// errDead is what every call of a process that crashed comes to, until it has unwound.
var errDead = errors.New("the process has crashed")

// verb is an operation of a store.
type verb uint8

const (
	get verb = iota
	put
	remove
	list
)

func (v verb) String() string { return [...]string{"get", "put", "delete", "list"}[v] }

// request is a store call that waits to be carried out.
type request struct {
	verb    verb
	key     string // of a list: the prefix
	after   string
	body    []byte
	writeID string
	cond    store.Cond
	origin  uint64 // names what is written, see world.origin
	who     int    // the process that sent it
}

func (r *request) writes() bool { return r.verb == put || r.verb == remove }

// reply is what a process is told.
type reply struct {
	object store.Object
	gen    store.Gen
	page   []store.Attrs
	err    error
}

// process is one writer, over all its lives. Its protocol code runs in a goroutine of its own, and only while the
// scheduler waits for it: from one store call to the next, or to the end of what it does.
type process struct {
	w     *world
	index int
	name  string

	parked chan struct{} // to the scheduler: waiting at pending, or idle
	action chan kind     // to the goroutine: do that
	answer chan reply    // to the goroutine: the call came to that

	pending *request // nil: idle
	call    request  // what pending points to
	lastID  string   // write id of the last put, and what it wrote
	lastOf  uint64

	dead   bool // crashed, unwinding
	ctx    context.Context
	cancel context.CancelFunc

	clock  processClock
	writer *writer // open as a writer; nil: not open
	acting kind    // what it does, while a call is pending

	opens, appends int    // left
	ids            int    // given out
	seen           uint64 // hash of all that it has been told and has chosen
}

func newProcess(w *world, index int) *process {
	p := &process{
		w: w, index: index, name: processName(uint8(index)),
		parked: make(chan struct{}), action: make(chan kind), answer: make(chan reply),
	}
	go p.run()
	return p
}

// run carries out actions until the channel is closed.
func (p *process) run() {
	for k := range p.action {
		p.perform(k)
		p.dead, p.pending = false, nil
		p.parked <- struct{}{}
	}
	close(p.parked)
}

// reset prepares an idle process for another schedule.
func (p *process) reset(o *Options) {
	p.renew()
	p.writer, p.lastID, p.ids = nil, "", 0
	p.opens, p.appends = o.Opens, o.Appends
	p.seen = mix(uint64(p.index), 1)
	p.clock = processClock{now: startOfTime.Add(time.Duration(p.index) * time.Millisecond)}
}

// renew gives the process a context for its next life.
func (p *process) renew() {
	if p.cancel != nil {
		p.cancel()
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.clock.ctx = p.ctx
}

// start lets an idle process do something, until its first store call.
func (p *process) start(k kind) {
	p.acting = k
	p.seen = mix(p.seen, uint64(k)+100)
	p.action <- k
	<-p.parked
}

// resume answers the pending call and lets the process go on until its next one.
func (p *process) resume(r reply) {
	p.pending = nil
	p.answer <- r
	<-p.parked
}

// kill lets the process die where it is. Its goroutine unwinds: whatever it calls fails.
func (p *process) kill() {
	p.seen = mix(p.seen, 99)
	p.dead = true
	p.cancel()
	if p.pending != nil {
		p.resume(reply{err: errDead})
	}
	p.dead, p.writer = false, nil
	p.renew()
}

// ask parks at a store call until the scheduler answers it.
func (p *process) ask(r request) reply {
	if p.dead {
		return reply{err: &store.OpError{Op: r.verb.String(), Key: r.key, Err: errDead}}
	}
	r.who = p.index
	p.call = r
	p.pending = &p.call
	p.parked <- struct{}{}
	answer := <-p.answer
	if answer.err != nil {
		var op *store.OpError
		if !errors.As(answer.err, &op) {
			answer.err = &store.OpError{Op: r.verb.String(), Key: r.key, Err: answer.err}
		}
	}
	return answer
}

// bucket is the store as one process sees it: every call waits for the scheduler.
type bucket struct{ p *process }

var _ store.Store = bucket{}

func (b bucket) Get(_ context.Context, key string) (store.Object, error) {
	r := b.p.ask(request{verb: get, key: key})
	return r.object, r.err
}

func (b bucket) Put(_ context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	r := b.p.ask(request{verb: put, key: key, body: body, writeID: writeID, cond: cond})
	return r.gen, r.err
}

func (b bucket) Delete(_ context.Context, key string) error {
	return b.p.ask(request{verb: remove, key: key}).err
}

func (b bucket) List(_ context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		r := b.p.ask(request{verb: list, key: prefix, after: after})
		if r.err != nil {
			yield(store.Attrs{}, r.err)
			return
		}
		for _, a := range r.page {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// startOfTime is what every clock starts from.
var startOfTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// processClock is a process's own: it moves when the process sleeps, which takes no time, and when a choice says so.
type processClock struct {
	ctx  context.Context //nolint:containedctx // of the process's life
	now  time.Time
	mono time.Duration
}

var _ clock.Clock = (*processClock)(nil)

func (c *processClock) Now() time.Time           { return c.now }
func (c *processClock) Monotonic() time.Duration { return c.mono }

// advance lets time pass for the process.
func (c *processClock) advance(d time.Duration) {
	c.now = c.now.Add(d)
	c.mono += d
}

func (c *processClock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.advance(max(d, 0))
	return nil
}

// NewTimer returns a timer that has fired: d has passed.
func (c *processClock) NewTimer(d time.Duration) clock.Timer {
	c.advance(max(d, 0))
	ch := make(chan time.Time, 1)
	ch <- c.now
	return firedTimer(ch)
}

type firedTimer chan time.Time

func (t firedTimer) C() <-chan time.Time { return t }
func (t firedTimer) Stop() bool          { return false }

// mix folds a number into a hash (the finaliser of splitmix64).
func mix(h, x uint64) uint64 {
	h += 0x9e3779b97f4a7c15 + x
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func mixText(h uint64, s string) uint64 {
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h, uint64(len(s)))
}
