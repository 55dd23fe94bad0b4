package explore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// Invariant is an invariant of the protocol.
type Invariant string

// The invariants.
const (
	Dense      Invariant = "1 dense and chained"         // from wal_start to the tail
	Once       Invariant = "2 one write a name"          // at each name at most one logical write ever succeeds
	Fenced     Invariant = "3 nothing below a fence"     // no record of epoch < e follows a fence of epoch e
	ByOne      Invariant = "4 epochs up by one"          // in fences; and data only from the writer of the last fence
	Durable    Invariant = "5 acknowledged is present"   // in every later restore
	Prefix     Invariant = "6 a restore is a prefix"     // exactly the log up to the fence, never a mixture
	Layered    Invariant = "7 a layer is a replay"       // of the durable log up to its number
	Restorable Invariant = "8 a full restore succeeds"   // at every moment, collections in the middle included
	OneWriter  Invariant = "9 no second writer"          // a fence in a collected part of the log makes nobody a writer
	AtRest     Invariant = "10 at rest nothing is asked" // here: of the lease, while it is valid
	LeaseSwap  Invariant = "lease: own or free"          // it is renewed and released over one's own, taken when free or run out
	Current    Invariant = "a strict read is current"    // it shows what was acknowledged before it began, by whoever
	Outcome    Invariant = "append: told what is true"   // only "unknown" may be in the log although it was not acknowledged
	Sound      Invariant = "a sound log is called sound" // and a damaged one is never restored
	NoPanic    Invariant = "no panic"
)

// Invariants returns all invariants.
func Invariants() []Invariant {
	return []Invariant{Dense, Once, Fenced, ByOne, Durable, Prefix, Layered, Restorable, OneWriter, AtRest, LeaseSwap, Current, Outcome, Sound, NoPanic}
}

// broken is a violated invariant.
type broken struct {
	Invariant Invariant
	Detail    string
}

func (b *broken) Error() string { return string(b.Invariant) + ": " + b.Detail }

// judge checks what happened against the invariants.
type judge struct {
	w      *world
	broken *broken

	log    []*entry                     // as first written at each name; log[0] is unused
	now    []*entry                     // what is there now; nil: nothing
	tops   []uint64                     // of log: the epoch of the last fence up to there
	by     []string                     // writer of each fence in log
	layers map[string]map[string]string // what indexed returns for each
	pages  map[string][]string          // segments
	man    manifestView
	made   bool // there is a manifest
	lease  leaseView

	acked    map[string]uint64
	order    []string // of acked
	denied   map[string]bool
	changed  bool // since the last step
	tampered bool
}

func newJudge(w *world) *judge {
	return &judge{
		w: w, log: make([]*entry, 1, 16), now: make([]*entry, 1, 16), tops: make([]uint64, 1, 16), by: make([]string, 1, 16),
		layers: map[string]map[string]string{}, pages: map[string][]string{}, acked: map[string]uint64{}, denied: map[string]bool{},
	}
}

// fail records the first violation.
func (j *judge) fail(i Invariant, format string, args ...any) {
	if j.broken == nil {
		j.broken = &broken{i, fmt.Sprintf(format, args...)}
		j.w.note("VIOLATED %v", j.broken)
	}
}

func (j *judge) tail() uint64 { return uint64(len(j.log)) - 1 }

// read records since when a process has seen an unchanged lease.
func (j *judge) read(by *process, c *call) {
	if c.key != lease.Key || by == nil {
		return
	}
	if by.saw == nil {
		by.saw = map[store.Gen]int64{}
	}
	if _, seen := by.saw[c.object.Gen]; !seen {
		by.saw[c.object.Gen] = int64(by.clk.Monotonic())
	}
}

// put is shown each write that the bucket has taken.
func (j *judge) put(by *process, c *call) {
	switch {
	case c.key == lease.Key:
		j.leased(by, c)
		return
	case c.key == manifest.Key:
		j.swapped(c)
	case strings.HasPrefix(c.key, "wal/"):
		j.written(c)
	case strings.HasPrefix(c.key, "base/"):
		j.layered(c)
	case strings.HasPrefix(c.key, base.SegmentPrefix()):
		j.pages[c.key] = strings.Fields(string(c.body))
	}
	j.changed = true
}

