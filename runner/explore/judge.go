package explore

import (
	"errors"
	"fmt"
	"strings"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Invariant is what must hold in every state; the numbers are those of the protocol's description.
type Invariant int

// The invariants.
const (
	Dense    Invariant = 1 + iota // the log is dense and chained from wal_start to its tail
	Once                          // at each name at most one write ever succeeds
	Fenced                        // no record of a lower epoch follows a fence
	Rising                        // epochs of fences go up by one
	Durable                       // acknowledged is in every later restore
	Prefix                        // a restore is the state after a prefix of the log
	Layered                       // a layer is the replay of the log up to its seq
	Restores                      // a full restore succeeds
	Stalled                       // an opener whose fence landed in a dead part of the log is no writer
	Idle                          // who does nothing asks nothing
	Honest                        // no error without its cause: fenced by nobody, damage where there is none
)

// String is the number and the meaning.
func (i Invariant) String() string {
	names := [...]string{
		Dense: "the log is dense and chained", Once: "at most one write a name", Fenced: "nothing of a lower epoch follows a fence",
		Rising: "epochs go up by one", Durable: "acknowledged is durable", Prefix: "a restore is a prefix of the log",
		Layered: "a layer is the replay of the log", Restores: "a restore succeeds", Stalled: "a stalled opener is no writer",
		Idle: "idle asks nothing", Honest: "no error without its cause",
	}
	if i < Dense || int(i) >= len(names) {
		return fmt.Sprintf("invariant(%d)", int(i))
	}
	return fmt.Sprintf("%d %s", int(i), names[i])
}

// entry is a record of the log as it was written, whether or not it has been collected since.
type entry struct {
	record  wal.Record
	history int // length of judge.history with this record's commit
}

// judged is an object in the bucket.
type judged struct {
	gen    store.Gen
	record wal.Record // of the log
	layer  string     // of a layer: its content
}

// judge watches every write and every promise, and remembers the first that breaks an invariant. It knows the log as it
// was written: what the bucket holds, and what processes make of it, is held against that.
type judge struct {
	objects  map[string]judged
	manifest manifest.Manifest // WriteID is empty: there is none yet
	log      []entry           // by seq, from 1 on
	history  string            // all commits of the log, in order
	epoch    uint64            // of the newest fence
	acked    []string
	hash     uint64 // of the log
	broken   *Violation
}

func (j *judge) reset(t *template) {
	if j.objects == nil {
		j.objects = make(map[string]judged, 16)
	}
	clear(j.objects)
	j.manifest, j.log, j.history, j.epoch = manifest.Manifest{}, j.log[:0], "", 0
	j.acked, j.hash, j.broken = j.acked[:0], 0, nil
	if t.judge == nil {
		return
	}
	for key, o := range t.judge.objects {
		j.objects[key] = o
	}
	j.manifest, j.history, j.epoch = t.judge.manifest, t.judge.history, t.judge.epoch
	j.log = append(j.log, t.judge.log...)
	j.acked = append(j.acked, t.judge.acked...)
}

// breaks notes a violation; only the first counts, what follows may follow from it.
func (j *judge) breaks(i Invariant, format string, args ...any) {
	if j.broken == nil {
		j.broken = &Violation{Invariant: i, Text: fmt.Sprintf(format, args...)}
	}
}

// isNew reports whether a put that succeeded has written, rather than found its own write.
func (j *judge) isNew(key string, gen store.Gen) bool { return j.objects[key].gen != gen }

// written judges a write that has succeeded.
func (j *judge) written(r *request, gen store.Gen, origin uint64) {
	before, existed := j.objects[r.key]
	o := judged{gen: gen}
	switch {
	case strings.HasPrefix(r.key, wal.Prefix()):
		record, err := wal.Decode(r.body)
		if err != nil {
			j.breaks(Dense, "%s holds no record: %v", r.key, err)
			return
		}
		if existed && before.record.WriteID != record.WriteID {
			j.breaks(Once, "%s: %s was overwritten with %s", r.key, describeRecord(before.record), describeRecord(record))
		}
		o.record = record
		j.appended(r.key, record, origin)
	case strings.HasPrefix(r.key, layerPrefix):
		o.layer = string(r.body)
		if existed && before.layer != o.layer {
			j.breaks(Once, "%s was overwritten: %q with %q", r.key, before.layer, o.layer)
		}
	case r.key == manifest.Key:
		j.objects[r.key] = o
		j.published(r.body)
		return
	}
	j.objects[r.key] = o
	if layer, ok := strings.CutSuffix(r.key, layerObject); ok {
		j.layered(layer, o.layer)
	}
}

// appended judges a record that now stands at a name of the log.
func (j *judge) appended(key string, r wal.Record, origin uint64) {
	seq, err := wal.ParseKey(key)
	if err != nil || seq != r.Seq {
		j.breaks(Dense, "%s holds record %d", key, r.Seq)
		return
	}
	if seq <= uint64(len(j.log)) { // the name has been written before, and deleted
		switch old := j.log[seq-1].record; {
		case old.WriteID == r.WriteID: // a late duplicate
		case r.Kind == wal.Fence && seq < j.manifest.WalStart: // a dead fence, in the part that nobody reads
		default:
			j.breaks(Once, "%s: %s is written where %s was (wal_start is %d)", key, describeRecord(r), describeRecord(old), j.manifest.WalStart)
		}
		return
	}
	tail := wal.Start(databaseID)
	if n := len(j.log); n > 0 {
		tail.Seq, tail.Hash = uint64(n), j.log[n-1].record.Hash
	}
	switch {
	case seq != tail.Seq+1:
		j.breaks(Dense, "%s is written, and the log ends at %d", describeRecord(r), tail.Seq)
	case r.Prev != tail.Hash:
		j.breaks(Dense, "%s does not name the record before it", describeRecord(r))
	case r.Epoch < j.epoch:
		j.breaks(Fenced, "%s follows the fence of epoch %d", describeRecord(r), j.epoch)
	case r.Kind == wal.Fence && r.Epoch != j.epoch+1:
		j.breaks(Rising, "%s follows the fence of epoch %d", describeRecord(r), j.epoch)
	case r.Epoch > j.epoch && r.Kind == wal.Data:
		j.breaks(Rising, "%s is of an epoch that no fence has opened", describeRecord(r))
	}
	if r.Kind == wal.Fence {
		j.epoch = r.Epoch
	}
	j.history += commitOf(r)
	j.log = append(j.log, entry{r, len(j.history)})
	j.hash = mix(j.hash, origin)
}

// layered judges a layer as of that record: its key names it.
func (j *judge) layered(key, content string) {
	_, seq, err := parseLayerKey(key)
	switch {
	case err != nil:
		j.breaks(Layered, "%v", err)
	case seq > uint64(len(j.log)):
		j.breaks(Layered, "layer %s is stored with %q, and the log ends at %d", key, content, len(j.log))
	case content != j.upTo(seq):
		j.breaks(Layered, "layer %s holds %q, the log up to %d is %q", key, content, seq, j.upTo(seq))
	}
}

// upTo is the history up to a record.
func (j *judge) upTo(seq uint64) string {
	if seq == 0 {
		return ""
	}
	return j.history[:j.log[seq-1].history]
}

// published judges a new manifest.
func (j *judge) published(body []byte) {
	m, err := manifest.Decode(body)
	if err != nil {
		j.breaks(Restores, "the manifest cannot be read: %v", err)
		return
	}
	old := j.manifest
	j.manifest = m
	if m.WalStart < old.WalStart {
		j.breaks(Restores, "wal_start falls from %d to %d", old.WalStart, m.WalStart)
	}
	j.restorable()
}

// restorable judges whether the manifest, its layers and the records from wal_start on give back the whole log.
func (j *judge) restorable() {
	m := j.manifest
	base := uint64(0)
	for _, l := range m.Layers {
		o, ok := j.objects[l.Key+layerObject]
		if !ok {
			j.breaks(Restores, "the manifest names layer %s, which is not there", l.Key)
			return
		}
		j.layered(l.Key, o.layer)
		base = l.Seq
	}
	if start := max(m.WalStart, 1); start > base+1 || start > uint64(len(j.log))+1 {
		j.breaks(Restores, "wal_start is %d, the layers end at %d, the log at %d", start, base, len(j.log))
	}
	for seq := max(m.WalStart, 1); seq <= uint64(len(j.log)); seq++ {
		o, ok := j.objects[wal.Key(seq)]
		if !ok {
			j.breaks(Restores, "record %d is gone, and wal_start is %d", seq, m.WalStart)
			return
		}
		if o.record.Hash != j.log[seq-1].record.Hash {
			j.breaks(Prefix, "at %d stands %s, the log has %s", seq, describeRecord(o.record), describeRecord(j.log[seq-1].record))
		}
	}
}

// deleted judges a delete that has removed something.
func (j *judge) deleted(key string) {
	delete(j.objects, key)
	if key == manifest.Key {
		j.breaks(Restores, "the manifest was deleted")
	}
	j.restorable()
}

// acknowledged judges what a client has been told is durable.
func (j *judge) acknowledged(p *process, id string) {
	j.acked = append(j.acked, id)
	if !strings.Contains(j.history, id) {
		j.breaks(Durable, "%s acknowledged %s; a restore has %q", p.name, id, j.history)
	}
}

// opened judges a process that believes to be the writer of an epoch, with what it has restored.
func (j *judge) opened(p *process, epoch uint64, history string) {
	for i, e := range j.log {
		if e.record.Kind != wal.Fence || e.record.Epoch != epoch || e.record.Writer != p.name {
			continue
		}
		if want := j.upTo(uint64(i) + 1); history != want {
			j.breaks(Prefix, "%s, writer of epoch %d, has restored %q; the log up to its fence at %d is %q", p.name, epoch, history, i+1, want)
		}
		return
	}
	j.breaks(Stalled, "%s believes to be the writer of epoch %d, whose fence is not in the log", p.name, epoch)
}

// refused judges an error that ends what a process did: fencedBy is its own epoch, if it says that it was fenced.
func (j *judge) refused(p *process, epoch uint64) {
	if j.epoch <= epoch && j.manifest.Epoch <= epoch {
		j.breaks(Honest, "%s says that its epoch %d is fenced; the newest is %d", p.name, epoch, max(j.epoch, j.manifest.Epoch))
	}
}

// commitOf is the id of the commit in a record; empty: a fence.
func commitOf(r wal.Record) string {
	var id strings.Builder
	for _, op := range r.Ops {
		id.Write(op.Data)
	}
	return id.String()
}

func describeRecord(r wal.Record) string {
	text := fmt.Sprintf("%v of epoch %d by %s", r.Kind, r.Epoch, r.Writer)
	if id := commitOf(r); id != "" {
		text += " with " + id
	}
	return text
}

var errLayerKey = errors.New("is no layer's key")

func parseLayerKey(key string) (epoch, seq uint64, err error) {
	if n, _ := fmt.Sscanf(key, layerPrefix+"%d-%d", &epoch, &seq); n != 2 {
		return 0, 0, fmt.Errorf("%q %w", key, errLayerKey)
	}
	return epoch, seq, nil
}
