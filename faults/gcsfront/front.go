// Package gcsfront is a faithful, faulty Google Cloud Storage in one process: an http.Handler of ours around an embedded
// fake-gcs-server.
//
//	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{"bucket"}, Seed: 1, Rules: []gcsfront.Rule{
//		{Op: gcsfront.OpPut, KeyClass: "manifest", Phase: gcsfront.After, Every: 3, Do: gcsfront.Lose},
//	}})
//	base, stop, err := front.Serve(ctx)
//	defer stop()
//	st, err := gcs.Open(ctx, gcs.Options{Bucket: "bucket", Endpoint: base})
//
// A request passes through
//
//	read the body to its end -> half the latency, rules of phase before -> rate limit -> conditions, the emulator
//	  (one mutation at a time) -> rules of phase after, half the latency -> reply
//
// It corrects the emulator in these respects: an upload aborted by the client publishes nothing, and a slow one delays no other request;
// conditions on generations hold on every verb; generations are unique and rise; a page of a list ends at 1,000 objects; a patch cannot
// undo a swap. What it cannot correct it refuses with 501: resumable uploads, conditions on metagenerations, the XML API, batches,
// versions, delimiters, and every unknown parameter. It adds one thing to the JSON API: replies with a body carry the object's custom
// metadata, as the XML API's do.
//
// It does not emulate the service's real latency (only a model of it), partial outages, soft delete, or permissions.
package gcsfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/faults/model"
)

// Bounds.
const (
	// MaxRequestBytes bounds the body of a request: the largest object and its envelope. Beyond it: 413.
	MaxRequestBytes = store.MaxBodyBytes + 1<<20

	headerTimeout = 30 * time.Second // for the headers of a request to arrive
)

// Latency and Rate are the models shared by this front and the other injectors.
type (
	Latency = model.Latency
	Rate    = model.Rate
)

// Options configures a Front.
type Options struct {
	Buckets []string    // created empty; at least one
	Clock   clock.Clock // latency, delays and the rate limit; nil: the system clock
	Seed    uint64      // of latencies and of rules with a probability
	Latency *Latency    // nil: none is added
	Rate    *Rate       // limit per object name; nil: none
	Rules   []Rule      // faults, tried in order
	// Observe is called for each request that tried to change something, in the order in which the changes took place, before its reply
	// leaves. It must not call the Front. Nil: not called.
	Observe func(Change)
}

// Front is the handler. Create it with New; it is safe for concurrent use.
type Front struct {
	emulator *fakestorage.Server
	buckets  []string
	handler  http.Handler // of the emulator
	clock    clock.Clock
	latency  *model.Sampler
	limiter  *model.Limiter
	rules    *rules
	observe  func(Change)
	cuts     atomic.Int64 // power cuts so far
	muted    atomic.Bool
	unheard  atomic.Int64

	// mu serialises mutations against everything else in the emulator.
	mu         sync.RWMutex
	lastMicros int64 // no generation given so far is above it; guarded by mu

	// life ends when Serve is stopped, which ends waits inside requests. A client that hangs up does not end them: its request is on its
	// way and will arrive.
	life context.Context
	stop context.CancelFunc

	requests, refused                           atomic.Int64
	classA, classB, deletes, bytesUp, bytesDown atomic.Int64

	asked sync.Map // class_folder to *atomic.Int64: the billed requests
}

// New starts the emulator in memory, without a listener. An unusable option is an error that names it.
func New(o Options) (*Front, error) {
	if len(o.Buckets) == 0 {
		return nil, errors.New("start storage front: no bucket is named: at least one is needed")
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	checked, err := newRules(o.Rules, o.Seed)
	if err != nil {
		return nil, fmt.Errorf("start storage front: %w", err)
	}
	limiter, err := model.NewLimiter(o.Rate, o.Clock)
	if err != nil {
		return nil, fmt.Errorf("start storage front: %w", err)
	}
	latency, err := model.NewSampler(o.Latency, o.Seed)
	if err != nil {
		return nil, fmt.Errorf("start storage front: %w", err)
	}
	emulator, err := newEmulator(o.Buckets)
	if err != nil {
		return nil, fmt.Errorf("start storage front: %w", err)
	}
	f := &Front{
		emulator: emulator, buckets: o.Buckets, handler: emulator.HTTPHandler(),
		clock: o.Clock, latency: latency, limiter: limiter, rules: checked, observe: o.Observe,
	}
	f.life, f.stop = context.WithCancel(context.Background())
	return f, nil
}

// newEmulator starts a bare emulator: memory backend (the one on files loses acknowledged objects), no listener.
func newEmulator(buckets []string) (*fakestorage.Server, error) {
	emulator, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	if err != nil {
		return nil, err
	}
	for _, bucket := range buckets {
		emulator.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	}
	return emulator, nil
}

// Serve listens on a free port of the loopback interface until stop is called or ctx is done. base is the URL for gcs.Options.Endpoint.
// stop cuts requests in flight, waits for them, and may be called again. A Front serves once.
func (f *Front) Serve(ctx context.Context) (base string, stop func(), err error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("serve storage front: %w", err)
	}
	var gate sync.RWMutex // held for reading by every request in flight
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			gate.RLock()
			defer gate.RUnlock()
			f.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          log.New(io.Discard, "", 0), // clients are meant to hang up
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	var once sync.Once
	end := func() {
		once.Do(func() {
			f.stop()
			_ = server.Close() // the listener's error is of no use
			<-served
			gate.Lock()
			defer gate.Unlock()
		})
	}
	unhook := context.AfterFunc(ctx, end)
	return "http://" + listener.Addr().String(), func() { unhook(); end() }, nil
}

