package explore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// maxSteps bounds one schedule. None comes near it unless something goes round in circles, and that is a violation.
const maxSteps = 1000

// timeJump is how far a clock jumps when a schedule lets a lease run out.
const timeJump = time.Hour

// world is one run: a bucket, the processes, and what has been promised so far. It is used again for the next.
type world struct {
	o     Options
	all   []*process // maxWriters
	procs []*process // of them, those that take part
	calls context.Context // of the calls that the scheduler itself makes

	st      *mem.Store
	origins map[string]uint64 // by key: what was written there, see origin
	content uint64            // hash of the bucket
	delayed []*request        // in order of sending; nil: arrived

	faultsLeft, crashesLeft, compactionsLeft, collectionsLeft int

	judge judge
	steps int
	trace func(c choice, line string) // nil: nobody reads it
	told  string                      // what the last step's process reported, for the trace
}

func newWorld() *world {
	w := &world{calls: context.Background()}
	for i := range maxWriters {
		w.all = append(w.all, newProcess(w, i))
	}
	return w
}

// close ends the processes' goroutines.
func (w *world) close() {
	w.stop()
	for _, p := range w.all {
		close(p.action)
		<-p.parked
		p.cancel()
	}
}

// stop lets every process unwind that is inside a call.
func (w *world) stop() {
	for _, p := range w.procs {
		if p.pending != nil {
			p.kill()
		}
	}
}

// reset begins another run within bounds, from a template.
func (w *world) reset(o *Options, t *template) {
	w.stop()
	w.o, w.procs = *o, w.all[:o.Writers]
	w.st = mem.New(mem.Options{Clock: stopped{}})
	w.origins = make(map[string]uint64, 16)
	w.content, w.delayed, w.steps = 0, w.delayed[:0], 0
	w.faultsLeft, w.crashesLeft = w.o.Lost, w.o.Crashes
	w.compactionsLeft, w.collectionsLeft = w.o.Compactions, w.o.Collections
	for _, p := range w.procs {
		p.reset(o)
	}
	w.judge.reset(t)
	for _, o := range t.objects {
		if _, err := w.st.Put(w.calls, o.Key, o.Body, o.WriteID, store.IfAbsent()); err != nil {
			panic(fmt.Sprintf("copy the template: %v", err))
		}
		w.wrote(o.Key, mixText(0, o.Key))
	}
}

// wrote notes what stands at a key now; 0: nothing.
func (w *world) wrote(key string, origin uint64) {
	of := mixText(0, key)
	if old, ok := w.origins[key]; ok {
		w.content ^= mix(of, old)
	}
	if origin == 0 {
		delete(w.origins, key)
		return
	}
	w.origins[key] = origin
	w.content ^= mix(of, origin)
}

// hash identifies the state: two runs of equal hash have the same futures, and will be judged alike. Write ids are drawn
// at random, so objects are told apart by who wrote them after having seen what.
func (w *world) hash() uint64 {
	h := mix(w.content, w.judge.hash)
	h = mix(h, uint64(w.faultsLeft)<<48|uint64(w.crashesLeft)<<32|uint64(w.compactionsLeft)<<16|uint64(w.collectionsLeft))
	for i, r := range w.delayed {
		if r != nil {
			h = mix(mix(h, uint64(i)), r.origin)
		}
	}
	for _, p := range w.procs {
		h = mix(h, p.seen)
		if p.pending != nil {
			h = mix(h, 1)
		}
	}
	return h
}

// enabled returns the choices that can be made.
func (w *world) enabled() set {
	var s set
	for i, p := range w.procs {
		who := uint8(i)
		add := func(k kind, ok bool) {
			if ok {
				s |= choice{k, who}.bit()
			}
		}
		switch r := p.pending; {
		case r != nil:
			add(deliver, true)
			add(early, r.verb == get && isLease(r.key) && w.o.polite)
			add(lose, r.writes() && w.faultsLeft > 0)
			add(delay, r.writes() && w.faultsLeft > 0 && len(w.delayed) < maxDelayed)
			add(crash, r.writes() && w.crashesLeft > 0 && p.opens > 0)
		case p.writer == nil:
			add(begin, p.opens > 0)
		default:
			add(commit, p.appends > 0)
			add(late, p.appends > 0 && w.o.polite)
			add(compact, w.compactionsLeft > 0 && p.writer.uncompacted())
			add(collect, w.collectionsLeft > 0)
			add(release, p.opens > 0 && w.o.polite)
			add(crash, w.crashesLeft > 0 && p.opens > 0)
		}
	}
	for i, r := range w.delayed {
		if r != nil {
			s |= choice{arrive, uint8(i)}.bit()
		}
	}
	return s
}

// footprint tells what a choice that can be made depends on.
func (w *world) footprint(c choice) footprint {
	if c.kind == arrive {
		return footprint{process: -1, access: writes, key: w.delayed[c.who].key}
	}
	f := footprint{process: int(c.who)}
	switch c.kind {
	case lose, delay:
		f.takes = faults
	case crash:
		f.takes = crashes
	case compact:
		f.takes = compactions
	case collect:
		f.takes = collections
	}
	if r := w.procs[c.who].pending; r != nil && (c.kind == deliver || c.kind == early || c.kind == lose) {
		f.key, f.after = r.key, r.after
		f.access = [...]access{get: reads, put: writes, remove: writes, list: lists}[r.verb]
	}
	return f
}