// written is shown each record.
func (j *judge) written(c *call) {
	e, err := readRecord(c.body)
	name, _ := strconv.ParseUint(strings.TrimPrefix(c.key, "wal/"), 10, 64)
	if err != nil || e.seq != name {
		j.fail(Dense, "%s: %v", short(c.key), err)
		return
	}
	if e.seq <= j.tail() {
		j.rewritten(e)
		return
	}
	if e.seq > j.tail()+1 {
		j.fail(Dense, "record %d (%v) was written, but there is no record %d", e.seq, e, j.tail()+1)
		return
	}
	if j.denied[e.token] {
		j.fail(Outcome, "record %d (%v) appeared after its writer was told that it never would", e.seq, e)
	}
	j.chained(e)
	j.log, j.now = append(j.log, e), append(j.now, e)
}

// rewritten judges a write at a name that had been written before and was free again.
func (j *judge) rewritten(e *entry) {
	first := j.log[e.seq]
	switch {
	case j.tampered:
	case e.seq >= j.man.WalStart:
		j.fail(Once, "record %d (%v) was written at the name of another (%v), and wal_start is %d", e.seq, e, first, j.man.WalStart)
	case e.id == first.id: // the same request again, late
	case e.fence: // a dead one, of an opener that was stalled
	default:
		j.fail(Once, "record %d (%v) was written at a name that was collected (%v), wal_start is %d: its writer takes it for durable",
			e.seq, e, first, j.man.WalStart)
	}
	j.now[e.seq] = e
}

// chained judges how a new record at the tail follows.
func (j *judge) chained(e *entry) {
	n := len(j.log)
	last, prev := j.log[n-1], sha256.Sum256([]byte(j.man.DatabaseID))
	if last != nil {
		prev = last.hash
	}
	// A fence at wal_start may name a dead fence that its opener had read at the name before.
	follows, top, by := e.prev == prev, j.tops[n-1], j.by[n-1]
	dead := e.fence && n > 1 && e.seq == j.man.WalStart
	switch {
	case j.tampered:
	case !follows && !dead:
		j.fail(Dense, "record %d (%v) does not follow from the record before it (%v)", e.seq, e, last)
	case e.epoch < top:
		j.fail(Fenced, "record %d (%v) follows a fence of epoch %d", e.seq, e, top)
	case e.fence && e.epoch != top+1 && (e.epoch == top || follows && by != e.writer):
		j.fail(ByOne, "record %d (%v) follows epoch %d", e.seq, e, top)
	case !e.fence && e.epoch != top:
		j.fail(ByOne, "record %d (%v) has no fence; the last one is of epoch %d by %s", e.seq, e, top, by)
	case !e.fence && e.writer != by:
		j.fail(OneWriter, "record %d (%v) is by %s, the last fence by %s", e.seq, e, e.writer, by)
	}
	if e.fence {
		top, by = e.epoch, e.writer
	}
	j.tops, j.by = append(j.tops, top), append(j.by, by)
}

// swapped is shown each manifest.
func (j *judge) swapped(c *call) {
	var m manifestView
	if err := json.Unmarshal(c.body, &m); err != nil {
		j.fail(Restorable, "the manifest: %v", err)
		return
	}
	if m.WalStart < j.man.WalStart {
		j.fail(Restorable, "wal_start fell from %d to %d", j.man.WalStart, m.WalStart)
	}
	if j.made && m.DatabaseID != j.man.DatabaseID {
		j.fail(Restorable, "the database %s became %s", j.man.DatabaseID, m.DatabaseID)
	}
	j.man, j.made = m, true
}

