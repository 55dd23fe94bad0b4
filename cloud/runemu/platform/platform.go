// Package platform is the Cloud Run emulator. It does to real processes what Cloud Run does to containers: it starts them for requests,
// freezes them between requests, stops idle ones, switches revisions with both alive, backs off after crashes, and adds up the bill.
//
//	p, err := platform.New(platform.Options{Revision: platform.Revision{Name: "one", Program: "pgserve", Args: flags}})
//	http.Serve(listener, p)                          // the front
//	err = p.Deploy(ctx, platform.Revision{...})      // the next revision: it starts, then the old one is told to end
//	bill := p.Bill()
//	err = p.Close(ctx)
//
// The life of an instance:
//
//	starting ──► ready ──► draining ──► gone          starting: its process runs, its port does not answer yet
//	                │  ▲                              ready, no request: frozen (SIGSTOP), unless CPU is always on
//	                └──┘ frozen, thawed               draining: out of rotation, SIGTERM, Grace, SIGKILL
//
// A request goes to a ready instance with room (Concurrency), or queues for one; an instance is started for it if the limit allows
// (MaxInstances). While a new revision takes over, that limit is briefly exceeded, as on Cloud Run.
//
// Facts and prices are those of cloud/README.md. It does not emulate gVisor, the network, the streaming of images, or CPU that is merely
// slow: a frozen process does nothing at all, while Cloud Run may give it a little CPU.
package platform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// CPU says when an instance has CPU.
type CPU string

// The modes.
const (
	InRequests CPU = "requests" // only while it serves, starts or ends: request-based billing
	Always     CPU = "always"   // as long as it lives: instance-based billing
)

// valid rejects anything that is not a mode; empty is valid.
func (c CPU) valid() error {
	switch c {
	case "", InRequests, Always:
		return nil
	}
	return fmt.Errorf("CPU %q: it must be requests or always", c)
}

// Defaults of Options.
// Source: cloud.google.com/run/docs (container-contract, tips, max-instances), read November 2026.
const (
	DefaultConcurrency  = 80
	DefaultGrace        = 10 * time.Second
	DefaultIdle         = 15 * time.Minute
	DefaultStartTimeout = 4 * time.Minute
	minQueue            = 10 * time.Second // or 3.5 times the mean start, whichever is more
	queueFactor         = 3.5
	maxBackoff          = time.Minute
)

// Revision is a deployed program with its arguments and environment.
type Revision struct {
	Name    string
	Program string
	Args    []string
	Env     []string // in addition to this process's own
	// CPU and MemoryMiB override those of Options for its instances; the bill follows Options. Zero: those of Options.
	CPU       CPU
	MemoryMiB int
}

// Options are options of New. Revision is required.
type Options struct {
	Revision                   Revision
	Concurrency                int
	MaxInstances, MinInstances int // MaxInstances 0: 1
	CPU                        CPU // empty: InRequests
	// Share is the fraction of time that a process runs while it has CPU: 0.5 is half a vCPU. 0: 1.
	Share float64
	// VCPU and MemoryMiB are what is billed; MemoryMiB is also the limit: a process that exceeds it is killed. 0: 1 and 512.
	VCPU      float64
	MemoryMiB int
	// Idle is how long an instance without requests is kept. Grace is the time between SIGTERM and SIGKILL.
	Idle, Grace time.Duration
	// StartDelay is added before a process starts: the container's own start. StartTimeout is how long its port may take to answer.
	StartDelay, StartTimeout time.Duration
	// MaxQueue is how long a request waits for an instance; 0: as Cloud Run does.
	MaxQueue time.Duration
	// Event is called with everything that happens, from any goroutine. Nil: not called.
	Event func(Event)
	// Passed is called with how much time Pass has skipped so far, before any process continues, so that the processes' clock can be moved
	// too. Nil: Pass moves only this package's time.
	Passed func(time.Duration)
}

// Event is something that happened to an instance.
type Event struct {
	At       time.Time
	Instance int // 0: the platform
	Revision string
	What     string // start, ready, freeze, thaw, term, kill, exit, crash, out of memory, back off, deploy, refuse, log
	Detail   string
}

