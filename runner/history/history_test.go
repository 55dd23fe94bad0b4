package history

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"blobpglite/core/clock"
)

func TestOutcomesAndTimes(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	h := New(clk)
	c := h.Client()
	acknowledged := h.Begin(c, "a", CAS, map[string]int64{"key": 1, "old": 0, "new": 5})
	clk.Advance(3 * time.Millisecond)
	h.End(acknowledged, OK, func(op *Op) { op.Out = map[string]int64{"rows": 1} })
	unknown := h.Begin(c, "a", Transfer, map[string]int64{"token": h.Token()})
	h.End(unknown, Unknown, func(op *Op) { op.Error = "the process ended" })
	h.Begin(h.Client(), "b", BankRead, nil) // never ends
	ops := h.Ops(0)
	if len(ops) != 3 || h.Len() != 3 {
		t.Fatalf("%d operations", len(ops))
	}
	if ops[0].End() != int64(3*time.Millisecond) || ops[1].End() != Forever || ops[2].End() != Forever || ops[2].Outcome != Unknown {
		t.Errorf("ends %d, %d, %d", ops[0].End(), ops[1].End(), ops[2].End())
	}
	if Count(ops, OK) != 1 || Count(ops, Unknown) != 2 || Count(ops, Failed) != 0 {
		t.Error("an unknown outcome was counted as something else")
	}
	first, second := h.Token(), h.Token()
	if len(h.Ops(2)) != 1 || h.Client() == c || first == second {
		t.Error("a part of the history, a client or a token is not what it should be")
	}
	var file bytes.Buffer
	if err := Save(&file, ops); err != nil {
		t.Fatal(err)
	}
	again, err := Load(&file)
	if err != nil || !reflect.DeepEqual(again, ops) {
		t.Errorf("saved and loaded: %v\n%+v\n%+v", err, again, ops)
	}
}

func TestLoadRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{`{"id":1,"kind":"ddl"}`, `{"id":1,"outcome":"maybe"}`, "nonsense"} {
		if _, err := Load(strings.NewReader(text + "\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
