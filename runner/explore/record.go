package explore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// entry is a record as the judge reads it from the bytes, without core/wal.
type entry struct {
	seq, epoch uint64
	fence      bool
	prev, hash [32]byte
	writer, id string
	token      string // of a data record
	bytes      int
}

// readRecord reads a record's bytes as documented in core/wal, for records as processes here write them.
func readRecord(b []byte) (*entry, error) {
	const fixed = 64
	if len(b) < fixed+15 || string(b[:5]) != "BPWR\x01" || b[6] != 0 {
		return nil, fmt.Errorf("%d bytes that are not a plain record", len(b))
	}
	le := binary.LittleEndian
	e := &entry{fence: b[5] == 2, seq: le.Uint64(b[8:]), epoch: le.Uint64(b[16:]), prev: [32]byte(b[32:64]), hash: sha256.Sum256(b), bytes: len(b)}
	texts, rest := [3]string{}, b[fixed:]
	for i := range texts {
		n := 1 + int(rest[0])
		if len(rest) < n+9 {
			return nil, fmt.Errorf("record %d ends within a name", e.seq)
		}
		texts[i], rest = string(rest[1:n]), rest[n:]
	}
	e.writer, e.id = texts[1], texts[2]
	body := rest[8 : len(rest)-4]
	if len(body) > 0 { // kind, path "/t", offset 0, data
		if len(body) < 6 || string(body[1:5]) != "\x02/t\x00" || len(body) != 6+int(body[5]) {
			return nil, fmt.Errorf("record %d: its body was not written here: %q", e.seq, body)
		}
		e.token = string(body[6:])
	}
	if e.fence != (e.token == "") {
		return nil, fmt.Errorf("record %d: fence %t, token %q", e.seq, e.fence, e.token)
	}
	return e, nil
}

func (e *entry) String() string {
	if e.fence {
		return fmt.Sprintf("fence of epoch %d by %s", e.epoch, e.writer)
	}
	return fmt.Sprintf("%s, epoch %d", e.token, e.epoch)
}

// manifestView is what the judge reads from a manifest, without core/manifest.
type manifestView struct {
	DatabaseID string `json:"database_id"`
	Epoch      uint64 `json:"epoch"`
	WalStart   uint64 `json:"wal_start"`
	Layers     []struct {
		Key string `json:"key"`
		Seq uint64 `json:"seq"`
	} `json:"layers"`
}

// leaseView is what the judge reads from a lease, without core/lease.
type leaseView struct {
	Holder  string    `json:"holder"`
	Expires time.Time `json:"expires"`
}

// describe shows a body in a story.
func describe(key string, body []byte) string {
	switch {
	case strings.HasPrefix(key, "wal/"):
		if e, err := readRecord(body); err == nil {
			return e.String()
		}
	case key == "manifest":
		var m manifestView
		if json.Unmarshal(body, &m) == nil {
			layer := "no layer"
			if n := len(m.Layers); n > 0 {
				layer = short(m.Layers[n-1].Key)
			}
			return fmt.Sprintf("epoch %d, wal_start %d, %s", m.Epoch, m.WalStart, layer)
		}
	case key == "lease":
		var l leaseView
		if json.Unmarshal(body, &l) == nil {
			return fmt.Sprintf("held by %q until %s", l.Holder, l.Expires.Format("15:04:05.000"))
		}
	}
	return fmt.Sprintf("%q", body)
}