func (e Event) String() string {
	s := fmt.Sprintf("%s instance %d (%s) %s", e.At.Format("15:04:05.000"), e.Instance, e.Revision, e.What)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (o *Options) fill() error {
	if o.Revision.Program == "" {
		return errors.New("run the platform: no program was given")
	}
	o.CPU = cmp.Or(o.CPU, InRequests)
	if err := errors.Join(o.CPU.valid(), o.Revision.CPU.valid()); err != nil {
		return fmt.Errorf("run the platform: %w", err)
	}
	if o.Share < 0 || o.Share > 1 {
		return fmt.Errorf("run the platform: a share of %v of the CPU: it must be above 0, and at most 1", o.Share)
	}
	if o.MaxInstances < o.MinInstances || o.MinInstances < 0 || o.Concurrency < 0 {
		if o.MaxInstances != 0 || o.MinInstances > 1 {
			return fmt.Errorf("run the platform: %d to %d instances, concurrency %d", o.MinInstances, o.MaxInstances, o.Concurrency)
		}
	}
	def := func(d *time.Duration, std time.Duration) {
		if *d == 0 {
			*d = std
		}
	}
	def(&o.Idle, DefaultIdle)
	def(&o.Grace, DefaultGrace)
	def(&o.StartTimeout, DefaultStartTimeout)
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	o.MaxInstances = max(o.MaxInstances, 1)
	if o.Share == 0 {
		o.Share = 1
	}
	if o.VCPU == 0 {
		o.VCPU = 1
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 512
	}
	if o.Event == nil {
		o.Event = func(Event) {}
	}
	if o.Revision.Name == "" {
		o.Revision.Name = "rev-1"
	}
	return nil
}

// Platform is a service on the emulated platform, and an http.Handler. It is safe for concurrent use. Make one with New, end it with Close.
type Platform struct {
	o Options

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when an instance may have room
	serving   Revision
	instances map[int]*Instance
	next      int
	closing   bool
	starts    []time.Duration // of the last instances; they determine the queue's limit
	failures  int             // unexpected exits in a row
	until     time.Time       // end of the back-off after them
	ahead     atomic.Int64    // time skipped by Pass, in nanoseconds
	bill      Bill
	wg        sync.WaitGroup
}

// New makes the platform, and starts MinInstances instances. An error says which option is missing or wrong.
func New(o Options) (*Platform, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.Revision.Program); err != nil {
		return nil, fmt.Errorf("run the platform: %w", err)
	}
	p := &Platform{o: o, serving: o.Revision, changed: make(chan struct{}), instances: map[int]*Instance{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for range o.MinInstances {
		p.start(p.serving, "")
	}
	return p, nil
}

// event reports an event. p.mu may be held.
func (p *Platform) event(i *Instance, what, detail string) {
	e := Event{At: p.now(), Revision: p.o.Revision.Name, What: what, Detail: detail}
	if i != nil {
		e.Instance, e.Revision = i.ID, i.Revision.Name
	}
	p.o.Event(e)
}

// wake wakes the requests that wait for an instance. p.mu is held.
func (p *Platform) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// errRefused is an answer from the platform itself, not from an instance.
type errRefused struct {
	status int
	text   string
}

func (e *errRefused) Error() string { return e.text }

// ServeHTTP passes a request to an instance.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.serve(w, r, "") }

// Tagged returns the handler of a revision with a tag, which has an instance of its own, outside the service's limit. That is one way to
// get a second writer.
func (p *Platform) Tagged(rev Revision) http.Handler {
	tag := rev.Name
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if !p.closing && p.pick(tag) == nil && p.count(tag) == 0 {
			p.start(rev, tag)
		}
		p.mu.Unlock()
		p.serve(w, r, tag)
	})
}

func (p *Platform) serve(w http.ResponseWriter, r *http.Request, tag string) {
	i, err := p.acquire(r.Context(), tag)
	if err != nil {
		var refused *errRefused
		if errors.As(err, &refused) {
			p.event(nil, "refuse", refused.text)
			http.Error(w, refused.text, refused.status)
		}
		return
	}
	defer p.release(i)
	i.proxy.ServeHTTP(w, r)
}

// acquire finds an instance with room, and gives it CPU.
func (p *Platform) acquire(ctx context.Context, tag string) (*Instance, error) {
	began := time.Now()
	for {
		p.mu.Lock()
		i, err := p.place(tag)
		if i != nil || err != nil {
			p.mu.Unlock()
			return i, err
		}
		changed, limit := p.changed, p.queueLimit()
		p.mu.Unlock()
		timer := time.NewTimer(limit - time.Since(began))
		select {
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
			return nil, &errRefused{http.StatusTooManyRequests, fmt.Sprintf("no instance was available within %v", limit.Round(time.Millisecond))}
		}
	}
}

