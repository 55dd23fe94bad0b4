package gc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// crowd counts the concurrent deletions. The first may be made to wait for a second one.
type crowd struct {
	store.Store
	mu        sync.Mutex
	now, most int
	meet      chan struct{}
	order     []string
	left      int // deletions still allowed; below zero: all
}

func (c *crowd) Delete(ctx context.Context, key string) error {
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	if c.now == 2 && c.meet != nil {
		close(c.meet)
		c.meet = nil
	}
	meet := c.meet
	refused := c.left == 0
	if c.left > 0 {
		c.left--
	}
	c.mu.Unlock()
	if meet != nil {
		<-meet
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
		c.order = append(c.order, key)
	}()
	if refused {
		return &store.OpError{Op: "delete", Key: key, Err: store.ErrDenied}
	}
	return c.Store.Delete(ctx, key)
}

// large is a bucket with many records, layers and parts to delete.
func large(t *testing.T) store.Store {
	t.Helper()
	st := bucket(t)
	for i := range 40 {
		for _, key := range []string{"base/1-%d/index", "base/1-%d/part/000000", "base/1-%d/part/000001", "page/1-%d/000000", "part/1-GONE%d/000000"} {
			if _, err := st.Put(t.Context(), fmt.Sprintf(key, i), nil, "w", store.IfAbsent()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return st
}

func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	st := &crowd{Store: large(t), meet: make(chan struct{}), left: -1}
	stats, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w", Parallel: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, st); !slices.Equal(got, want()) {
		t.Errorf("left: %v", got)
	}
	if stats.Records != 3 || stats.Fences != 2 || stats.Layers != 42 || stats.Segments != 42 || stats.Parts != 41 {
		t.Errorf("%+v", stats)
	}
	if st.most < 2 || st.most > MaxParallel {
		t.Errorf("%d at once", st.most)
	}
	// A layer without its index does not exist; one without a part is damaged. So all indexes are deleted first.
	index, part := 0, len(st.order)
	for i, key := range st.order {
		if strings.HasSuffix(key, "/index") {
			index = i
		} else if strings.HasPrefix(key, "base/") || strings.HasPrefix(key, base.SegmentPrefix()) {
			part = min(part, i)
		}
	}
	if index > part {
		t.Error("a part of a layer, or a segment, went before an index")
	}
	alone := &crowd{Store: large(t), left: -1}
	if _, err := Collect(t.Context(), Options{Store: alone, Epoch: 3, Writer: "w"}); err != nil || alone.most != 1 {
		t.Errorf("without the option %d at once, %v", alone.most, err)
	}
}

// TestDeathOfSeveralAtOnce: whichever deletions were done at the death, nothing needed is gone, and the next collection does the rest.
func TestDeathOfSeveralAtOnce(t *testing.T) {
	t.Parallel()
	for left := range 12 {
		below := large(t)
		if _, err := Collect(t.Context(), Options{Store: &crowd{Store: below, left: 12 * left}, Epoch: 3, Writer: "w", Parallel: 4}); err == nil {
			t.Fatalf("%d deletions were enough", 12*left)
		}
		for _, k := range want() {
			if !slices.Contains(keys(t, below), k) {
				t.Errorf("%s is gone", k)
			}
		}
		if _, err := Collect(t.Context(), Options{Store: below, Epoch: 3, Writer: "w", Parallel: 4}); err != nil {
			t.Fatal(err)
		}
		if got := keys(t, below); !slices.Equal(got, want()) {
			t.Errorf("the second one left %v", got)
		}
	}
}

// TestWhatIsRetainedStays: layers that the manifest keeps for earlier states stay, with every record after the oldest.
func TestWhatIsRetainedStays(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 1, Create: true}, func(m *manifest.Manifest) error {
		m.DatabaseID, m.WalStart = "db", 1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := wal.NewLog(st, wal.Start("db"), wal.Options{Epoch: 1, DatabaseID: "db", Writer: "w"})
	if err == nil {
		_, err = l.Fence(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	const retain = 8 * time.Hour
	for range 60 {
		if _, err := l.Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/f", Data: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		clk.Advance(40 * time.Minute)
		seq := l.Tail().Seq
		key := fmt.Sprintf("base/1-%d", seq)
		emptyLayer(t, st, key)
		m, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: 1, Clock: clk, Retain: retain}, manifest.Layer{Key: key, Epoch: 1, Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Collect(t.Context(), Options{Store: st, Epoch: 1, Writer: "w", Parallel: 8}); err != nil {
			t.Fatal(err)
		}
		have := keys(t, st)
		layers := 0
		for _, k := range have {
			if strings.HasSuffix(k, "/index") {
				layers++
			}
		}
		if layers != len(m.Layers) {
			t.Fatalf("record %d: %d layers are there, %d are named", seq, layers, len(m.Layers))
		}
		for s := m.WalStart; s <= seq; s++ {
			if !slices.Contains(have, wal.Key(s)) {
				t.Fatalf("record %d is gone, the log is kept from %d on", s, m.WalStart)
			}
		}
		if m.WalStart > 2 && slices.Contains(have, wal.Key(m.WalStart-1)) {
			t.Errorf("record %d is still there, the log is kept from %d on", m.WalStart-1, m.WalStart)
		}
	}
}
