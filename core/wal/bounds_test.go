package wal

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// meter counts the bytes of records that were fetched and not handed on, and the concurrent fetches of parts.
type meter struct {
	store.Store
	mu           sync.Mutex
	held, most   int64
	parts, beams int // parts being fetched, and the most at a time
	meet         chan struct{}
}

func (m *meter) Get(ctx context.Context, key string) (store.Object, error) {
	isPart := strings.HasPrefix(key, partPrefix)
	if isPart {
		m.mu.Lock()
		m.parts++
		m.beams = max(m.beams, m.parts)
		if m.parts == 2 && m.meet != nil {
			close(m.meet)
			m.meet = nil
		}
		meet := m.meet
		m.mu.Unlock()
		if meet != nil {
			<-meet // for the second
		}
	}
	o, err := m.Store.Get(ctx, key)
	m.mu.Lock()
	defer m.mu.Unlock()
	if isPart {
		m.parts--
	} else {
		m.held += o.Size
		m.most = max(m.most, m.held)
	}
	return o, err
}

// large appends records with bodies that do not compress.
func large(t *testing.T, l *Log, records, bytes int) {
	t.Helper()
	data := make([]byte, bytes)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	for range records {
		if _, err := l.Append(t.Context(), []Op{{Kind: OpReplace, Path: "/f", Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	st := mem.New(mem.Options{})
	large(t, newLog(t, st, Start(database), 1), 11, MaxRecordBytes-1000)
	for name, o := range map[string]ReadOptions{"list": {}, "probe": {Probe: true}} {
		m := &meter{Store: st}
		o.From, o.DatabaseID = Start(database), database
		n := 0
		_, err := Read(t.Context(), m, o, func(r Record) error {
			n++
			m.mu.Lock()
			defer m.mu.Unlock()
			m.held -= int64(r.Bytes)
			return nil
		})
		if err != nil || n != 11 {
			t.Fatalf("%s: %d records, %v", name, n, err)
		}
		if m.most > maxInFlight+MaxRecordBytes {
			t.Errorf("%s: %d bytes were in flight at once, the bound is %d and a record", name, m.most, int64(maxInFlight))
		}
	}
}

// TestPartsComeTogether: the first part waits for the second one, so reading them in turn would not end.
func TestPartsComeTogether(t *testing.T) {
	st := mem.New(mem.Options{})
	large(t, newLog(t, st, Start(database), 1), 1, 6*partBytes)
	m := &meter{Store: st, meet: make(chan struct{})}
	records, _, err := readAll(t, m, ReadOptions{From: Start(database), DatabaseID: database})
	if err != nil || len(records) != 1 || len(records[0].Ops[0].Data) != 6*partBytes {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if m.beams < 2 || m.beams > downloads {
		t.Errorf("%d parts at once", m.beams)
	}
	alone := &meter{Store: st}
	if _, _, err := readAll(t, alone, ReadOptions{From: Start(database), DatabaseID: database, Parallel: 1}); err != nil || alone.beams != 1 {
		t.Errorf("one request after the other: %d at once, %v", alone.beams, err)
	}
}

// TestReadGivesWhatIsSoundFirst: what precedes a missing record is handed on.
func TestReadGivesWhatIsSoundFirst(t *testing.T) {
	st, _ := fill(t, 5)
	if err := st.Delete(t.Context(), Key(4)); err != nil {
		t.Fatal(err)
	}
	records, at, err := readAll(t, st, ReadOptions{From: Start(database), DatabaseID: database})
	if !errors.Is(err, ErrCorrupt) || len(records) != 3 || at.Seq != 3 {
		t.Errorf("%d records, at %d, %v", len(records), at.Seq, err)
	}
}

// TestStrangersAmongTheRecords: an object without a record's name is not a record, and hides none.
func TestStrangersAmongTheRecords(t *testing.T) {
	st, _ := fill(t, 5)
	for _, name := range []string{"manifest", "lease", "wal/00000000000000000001", "5", "000000000000000000002x", "README"} {
		if _, err := st.Put(t.Context(), keyPrefix+name, nil, "w", store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	records, at, err := readAll(t, st, ReadOptions{From: Start(database), DatabaseID: database})
	if err != nil || len(records) != 5 || at.Seq != 5 {
		t.Errorf("%d records, at %d, %v", len(records), at.Seq, err)
	}
}