// place gives a request its instance, or starts one. p.mu is held.
func (p *Platform) place(tag string) (*Instance, error) {
	if p.closing {
		return nil, &errRefused{http.StatusServiceUnavailable, "the platform is shutting down"}
	}
	i := p.pick(tag)
	if i == nil {
		if left := p.until.Sub(p.now()); left > 0 && tag == "" && p.count(tag) == 0 {
			return nil, &errRefused{http.StatusTooManyRequests, fmt.Sprintf("instances have crashed; none is started for %v", left.Round(time.Millisecond))}
		}
		if tag == "" && p.count(tag) < p.o.MaxInstances {
			p.start(p.serving, "")
		}
		return nil, nil
	}
	p.bill.Requests++
	p.busy(i, 1)
	return i, nil
}

// pick returns a ready instance with room, of the serving revision or of a tag: the busiest one, so that the others can end. p.mu is held.
func (p *Platform) pick(tag string) *Instance {
	var best *Instance
	for _, i := range p.instances {
		if i.state != ready || i.tag != tag || i.requests >= p.o.Concurrency || tag == "" && i.Revision.Name != p.serving.Name {
			continue
		}
		if best == nil || i.requests > best.requests || i.requests == best.requests && i.ID < best.ID {
			best = i
		}
	}
	return best
}

// count is how many instances of the serving revision, or of a tag, are starting or ready. p.mu is held.
func (p *Platform) count(tag string) int {
	n := 0
	for _, i := range p.instances {
		if i.tag == tag && (i.state == starting || i.state == ready) && (tag != "" || i.Revision.Name == p.serving.Name) {
			n++
		}
	}
	return n
}

// queueLimit is how long a request may wait. p.mu is held.
func (p *Platform) queueLimit() time.Duration {
	if p.o.MaxQueue > 0 {
		return p.o.MaxQueue
	}
	var sum time.Duration
	for _, d := range p.starts {
		sum += d
	}
	if len(p.starts) == 0 {
		return minQueue
	}
	return max(minQueue, time.Duration(queueFactor*float64(sum)/float64(len(p.starts))))
}

// release removes a request from its instance.
func (p *Platform) release(i *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy(i, -1)
	p.wake()
}

// Deploy makes a revision the serving one. Its instance starts while the old ones serve; then requests go to it, and the old ones are told
// to end once they have answered their requests. If the new one does not start, the old ones keep serving.
func (p *Platform) Deploy(ctx context.Context, rev Revision) error {
	if err := rev.CPU.valid(); err != nil {
		return fmt.Errorf("deploy %s: %w", rev.Name, err)
	}
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return errors.New("deploy: the platform is shutting down")
	}
	if rev.Name == p.serving.Name {
		p.mu.Unlock()
		return fmt.Errorf("deploy: revision %s is serving already", rev.Name)
	}
	p.event(nil, "deploy", rev.Name)
	i := p.start(rev, "")
	p.mu.Unlock()
	select {
	case <-i.up:
	case <-i.gone:
		return fmt.Errorf("deploy %s: its instance ended before it was ready: %s", rev.Name, i.reason())
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serving = rev
	for _, old := range p.instances {
		if old.tag == "" && old.Revision.Name != rev.Name && (old.state == ready || old.state == starting) {
			p.drain(old)
		}
	}
	p.wake()
	return nil
}

// Instances returns the current instances, in the order in which they were started.
func (p *Platform) Instances() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Status
	for id := 1; id <= p.next; id++ {
		if i := p.instances[id]; i != nil {
			all = append(all, Status{ID: i.ID, Revision: i.Revision.Name, State: string(i.state), Requests: i.requests, Frozen: i.frozen, PID: i.pid(), Address: i.address})
		}
	}
	return all
}

// Status is what an instance is doing.
type Status struct {
	ID              int
	Revision, State string
	Requests        int
	Frozen          bool
	PID             int
	Address         string // host and port
}

// Crash kills an instance, as a fault of the machine would.
func (p *Platform) Crash(id int) error { return p.end(id, true) }

// Shut tells an idle or busy instance to end, as the platform does when it no longer needs it.
func (p *Platform) Shut(id int) error { return p.end(id, false) }

func (p *Platform) end(id int, crash bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.instances[id]
	if i == nil {
		return fmt.Errorf("there is no instance %d", id)
	}
	if crash {
		i.crashed = true
		p.event(i, "crash", "")
		i.kill()
		return nil
	}
	p.drain(i)
	return nil
}

// Gone returns a channel that closes when the instance has ended; nil: there is no such instance any more.
func (p *Platform) Gone(id int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.instances[id]; i != nil {
		return i.gone
	}
	return nil
}

// Close tells all instances to end, and waits for them.
func (p *Platform) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	for _, i := range p.instances {
		p.drain(i)
	}
	p.wake()
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for _, i := range p.instances {
		i.kill()
	}
	p.mu.Unlock()
	<-done
	return ctx.Err()
}