// layered is shown each layer.
func (j *judge) layered(c *call) {
	name := strings.TrimSuffix(c.key, "/index")
	_, digits, _ := strings.Cut(strings.TrimPrefix(name, "base/"), "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	content, stored := indexed(c.body)
	switch {
	case err != nil || seq > j.tail():
		j.fail(Layered, "layer %s: the log ends at record %d", short(name), j.tail())
	case !slices.Equal(content, j.replay(seq)):
		j.fail(Layered, "layer %s holds %q, the log up to there %q", short(name), content, j.replay(seq))
	}
	j.layers[name] = stored
}

// whole judges whether the segments of a layer named by the manifest are there, and hold what it says. Those of a writer that was taken
// over may have been collected while it uploaded.
func (j *judge) whole(layer string) {
	for _, token := range slices.Sorted(maps.Keys(j.layers[layer])) {
		segment := j.layers[layer][token]
		if held, there := j.pages[segment]; !there {
			j.fail(Restorable, "layer %s needs segment %s, which is not there", short(layer), short(segment))
		} else if !slices.Contains(held, token) {
			j.fail(Layered, "layer %s looks for %s in segment %s, which holds %q", short(layer), token, short(segment), held)
		}
	}
}

// replay returns what the log up to a record yields.
func (j *judge) replay(seq uint64) []string {
	var out []string
	for _, e := range j.log[1 : seq+1] {
		if !e.fence {
			out = append(out, e.token)
		}
	}
	return out
}

func (j *judge) deleted(c *call) {
	j.changed = true
	switch {
	case strings.HasPrefix(c.key, "wal/"):
		if seq, err := wal.ParseKey(c.key); err == nil && seq < uint64(len(j.now)) {
			j.now[seq] = nil
		}
	case strings.HasPrefix(c.key, "base/"):
		delete(j.layers, strings.TrimSuffix(c.key, "/index"))
	case strings.HasPrefix(c.key, base.SegmentPrefix()):
		delete(j.pages, c.key)
	case c.key == lease.Key, c.key == manifest.Key:
		j.fail(Restorable, "the %s was deleted", c.key)
	}
}

// step restores on paper: the layer, then every record from wal_start to the tail as it was first written.
func (j *judge) step() {
	if !j.changed || !j.made || j.tampered || j.broken != nil {
		return
	}
	j.changed = false
	from := uint64(1)
	for _, l := range j.man.Layers {
		if _, there := j.layers[l.Key]; !there {
			j.fail(Restorable, "the manifest names layer %s, which is not there", short(l.Key))
		}
		j.whole(l.Key)
		from = l.Seq + 1
	}
	if from > j.tail()+1 {
		j.fail(Layered, "the manifest starts after record %d, but the log ends at %d", from-1, j.tail())
		return
	}
	for seq := min(from, max(j.man.WalStart, 1)); seq <= j.tail(); seq++ {
		switch e := j.now[seq]; {
		case e == nil:
			j.fail(Restorable, "record %d (%v) is gone, a restore reads from record %d on", seq, j.log[seq], from)
		case e.hash != j.log[seq].hash:
			j.fail(OneWriter, "record %d (%v) was replaced (%v)", seq, j.log[seq], e)
		}
	}
}

// acknowledged reports what a client would be told.
func (j *judge) acknowledged(p *process, token string, at wal.Position) {
	j.acked[token], j.order = at.Seq, append(j.order, token)
	j.w.note("%-5s acknowledges %s at record %d", p.name, token, at.Seq)
	if at.Seq > j.tail() || j.log[at.Seq].token != token {
		j.fail(Durable, "%s was acknowledged as record %d, which is not in the log", token, at.Seq)
	}
}

// served reports what a strict read showed. When it began, acked appends had been acknowledged.
func (j *judge) served(p *process, tokens []string, acked int) {
	j.w.note("%-5s reads %q", p.name, tokens)
	for _, token := range j.order[:acked] {
		if !slices.Contains(tokens, token) {
			j.fail(Current, "%s reads %q, but %s was acknowledged before that began", p.name, tokens, token)
		}
	}
}

// refused reports how an append failed.
func (j *judge) refused(p *process, token string, err error) {
	if errors.Is(err, store.ErrUnknown) {
		return
	}
	j.denied[token] = true
	if i := slices.IndexFunc(j.log[1:], func(e *entry) bool { return e.token == token }); i >= 0 {
		j.fail(Outcome, "%s is record %d, but its writer was told: %v", token, i+1, err)
	}
}

// restored reports what an opener starts from.
func (j *judge) restored(p *process, o *takeover.Opened, content []string) {
	at := o.Log.Tail()
	j.w.note("%-5s is the writer, epoch %d, fence %d, restored %q", p.name, o.Epoch, at.Seq, content)
	if j.tampered {
		if !slices.Equal(content, j.replay(min(at.Seq-1, j.tail()))) {
			j.fail(Sound, "%s restored %q from a damaged log", p.name, content)
		}
		return
	}
	if at.Seq == 0 || at.Seq > j.tail() || j.log[at.Seq].writer != p.name || !j.log[at.Seq].fence || j.log[at.Seq].epoch != o.Epoch {
		j.fail(OneWriter, "%s believes it is the writer, but its fence %d of epoch %d is not in the log", p.name, at.Seq, o.Epoch)
		return
	}
	want := j.replay(at.Seq - 1)
	if !slices.Equal(content, want) {
		j.fail(Prefix, "%s restored %q, the log up to its fence is %q", p.name, content, want)
	}
}

// recalled reports what an earlier state was restored as.
func (j *judge) recalled(p *process, past takeover.RecoveryPoint, content []string) {
	j.w.note("%-5s restored the state after record %d: %q", p.name, past.Seq, content)
	if past.Seq > j.tail() || !slices.Equal(content, j.replay(past.Seq)) {
		j.fail(Prefix, "%s restored the state after record %d as %q, which was %q", p.name, past.Seq, content, j.replay(min(past.Seq, j.tail())))
	}
}

// verified reports what a reader found sound.
func (j *judge) verified(p *process, r takeover.Report) {
	j.w.note("%-5s verified records %d to %d", p.name, r.From, r.To)
	if j.tampered {
		j.fail(Sound, "%s found a damaged log sound", p.name)
		return
	}
	var bytes int64
	fences := 0
	for seq := max(r.From, 1); seq <= min(r.To, j.tail()); seq++ {
		bytes += int64(j.log[seq].bytes)
		if j.log[seq].fence {
			fences++
		}
	}
	if r.To > j.tail() || bytes != r.Bytes || fences != r.Fences {
		j.fail(Prefix, "%s verified records %d to %d: %d bytes, %d fences; the log has %d and %d there", p.name, r.From, r.To, r.Bytes, r.Fences, bytes, fences)
	}
}

// told judges whether an action may end in such an error. Only Damage damages a log here.
func (j *judge) told(p *process, a Action, err error) {
	if errors.Is(err, lease.ErrLost) && j.lease.Holder == p.name {
		j.fail(LeaseSwap, "%s holds the lease, but was told that it is lost: %v", p.name, err)
	}
	for _, allowed := range []error{
		store.ErrUnknown, store.ErrUnavailable, store.ErrConflict, store.ErrThrottled, lease.ErrLocked, lease.ErrLost,
		takeover.ErrRival, wal.ErrFenced, manifest.ErrFenced, errStale,
	} {
		if errors.Is(err, allowed) && !errors.Is(err, store.ErrCorrupt) {
			return
		}
	}
	if a == Verify && errors.Is(err, store.ErrNotFound) && !j.made || j.tampered && errors.Is(err, store.ErrCorrupt) {
		return
	}
	if a != Append { // refused reports those of appends
		j.fail(Sound, "%s: %s: %v", p.name, a, err)
	} else if errors.Is(err, store.ErrCorrupt) {
		j.fail(Outcome, "%s: %v", p.name, err)
	}
}

// leased is shown each lease.
func (j *judge) leased(p *process, c *call) {
	var l leaseView
	if err := json.Unmarshal(c.body, &l); err != nil {
		j.fail(LeaseSwap, "the lease: %v", err)
		return
	}
	old := j.lease
	j.lease = l
	gen, _ := c.cond.Precondition()
	since, seen := p.saw[gen]
	free := old.Holder == "" || old.Holder == p.name || !p.clk.Now().Before(old.Expires) ||
		seen && int64(p.clk.Monotonic())-since >= int64(leaseTTL)
	switch {
	case l.Holder == "" && old.Holder != p.name:
		j.fail(LeaseSwap, "%s released the lease of %q", p.name, old.Holder)
	case l.Holder != "" && l.Holder != p.name:
		j.fail(LeaseSwap, "%s wrote a lease for %q", p.name, l.Holder)
	case l.Holder == p.name && old.Holder != p.name && p.opened != nil:
		j.fail(LeaseSwap, "%s renewed its lease over that of %q", p.name, old.Holder)
	case l.Holder == p.name && !free:
		j.fail(LeaseSwap, "%s took the lease of %s, which runs until %v", p.name, old.Holder, old.Expires)
	}
}

// finish is the end of a schedule: a fresh process opens, restores, appends, compacts, collects, and all of it is sound.
func (j *judge) finish() {
	if j.broken != nil || j.tampered {
		return
	}
	j.w.note("--- a fresh process opens ---")
	w := j.w
	p := &process{w: w, name: "fresh", clk: newSkipping(1000 * time.Hour)}
	st := direct{w, p}
	if err := j.reopen(p, st); err != nil && j.broken == nil {
		j.fail(Restorable, "a fresh process: %v", err)
	}
	j.step()
}

func (j *judge) reopen(p *process, st store.Store) error {
	ctx := context.Background()
	o, err := takeover.Open(ctx, p.options(st))
	if err != nil {
		return err
	}
	content, err := p.content(ctx, st, o)
	if err != nil {
		return err
	}
	p.adopt(o, content)
	for token, seq := range j.acked {
		if !slices.Contains(p.tokens, token) {
			j.fail(Durable, "%s was acknowledged as record %d, but a fresh process restores %q", token, seq, p.tokens)
		}
	}
	if err := p.append(ctx); err != nil {
		return err
	}
	if _, err := gc.Collect(ctx, gc.Options{Store: st, Epoch: o.Epoch, Writer: p.name, Parallel: 1, Clock: p.clk, Needs: needs(st)}); err != nil {
		return err
	}
	r, err := takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Parallel: 1})
	if err == nil {
		j.verified(p, r)
	}
	return err
}