// ServeHTTP answers one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	cuts := f.cuts.Load()
	q, problem := parse(r)
	if problem != nil {
		f.refused.Add(1)
		f.send(w, problem, effect{})
		return
	}
	body, problem := readBody(w, r)
	if problem == nil {
		problem = q.readEnvelope(r, body)
	}
	if problem != nil {
		f.refused.Add(1)
		f.send(w, problem, effect{})
		return
	}
	delay := f.latency.Sample(q.op.work(), int64(len(body)))
	before := f.rules.before(q)
	f.wait(delay/2 + before.delay)
	if before.action != "" {
		f.send(w, before.reply(), before)
		return
	}
	reply := f.apply(r, q, body, cuts)
	f.bill(q, reply)
	if q.op == OpGet { // its body comes back
		delay = f.latency.Sample(q.op.work(), int64(len(reply.body)))
	}
	after := f.rules.after(q, reply)
	f.wait(delay - delay/2 + after.delay)
	if f.muted.Load() {
		f.unheard.Add(1)
		after.action = Lose
	}
	if after.status() != 0 {
		reply = after.reply()
	}
	f.send(w, reply, after)
}

// wait lets time pass, unless the front is stopped.
func (f *Front) wait(d time.Duration) { _ = f.clock.Sleep(f.life, d) }

// readBody reads the request's body completely, so that what is forwarded is whole. A client that gives up halfway has sent nothing.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *reply) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, failure(http.StatusRequestEntityTooLarge, "the request's body is above the limit of %d bytes", int64(MaxRequestBytes))
	case err != nil:
		panic(http.ErrAbortHandler) // closes the connection; the client has gone
	}
	return body, nil
}

// Counters counts what a Front has served.
type Counters struct {
	store.Ops       // as the service bills them: requests that were applied or answered, even if the reply was lost
	Requests  int64 // every request that arrived
	Refused   int64 // requests answered with an error, not counting those from rules
}

// Counters returns the counts so far.
func (f *Front) Counters() Counters {
	return Counters{
		Ops: store.Ops{
			ClassA:    f.classA.Load(),
			ClassB:    f.classB.Load(),
			Delete:    f.deletes.Load(),
			BytesUp:   f.bytesUp.Load(),
			BytesDown: f.bytesDown.Load(),
		},
		Requests: f.requests.Load(),
		Refused:  f.refused.Load(),
	}
}

// Asked returns the billed requests, by class (a, b, delete) and folder below a database's prefix: a_wal, b_page.
func (f *Front) Asked() map[string]int64 {
	all := map[string]int64{}
	f.asked.Range(func(key, n any) bool {
		all[key.(string)] = n.(*atomic.Int64).Load()
		return true
	})
	return all
}

// folderOf is what a request is about: the part of a key, or of a list's prefix, after the database's prefix.
func folderOf(q *request) string {
	for part := range strings.SplitSeq(q.key, "/") {
		switch part {
		case "wal", "page", "base", "part", "manifest", "lease":
			return part
		}
	}
	return "other"
}

// Fired returns, for each rule in order, how often it matched and fired. A rule that never fired tested nothing.
func (f *Front) Fired() []Fired { return f.rules.fired() }

// bill counts an applied request. Source: cloud.google.com/storage/pricing, read November 2026: class A is upload, list,
// patch, compose, copy; class B reads; deletes are free; errors are not charged.
func (f *Front) bill(q *request, r *reply) {
	if r.status >= http.StatusMultipleChoices {
		f.refused.Add(1)
		return
	}
	class := "a"
	switch q.op {
	case OpGet, OpStat, OpBucket:
		class = "b"
		f.classB.Add(1)
	case OpDelete:
		class = "delete"
		f.deletes.Add(1)
	default:
		f.classA.Add(1)
	}
	n, _ := f.asked.LoadOrStore(class+"_"+folderOf(q), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	switch q.op {
	case OpGet:
		f.bytesDown.Add(int64(len(r.body)))
	case OpPut:
		f.bytesUp.Add(q.contentBytes)
	}
}
