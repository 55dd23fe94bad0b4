package explore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"blobpglite/core/base"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// Action is what a process does next.
type Action string

// The actions. After an action that fails a process does nothing more.
const (
	Open    Action = "open"    // takeover.Open, then restore
	Append  Action = "append"  // one record
	Compact Action = "compact" // a layer of everything appended so far, and the manifest to it
	Aside   Action = "aside"   // compact and collect in a second thread, while the next actions proceed
	Reads   Action = "reads"   // two strict reads in a second thread, while the next actions proceed
	Collect Action = "collect" // gc.Collect
	Rest    Action = "rest"    // its own clock passes the end of the lease; then the lease is renewed, as a request would
	Serve   Action = "serve"   // a request inside the lease: makes no requests
	Release Action = "release" // the lease is released
	Verify  Action = "verify"  // takeover.Verify: reads, never writes
	Past    Action = "past"    // takeover.ReadAt of a record in the middle of what it has verified before, restored
	Page    Action = "page"    // a page of the restored layer is read, as late as it likes
	Damage  Action = "damage"  // the last record is replaced by another one: it must not be restored from
)

// read is a strict read: served from what is here, after checking that no other writer has taken over.
const read Action = "read"

// process is one life of a process of the plan.
type process struct {
	w          *world
	slot, life int
	name       string
	clk        skipping
	ids        int
	made       int
	ended      bool
	resting    bool

	opened    *takeover.Opened
	fence     uint64
	collected uint64
	tokens    []string          // what it would serve: restored, and appended since
	pending   []string          // being appended
	middle    uint64            // of the records that it has verified
	stored    map[string]string // tokens of the last layer that it restored or took, and the segment that holds each
	saw       map[store.Gen]int64
}

// writeID counts, so that a schedule replays exactly.
func (p *process) writeID() string {
	p.ids++
	return fmt.Sprintf("%s-%d", p.name, p.ids)
}

// run goes through a script.
func (p *process) run(t *thread, script []Action) {
	for _, a := range script {
		if err := p.do(t, a); err != nil {
			p.w.note("%-5s ends: %s: %v", t.name, a, err)
			p.w.judge.told(p, a, err)
			return
		}
		t.done++
	}
	p.w.note("%-5s is done", t.name)
}

func (p *process) do(t *thread, a Action) error {
	ctx := context.Background()
	if p.opened == nil && a != Open && a != Verify && a != Past && a != Damage && p.w.plan.extra[a] == nil {
		return fmt.Errorf("%w: %s before open", store.ErrInvalid, a)
	}
	switch a {
	case Open:
		return p.open(ctx, t)
	case Append:
		return p.append(ctx)
	case Compact:
		return p.compact(ctx, t)
	case Aside:
		p.w.spawn(p, true, func(t *thread) { p.run(t, []Action{Compact, Collect}) })
		return nil
	case Reads:
		p.w.spawn(p, true, func(t *thread) { p.run(t, []Action{read, read}) })
		return nil
	case read:
		return p.read(ctx, t)
	case Collect:
		return p.collect(ctx, t)
	case Rest:
		p.clk.Advance(2 * leaseTTL)
		return p.opened.Lease.Ensure(ctx)
	case Serve:
		p.resting = p.opened.Lease.Valid()
		defer func() { p.resting = false }()
		return p.opened.Lease.Ensure(ctx)
	case Release:
		return p.opened.Lease.Release(ctx)
	case Verify:
		r, err := takeover.VerifyWith(ctx, port{t}, takeover.VerifyOptions{Parallel: 1})
		if err == nil {
			p.middle = (r.From + r.To + 1) / 2
			p.w.judge.verified(p, r)
		}
		return err
	case Past:
		return p.past(ctx, port{t})
	case Page:
		return p.page(ctx, port{t})
	case Damage:
		return p.damage(ctx, t)
	}
	if f := p.w.plan.extra[a]; f != nil {
		return f(ctx, p, t)
	}
	return fmt.Errorf("%w: there is no action %q", store.ErrInvalid, a)
}

// errStale: what the manifest named has been replaced and collected: a newer writer has the database.
var errStale = errors.New("it is gone, and a newer writer has the manifest")

// open becomes the writer and restores.
func (p *process) open(ctx context.Context, t *thread) error {
	o, err := takeover.Open(ctx, p.options(port{t}))
	if err != nil {
		return err
	}
	content, err := p.content(ctx, port{t}, o)
	if err != nil {
		return errors.Join(err, o.Lease.Release(ctx))
	}
	p.adopt(o, content)
	return nil
}

