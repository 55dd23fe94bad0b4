package check

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Object is an object of the bucket, its key without the database's prefix. Only records and the manifest need their bodies.
type Object struct {
	Key  string `json:"key"`
	Size int64  `json:"size"`
	Body []byte `json:"-"`
}

// Change is a mutation that the bucket carried out, its key without the database's prefix.
type Change struct {
	At     time.Time `json:"at"`
	Delete bool      `json:"delete,omitempty"`
	Key    string    `json:"key"`
	Status int       `json:"status"`
	Bytes  int64     `json:"bytes,omitempty"`
	// WriteID is an upload's.
	WriteID string `json:"write_id,omitempty"`
}

// record holds the fields of a log record's header.
type record struct {
	seq, epoch uint64
	fence      bool
	prev, hash [32]byte
	writer     string
}

// Places in a record; the format is drawn in the documentation of core/wal.
const (
	recordMagic  = "BPWR"
	recordFormat = 1
	recordHeader = 64
	kindData     = 1
	kindFence    = 2
)

// parseRecord decodes the header and verifies the checksum.
func parseRecord(b []byte) (record, error) {
	if len(b) < recordHeader+3+8+4 || string(b[:4]) != recordMagic {
		return record{}, fmt.Errorf("%d bytes that are no record", len(b))
	}
	le := binary.LittleEndian
	end := len(b) - 4
	switch {
	case b[4] != recordFormat:
		return record{}, fmt.Errorf("format %d", b[4])
	case b[5] != kindData && b[5] != kindFence:
		return record{}, fmt.Errorf("kind %d", b[5])
	case crc32.Checksum(b[:end], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b[end:]):
		return record{}, errors.New("its checksum does not fit")
	}
	r := record{seq: le.Uint64(b[8:]), epoch: le.Uint64(b[16:]), fence: b[5] == kindFence, prev: [32]byte(b[32:64]), hash: sha256.Sum256(b)}
	rest := b[recordHeader:end]
	for i := range 3 { // database, writer, write id
		n := int(rest[0])
		if len(rest) < 1+n+1 {
			return record{}, errors.New("its names are cut short")
		}
		if i == 1 {
			r.writer = string(rest[1 : 1+n])
		}
		rest = rest[1+n:]
	}
	return r, nil
}

// manifestStart is the part of a manifest that this package needs.
type manifestStart struct {
	DatabaseID string `json:"database_id"`
	WalStart   uint64 `json:"wal_start"`
	Layers     []struct {
		Key string `json:"key"`
		Seq uint64 `json:"seq"`
	} `json:"layers"`
}

// Log checks the objects of a database by the invariants of its log: records without gaps, chained from the manifest's start to the tail;
// epochs never fall, and fences raise them; what the manifest names is complete. Fences below the start stay.
func Log(objects []Object) Result {
	var m manifestStart
	found := false
	var records []record
	keys := map[string]bool{}
	for _, o := range objects {
		keys[o.Key] = true
		switch {
		case o.Key == "manifest":
			if err := json.Unmarshal(o.Body, &m); err != nil {
				return wrong("the manifest: %v", err)
			}
			found = true
		case strings.HasPrefix(o.Key, "wal/"):
			r, err := parseRecord(o.Body)
			if err != nil {
				return wrong("%s: %v", o.Key, err)
			}
			if seq, err := strconv.ParseUint(strings.TrimPrefix(o.Key, "wal/"), 10, 64); err != nil || seq != r.seq {
				return wrong("%s holds record %d", o.Key, r.seq)
			}
			records = append(records, r)
		}
	}
	if !found {
		return wrong("there is no manifest")
	}
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.seq, b.seq) })
	for _, l := range m.Layers {
		if !keys[l.Key+"/index"] {
			return wrong("the manifest names layer %s, which has no index", l.Key)
		}
	}
	return chained(records, m)
}

// chained goes through the records in order.
func chained(records []record, m manifestStart) Result {
	r := Result{Looked: 1}
	epoch := uint64(0)
	var last *record
	for i := range records {
		rec := &records[i]
		if rec.seq < m.WalStart {
			if rec.fence {
				epoch = max(epoch, rec.epoch)
			}
			continue // collected, or about to be
		}
		r.Looked++
		switch {
		case last == nil && rec.seq != m.WalStart:
			return wrong("the log begins at %d, the manifest starts at %d", rec.seq, m.WalStart)
		case last != nil && rec.seq != last.seq+1:
			return wrong("record %d follows record %d: there is a hole", rec.seq, last.seq)
		case last != nil && rec.prev != last.hash:
			return wrong("record %d does not follow from record %d", rec.seq, last.seq)
		case rec.fence && rec.epoch <= epoch:
			return wrong("the fence at %d has epoch %d, there was %d before", rec.seq, rec.epoch, epoch)
		case !rec.fence && rec.epoch < epoch:
			return wrong("record %d of epoch %d stands after a fence of epoch %d: a writer that was taken over has won a commit", rec.seq, rec.epoch, epoch)
		}
		epoch = max(epoch, rec.epoch)
		last = rec
	}
	return r
}

// fenceID is the prefix of every fence's write id, and of no other.
const fenceID = "fence-"

// WriteOnce checks everything that the bucket carried out by the rule of names: a record and a part are created once, and a fence is never
// deleted. A name whose record was collected may be created once more by a fence that comes too late and fences no writer, never by a
// record.
func WriteOnce(changes []Change) Result {
	r := Result{}
	made, gone, fences := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range changes {
		once := strings.HasPrefix(c.Key, "wal/") || strings.HasPrefix(c.Key, "part/")
		if !once || c.Status >= 300 {
			continue
		}
		r.Looked++
		fence := strings.HasPrefix(c.WriteID, fenceID)
		switch {
		case c.Delete && fences[c.Key]:
			return wrong("%s was deleted, and it is a fence", c.Key)
		case c.Delete:
			gone[c.Key] = true
		case made[c.Key] && !gone[c.Key]:
			return wrong("%s was written twice", c.Key)
		case made[c.Key] && !fence:
			return wrong("%s was collected, and a record was created in its place", c.Key)
		default:
			made[c.Key] = true
			fences[c.Key] = fence
		}
	}
	return r
}
