package pgdata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// controlFile returns a control file with these fields.
func controlFile(c Control) []byte {
	b := make([]byte, 8192)
	binary.LittleEndian.PutUint64(b[controlSystem:], c.System)
	binary.LittleEndian.PutUint32(b[controlVersionAt:], controlVersion)
	binary.LittleEndian.PutUint32(b[controlState:], c.State)
	binary.LittleEndian.PutUint64(b[controlCheckpoint:], uint64(c.Checkpoint))
	binary.LittleEndian.PutUint64(b[controlRedo:], uint64(c.Redo))
	binary.LittleEndian.PutUint32(b[controlTimeline:], c.Timeline)
	binary.LittleEndian.PutUint32(b[controlPrepared:], uint32(c.MaxPrepared))
	b[controlBuilt], b[controlBuiltEnd-1] = 8, 1
	binary.LittleEndian.PutUint32(b[controlCRC:], crc32.Checksum(b[:controlCRC], castagnoli))
	return b
}

func TestParseControl(t *testing.T) {
	want := Control{System: 1 << 60, State: shutDown, Checkpoint: 1 << 33, Redo: 1<<33 - 56, Timeline: 3, MaxPrepared: 262143}
	b := controlFile(want)
	got, err := ParseControl(b)
	if err != nil || got != want || !got.ShutDown() {
		t.Fatalf("%+v, %v", got, err)
	}
	running := InProduction(b)
	if got, err = ParseControl(running); err != nil || got.ShutDown() || got.State != inProduction {
		t.Errorf("in production: %+v, %v", got, err)
	}
	if want.State = got.State; got != want {
		t.Errorf("something else changed: %+v", got)
	}
	if part := Built(b); len(part) != 53 || part[0] != 8 || part[52] != 1 || !bytes.Equal(part, Built(running)) {
		t.Errorf("how it was built: %x", part)
	}
}

func TestParseControlRefuses(t *testing.T) {
	good := controlFile(Control{})
	other := bytes.Clone(good)
	binary.LittleEndian.PutUint32(other[controlVersionAt:], controlVersion+1)
	for name, b := range map[string][]byte{"nothing": nil, "cut off": good[:ControlSize-1], "another version": other} {
		if _, err := ParseControl(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for at := range ControlSize {
		b := bytes.Clone(good)
		b[at] ^= 1
		if _, err := ParseControl(b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a bit of byte %d is wrong: %v", at, err)
		}
	}
	if _, err := ParseControl(good[:ControlSize]); err != nil {
		t.Errorf("what is behind is not used: %v", err)
	}
}