func (p *process) options(st store.Store) takeover.Options {
	return takeover.Options{
		Store: st, Writer: p.name, LeaseTTL: leaseTTL, AcquireTimeout: acquireTimeout, Create: true, Postgres: "18.6",
		Parallel: 1, Clock: p.clk, WriteID: p.writeID,
		// As the engine does it: the first reading comes before the lease, as early as possible, and again after a lease that had to be
		// waited for.
		OnManifest: func(manifest.Manifest) {},
	}
}

// adopt is the end of a restore: the layer's content with the records after it.
func (p *process) adopt(o *takeover.Opened, content []string) {
	for _, r := range o.Records {
		for _, op := range r.Ops {
			content = append(content, string(op.Data))
		}
	}
	p.opened, p.tokens, p.fence = o, content, o.Log.Tail().Seq
	p.w.judge.restored(p, o, content)
}

// content reads what the newest layer holds: its index, and each segment named there.
func (p *process) content(ctx context.Context, st store.Store, o *takeover.Opened) ([]string, error) {
	n := len(o.Manifest.Layers)
	if n == 0 {
		return nil, nil
	}
	key := o.Manifest.Layers[n-1].Key
	tokens, stored, err := readLayer(ctx, st, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, p.gone(ctx, st, o.Epoch, err)
	}
	p.stored = stored
	return tokens, err
}

// gone distinguishes what is missing because the process was taken over from what was lost under a writer.
func (p *process) gone(ctx context.Context, st store.Store, epoch uint64, err error) error {
	now, _, loadErr := manifest.Load(ctx, st)
	switch {
	case loadErr != nil:
		return loadErr
	case now.Epoch > epoch:
		return errStale
	}
	return fmt.Errorf("%w: the manifest is of epoch %d, ours: %w", base.ErrCorrupt, now.Epoch, err)
}

// page reads a page of the layer that was restored, or taken, last.
func (p *process) page(ctx context.Context, st store.Store) error {
	if len(p.stored) == 0 {
		return nil
	}
	token := slices.Min(slices.Collect(maps.Keys(p.stored)))
	o, err := st.Get(ctx, p.stored[token])
	if errors.Is(err, store.ErrNotFound) {
		err = p.gone(ctx, st, p.opened.Epoch, err)
	}
	if err == nil && !slices.Contains(strings.Fields(string(o.Body)), token) {
		err = fmt.Errorf("%w: segment %s does not hold %s", base.ErrCorrupt, p.stored[token], token)
	}
	return err
}

// A layer's index here is a token and its segment for each token, in order; a segment is tokens.

// indexed reads an index.
func indexed(body []byte) (tokens []string, stored map[string]string) {
	stored = map[string]string{}
	for _, f := range strings.Fields(string(body)) {
		token, segment, _ := strings.Cut(f, "@")
		tokens, stored[token] = append(tokens, token), segment
	}
	return tokens, stored
}

// readLayer reads a layer and its segments.
func readLayer(ctx context.Context, st store.Store, key string) (tokens []string, stored map[string]string, err error) {
	o, err := st.Get(ctx, base.IndexKey(key))
	if err != nil {
		return nil, nil, err
	}
	tokens, stored = indexed(o.Body)
	for _, segment := range segmentsOf(stored) {
		o, err := st.Get(ctx, segment)
		if err != nil {
			return nil, nil, err
		}
		held := strings.Fields(string(o.Body))
		for _, token := range tokens {
			if stored[token] == segment && !slices.Contains(held, token) {
				return nil, nil, fmt.Errorf("%w: segment %s does not hold %s", base.ErrCorrupt, segment, token)
			}
		}
	}
	return tokens, stored, nil
}

func segmentsOf(stored map[string]string) []string {
	return slices.Compact(slices.Sorted(maps.Values(stored)))
}

// needs is a collector's query.
func needs(st store.Store) func(context.Context, string) ([]string, error) {
	return func(ctx context.Context, layer string) ([]string, error) {
		o, err := st.Get(ctx, base.IndexKey(layer))
		_, stored := indexed(o.Body)
		return segmentsOf(stored), err
	}
}

// append makes one token durable, then acknowledges it.
func (p *process) append(ctx context.Context) error {
	p.made++
	token := fmt.Sprintf("%s.%d", p.name, p.made)
	p.pending = []string{token}
	at, err := p.opened.Log.Append(ctx, []wal.Op{{Kind: wal.OpReplace, Path: "/t", Data: []byte(token)}})
	p.pending = nil
	if err != nil {
		p.w.judge.refused(p, token, err)
		return err
	}
	p.tokens = append(p.tokens, token)
	p.w.judge.acknowledged(p, token, at)
	return nil
}