// step makes a choice, which must be enabled, and judges what came of it.
func (w *world) step(c choice) {
	w.steps++
	w.told = ""
	if c.kind == arrive {
		r := w.delayed[c.who]
		w.delayed[c.who] = nil
		line := ""
		if w.trace != nil {
			line = fmt.Sprintf("%s's delayed %s", processName(uint8(r.who)), w.describe(r))
		}
		w.tell(c, line, w.carryOut(r))
		return
	}
	p := w.procs[c.who]
	line := ""
	if w.trace != nil && p.pending != nil {
		line = fmt.Sprintf("%s %s", p.name, w.describe(p.pending))
	}
	switch c.kind {
	case crash:
		w.crashesLeft--
		p.kill()
		w.tell(c, p.name+" dies", reply{})
	case deliver, early:
		w.answer(c, p, line)
	case lose, delay:
		w.fail(c, p, line)
	default:
		switch c.kind {
		case compact:
			w.compactionsLeft--
		case collect:
			w.collectionsLeft--
		case late:
			p.clock.advance(timeJump)
		}
		p.start(c.kind)
		w.tell(c, p.name+" begins to "+c.kind.word(), reply{})
	}
}

// answer carries out a pending call and tells the process.
func (w *world) answer(c choice, p *process, line string) {
	r := w.carryOut(p.pending)
	if p.pending.verb == get && isLease(p.pending.key) && c.kind == deliver {
		p.clock.now = p.clock.now.Add(timeJump) // whoever holds the lease: it has run out
	}
	p.seen = mix(mix(p.seen, uint64(c.kind)), w.outcome(p.pending, r))
	w.finish(c, p, line, r)
}

// fail leaves the sender of a pending write without a reply.
func (w *world) fail(c choice, p *process, line string) {
	w.faultsLeft--
	if c.kind == lose {
		w.carryOut(p.pending)
		line += ", its reply is lost"
	} else {
		later := *p.pending
		later.body = slices.Clone(later.body)
		later.origin = w.origin(p)
		w.delayed = append(w.delayed, &later)
		line += fmt.Sprintf(", delayed as arrive:%d", len(w.delayed))
	}
	p.seen = mix(p.seen, uint64(lose)+50) // the sender cannot tell one from the other
	w.finish(c, p, line, reply{err: store.ErrUnknown})
}

func (w *world) finish(c choice, p *process, line string, r reply) {
	p.resume(r)
	w.tell(c, line, r)
}

// tell gives a line to whoever traces the run.
func (w *world) tell(c choice, line string, r reply) {
	if w.trace == nil {
		return
	}
	switch {
	case errors.Is(r.err, store.ErrConflict):
		line += ": conflict"
	case errors.Is(r.err, store.ErrNotFound):
		line += ": absent"
	}
	if w.told != "" {
		line += "; " + w.told
	}
	w.trace(c, line)
}

// carryOut does a call on the bucket, and lets the judge see what it changed.
func (w *world) carryOut(r *request) reply {
	switch r.verb {
	case get:
		o, err := w.st.Get(w.calls, r.key)
		return reply{object: o, err: err}
	case list:
		var page []store.Attrs
		for a, err := range w.st.List(w.calls, r.key, r.after) {
			if err != nil {
				return reply{err: err}
			}
			page = append(page, a)
		}
		return reply{page: page}
	case remove:
		_, existed := w.origins[r.key]
		err := w.st.Delete(w.calls, r.key)
		if existed && err == nil {
			w.wrote(r.key, 0)
			w.judge.deleted(r.key)
		}
		return reply{err: err}
	default:
		return w.carryOutPut(r)
	}
}

func (w *world) carryOutPut(r *request) reply {
	origin := r.origin
	if origin == 0 {
		origin = w.origin(w.procs[r.who])
	}
	gen, err := w.st.Put(w.calls, r.key, r.body, r.writeID, r.cond)
	if err != nil {
		return reply{err: err}
	}
	if w.judge.isNew(r.key, gen) {
		w.wrote(r.key, origin)
		w.judge.written(r, gen, origin)
	}
	return reply{gen: gen}
}

// origin names what the pending put of a process writes: the same for a repetition under the same write id, otherwise
// another for whatever the process may have seen before.
func (w *world) origin(p *process) uint64 {
	if r := p.pending; r.writeID != p.lastID || r.writeID == "" {
		p.lastID, p.lastOf = r.writeID, mixText(mix(p.seen, 7), r.key)
	}
	return p.lastOf
}

// outcome is a hash of a reply, in which objects are named by their origins.
func (w *world) outcome(r *request, got reply) uint64 {
	h := mixText(uint64(r.verb), r.key)
	switch {
	case got.err == nil && r.verb == list:
		for _, a := range got.page {
			h = mix(h, w.origins[a.Key])
		}
		return h
	case got.err == nil && r.verb != get:
		return mix(h, 3)
	case errors.Is(got.err, store.ErrNotFound):
		return mix(h, 4)
	}
	return mix(h, w.origins[r.key])
}

// describe is a call in words: what is written, without what is drawn at random.
func (w *world) describe(r *request) string {
	text := r.verb.String() + " " + r.key
	if r.verb == put {
		if what := describeBody(r.key, r.body); what != "" {
			text += " (" + what + ")"
		}
	}
	return strings.TrimSuffix(text, "/")
}

// stopped is the store's clock.
type stopped struct{ processClock }

func (stopped) Now() time.Time { return startOfTime }
