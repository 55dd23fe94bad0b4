package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
	"blobpglite/faults/clockfault"
)

func openAt(t *testing.T, st store.Store, at RecoveryTarget) (*Engine, error) {
	t.Helper()
	e, err := OpenAt(t.Context(), Options{Runtime: runtime, Store: st}, at)
	if err == nil {
		atEnd(t, e.Abandon)
	}
	return e, err
}

// moment is a state that was acknowledged, and the record that it ends at.
type moment struct {
	seq  uint64
	time time.Time
	rows string
}

const contents = "SELECT count(*) || ' ' || coalesce(sum(a), 0) || ' ' || coalesce(max(b), '') FROM t"

// TestAnEarlierStateIsWhatItWas: over several lives and layers, each acknowledged state can be read, and reading it changes nothing.
func TestAnEarlierStateIsWhatItWas(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	retain := func(o *Options) { inLog(o); o.Retain = time.Hour }
	var moments []moment
	for life := range 3 {
		e := open(t, st, retain)
		if life == 0 {
			must(t, e, "CREATE TABLE t (a int, b text)")
		}
		note := func() {
			moments = append(moments, moment{
				e.commits.(*logMode).log.position().Seq, clock.System().Now(), must(t, e, contents),
			})
		}
		for i := range 3 {
			must(t, e, fmt.Sprintf("INSERT INTO t SELECT g, 'life %d, %d' FROM generate_series(1, 500) g", life, i))
			note()
			must(t, e, fmt.Sprintf("DELETE FROM t WHERE a %% 7 = %d", i))
			note()
			if i == 1 {
				if err := e.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		e.Abandon()
	}
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil || len(m.Layers) < 2 {
		t.Fatalf("%d layers are kept, %v: the test shows nothing", len(m.Layers), err)
	}
	counted := store.Count(st)
	for i, want := range moments {
		ways := []RecoveryTarget{{Seq: want.seq}, {Time: want.time}}
		for _, at := range ways[:1+i%2] {
			e, err := openAt(t, counted, at)
			if err != nil {
				t.Fatalf("as of %s: %v", at, err)
			}
			if got := must(t, e, contents); got != want.rows {
				t.Errorf("as of %s: %q, it was %q", at, got, want.rows)
			}
			if _, err := e.Query(t.Context(), "INSERT INTO t VALUES (1)"); err == nil {
				t.Error("an earlier state took a write")
			}
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if ops := counted.Ops(); ops.BytesUp != 0 || ops.Delete != 0 {
		t.Errorf("reading earlier states wrote: %+v", ops)
	}
	last := moments[len(moments)-1]
	if got := must(t, open(t, st, retain), contents); got != last.rows {
		t.Errorf("and the present is %q, want %q", got, last.rows)
	}
}

func TestAStateOutOfReach(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	if _, err := openAt(t, st, RecoveryTarget{Seq: 1}); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("no database: %v", err)
	}
	e := open(t, st, inLog) // nothing is retained
	must(t, e, "CREATE TABLE t (a int)")
	early := e.commits.(*logMode).log.position().Seq
	must(t, e, "INSERT INTO t VALUES (1)")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	tail := e.commits.(*logMode).log.position().Seq
	e.Abandon()
	for name, at := range map[string]RecoveryTarget{
		"before what is kept": {Seq: early}, "not yet there": {Seq: tail + 5}, "long ago": {Time: time.Unix(1, 0)},
		"tomorrow": {Time: clock.System().Now().Add(24 * time.Hour)},
	} {
		if _, err := openAt(t, st, at); !errors.Is(err, ErrBeyondRetention) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, at := range map[string]RecoveryTarget{"nothing": {}, "both": {Seq: 1, Time: clock.System().Now()}} {
		if _, err := openAt(t, st, at); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openAt(t, st, RecoveryTarget{Seq: tail}); err != nil {
		t.Errorf("the last record: %v", err)
	}
	if _, err := openAt(t, st, RecoveryTarget{Time: clock.System().Now().Add(clocksDiffer / 2)}); err != nil {
		t.Errorf("now, by a clock that is a little ahead: %v", err)
	}
	if err := st.Delete(t.Context(), wal.Key(tail+1)); err != nil { // recovery's, or nothing
		t.Fatal(err)
	}
	report, err := takeover.Verify(t.Context(), st)
	if err != nil || report.Layers != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), m.Layers[0].Key+"/index"); err != nil {
		t.Fatal(err)
	}
	if _, err := openAt(t, st, RecoveryTarget{Seq: tail}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a layer that is gone for good: %v", err)
	}
}

// TestAStateOfAClockAhead: a time in the future of the reader's clock can be read if the log has passed it.
func TestAStateOfAClockAhead(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	ahead := clockfault.New(clock.System())
	ahead.Jump(6 * time.Hour)
	e := open(t, st, inLog, func(o *Options) { o.Clock, o.Retain = ahead, time.Hour })
	must(t, e, "CREATE TABLE t (a int)")
	between := ahead.Now()
	ahead.Jump(time.Second)
	must(t, e, "INSERT INTO t VALUES (1)")
	e.Abandon()
	past, err := openAt(t, st, RecoveryTarget{Time: between})
	if err != nil {
		t.Fatal(err)
	}
	if got := must(t, past, "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
	if _, err := openAt(t, st, RecoveryTarget{Time: between.Add(time.Hour)}); !errors.Is(err, ErrBeyondRetention) {
		t.Errorf("a time that no clock has reached: %v", err)
	}
}