// read looks at the manifest first, so that it may begin at any moment.
func (p *process) read(ctx context.Context, t *thread) error {
	if _, _, err := manifest.Load(ctx, port{t}); err != nil {
		return err
	}
	acked, tokens, log := len(p.w.judge.order), slices.Clone(p.tokens), p.opened.Log
	err := wal.Unfenced(ctx, port{t}, log.Tail(), len(p.pending) == 0, p.opened.Manifest.DatabaseID, log.Epoch())
	if err == nil {
		p.w.judge.served(p, tokens, acked)
	}
	return err
}

// capture is what a layer made now would hold: everything up to the tail, and nothing that is not yet durable.
func (p *process) capture() (at wal.Position, content []string) {
	return p.opened.Log.Tail(), slices.Clone(p.tokens)
}

// compact uploads a layer, which shares what the last one holds, and makes it the manifest's. It looks at the manifest first, so that
// during appends the layer may be of any moment.
func (p *process) compact(ctx context.Context, t *thread) error {
	if _, _, err := manifest.Load(ctx, port{t}); err != nil {
		return err
	}
	at, content := p.capture()
	key := base.Key(p.opened.Epoch, at.Seq)
	stored, fresh := map[string]string{}, []string(nil)
	for _, token := range content {
		if stored[token] = p.stored[token]; stored[token] == "" {
			stored[token], fresh = base.SegmentKey(key, 0), append(fresh, token)
		}
	}
	if len(fresh) > 0 {
		if err := putOnce(ctx, port{t}, base.SegmentKey(key, 0), strings.Join(fresh, " ")); err != nil {
			return err
		}
	}
	lines := make([]string, len(content))
	for i, token := range content {
		lines[i] = token + "@" + stored[token]
	}
	if err := putOnce(ctx, port{t}, base.IndexKey(key), strings.Join(lines, " ")); err != nil {
		return err
	}
	m, err := manifest.Publish(ctx, port{t}, manifest.Options{
		Epoch: p.opened.Epoch, Writer: p.name, Clock: p.clk, Retain: p.w.plan.Procs[p.slot].Retain,
	}, manifest.Layer{
		Key: key, Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:]), Segments: len(segmentsOf(stored)),
	})
	if err == nil && m.Layers[len(m.Layers)-1].Key == key {
		p.stored = stored
	}
	return err
}

// putOnce writes an object that is written once, and retries where the outcome is unknown.
func putOnce(ctx context.Context, st store.Store, key, body string) error {
	_, err := st.Put(ctx, key, []byte(body), key, store.IfAbsent())
	if errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrThrottled) {
		_, err = st.Put(ctx, key, []byte(body), key, store.IfAbsent())
	}
	return err
}

// collect deletes as the engine does: it need not read what it wrote itself.
func (p *process) collect(ctx context.Context, t *thread) error {
	tail := p.opened.Log.Tail().Seq
	stats, err := gc.Collect(ctx, gc.Options{
		Store: port{t}, Epoch: p.opened.Epoch, Writer: p.name, From: p.collected, Parallel: 1, Clock: p.clk,
		IsData: func(seq uint64) bool { return seq > p.fence && seq <= tail }, Needs: needs(port{t}),
	})
	if err == nil {
		p.collected = stats.WalStart
	}
	return err
}

// past restores the state after the record in the middle of what it has verified before.
func (p *process) past(ctx context.Context, st store.Store) error {
	past, err := takeover.ReadAt(ctx, st, takeover.RecoveryTarget{Seq: p.middle}, 1)
	if errors.Is(err, takeover.ErrBeyondRetention) { // it was compacted away since
		return nil
	}
	if err != nil {
		return err
	}
	content, _, err := readLayer(ctx, st, past.Layer.Key)
	if errors.Is(err, store.ErrNotFound) && past.Layer.Key != "" { // collected in the meantime
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range past.Records {
		for _, op := range r.Ops {
			content = append(content, string(op.Data))
		}
	}
	p.w.judge.recalled(p, past, content)
	return nil
}

// damage replaces the record before the last one by a sound record that does not belong there, as no process may.
func (p *process) damage(ctx context.Context, t *thread) error {
	j := p.w.judge
	seq := uint64(len(j.log)) - 2
	if seq < 2 {
		return fmt.Errorf("%w: the log is too short to be damaged", store.ErrInvalid)
	}
	j.tampered = true
	victim := j.log[seq]
	if err := (port{t}).Delete(ctx, wal.Key(seq)); err != nil {
		return err
	}
	l, err := wal.NewLog(port{t}, wal.Position{Seq: seq - 1}, wal.Options{
		Epoch: victim.epoch, DatabaseID: j.man.DatabaseID, Writer: victim.writer, Clock: p.clk, WriteID: p.writeID,
	})
	if err == nil {
		_, err = l.Append(ctx, []wal.Op{{Kind: wal.OpReplace, Path: "/t", Data: []byte("forged")}})
	}
	return err
}
