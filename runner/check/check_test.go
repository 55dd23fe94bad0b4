package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/runner/history"
)

func start() history.State {
	return history.State{
		Balances: []int64{100, 100, 100}, Registers: map[int64]int64{0: 0, 1: 0}, Ledger: []history.LedgerRow{{Hash: LedgerStart}},
	}
}

// append adds entries to a ledger as the database does.
func ledger(tokens ...int64) []history.LedgerRow {
	rows := []history.LedgerRow{{Hash: LedgerStart}}
	for i, t := range tokens {
		rows = append(rows, history.LedgerRow{ID: int64(i) + 1, Token: t, Hash: LedgerHash(rows[i].Hash, t)})
	}
	return rows
}

type in = map[string]int64

func op(id int64, kind history.Kind, outcome history.Outcome, in, out in, call, ret int64) history.Op {
	return history.Op{ID: id, Client: id, Node: "a", Kind: kind, In: in, Out: out, Call: call, Return: ret, Outcome: outcome}
}

// expect compares a result with a part of its expected text; empty: nothing is wrong.
func expect(t *testing.T, name string, r Result, want string) {
	t.Helper()
	switch {
	case want == "" && r.Wrong != "":
		t.Errorf("%s: a false alarm: %s", name, r.Wrong)
	case want == "" && r.Looked == 0:
		t.Errorf("%s: looked at nothing", name)
	case want != "" && !strings.Contains(r.Wrong, want):
		t.Errorf("%s: said %q, want %q", name, r.Wrong, want)
	}
}

func TestDurability(t *testing.T) {
	t.Parallel()
	appended := op(1, history.Append, history.OK, in{"token": 7}, in{"id": 1}, 1, 2)
	unknown := op(2, history.Append, history.Unknown, in{"token": 8}, nil, 3, 0)
	failed := op(3, history.Append, history.Failed, in{"token": 9}, nil, 3, 4)
	for name, c := range map[string]struct {
		ops  []history.Op
		now  func(*history.State)
		want string
	}{
		"there":              {[]history.Op{appended}, func(s *history.State) { s.Ledger = ledger(7) }, ""},
		"lost":               {[]history.Op{appended}, func(s *history.State) { s.Ledger = ledger() }, "was acknowledged"},
		"elsewhere":          {[]history.Op{appended, unknown}, func(s *history.State) { s.Ledger = ledger(8, 7) }, "stands at 2"},
		"unknown, there":     {[]history.Op{appended, unknown}, func(s *history.State) { s.Ledger = ledger(7, 8) }, ""},
		"unknown, not there": {[]history.Op{appended, unknown}, func(s *history.State) { s.Ledger = ledger(7) }, ""},
		"failed, there":      {[]history.Op{appended, failed}, func(s *history.State) { s.Ledger = ledger(7, 9) }, "told that it failed"},
		"never sent":         {[]history.Op{appended}, func(s *history.State) { s.Ledger = ledger(7, 77) }, "nobody sent it"},
		"twice":              {[]history.Op{appended}, func(s *history.State) { s.Ledger = append(ledger(7), history.LedgerRow{ID: 2, Token: 7}) }, "twice"},
		"transfer lost":      {[]history.Op{op(1, history.Transfer, history.OK, in{"token": 3}, nil, 1, 2)}, func(*history.State) {}, "transfer 3 was acknowledged"},
		"block lost":         {[]history.Op{op(1, history.Block, history.OK, in{"token": 3}, nil, 1, 2)}, func(*history.State) {}, "block of rows 3"},
		"copy torn": {[]history.Op{op(1, history.Copy, history.Unknown, in{"token": 3, "rows": 10}, nil, 1, 0)},
			func(s *history.State) { s.Copies = []history.CopyRow{{Token: 3, Rows: 4}} }, "4 rows of 10"},
		"table lost":         {[]history.Op{op(1, history.DDL, history.OK, in{"token": 3, "drop": 0}, nil, 1, 2)}, func(*history.State) {}, "table 3 was acknowledged"},
		"table dropped":      {[]history.Op{op(1, history.DDL, history.OK, in{"token": 3, "drop": 0}, nil, 1, 2), op(2, history.DDL, history.OK, in{"token": 4, "drop": 3}, nil, 3, 4)}, func(s *history.State) { s.Tables = []int64{4} }, ""},
		"drop undone":        {[]history.Op{op(2, history.DDL, history.OK, in{"token": 4, "drop": 3}, nil, 3, 4)}, func(s *history.State) { s.Tables = []int64{3, 4} }, "its drop was acknowledged"},
		"table nobody made":  {[]history.Op{op(2, history.DDL, history.Failed, in{"token": 4, "drop": 0}, nil, 3, 4)}, func(s *history.State) { s.Tables = []int64{4} }, "nobody made it"},
		"drop not known yet": {[]history.Op{op(1, history.DDL, history.OK, in{"token": 3, "drop": 0}, nil, 1, 2), op(2, history.DDL, history.Unknown, in{"token": 4, "drop": 3}, nil, 3, 0)}, func(s *history.State) { s.Tables = []int64{3} }, ""},
	} {
		now := start()
		c.now(&now)
		expect(t, name, Durability(c.ops, start(), now), c.want)
	}
	before, now := start(), start()
	before.Ledger = ledger(5)
	expect(t, "what was there before", Durability(nil, before, now), "is gone")
}

func TestBank(t *testing.T) {
	t.Parallel()
	moved := op(1, history.Transfer, history.OK, in{"token": 3, "from": 0, "to": 1, "amount": 10}, nil, 1, 2)
	read := func(values ...int64) history.Op {
		r := op(2, history.BankRead, history.OK, nil, nil, 3, 4)
		r.Values = values
		return r
	}
	now := start()
	now.Balances, now.Transfers = []int64{90, 110, 100}, []int64{3}
	expect(t, "right", Bank([]history.Op{moved, read(90, 110, 100)}, start(), now), "")
	expect(t, "a read in the middle", Bank([]history.Op{moved, read(90, 100, 100)}, start(), now), "a read saw 290")
	now.Transfers = nil
	expect(t, "torn, sum kept", Bank([]history.Op{moved}, start(), now), "account 0 holds 90")
	now.Balances = []int64{90, 100, 100}
	expect(t, "torn", Bank([]history.Op{moved}, start(), now), "hold 290")
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	now := start()
	now.Ledger = ledger(4, 5)
	now.Blocks = []history.BlockRow{{Token: 1, Rows: 2, Found: 2, Digest: "x", Actual: "x"}}
	expect(t, "right", Checksum(now), "")
	now.Ledger[1].Token = 6
	expect(t, "a changed entry", Checksum(now), "chain breaks at entry 1")
	now.Ledger = append(ledger(4, 5)[:1], ledger(4, 5)[2:]...)
	expect(t, "a missing entry", Checksum(now), "entry 2 where 1 should be")
	now.Ledger = ledger()
	now.Blocks[0].Found = 1
	expect(t, "a missing row", Checksum(now), "1 rows of 2")
	now.Blocks, now.Copies = nil, []history.CopyRow{{Token: 1, Rows: 5, Wrong: 2}}
	expect(t, "wrong rows", Checksum(now), "2 of 5 rows differ")
}

func TestLinearizable(t *testing.T) {
	t.Parallel()
	write := func(id, value, call, ret int64, o history.Outcome) history.Op {
		return op(id, history.Write, o, in{"key": 0, "value": value}, nil, call, ret)
	}
	read := func(id, value, call, ret int64) history.Op {
		return op(id, history.Read, history.OK, in{"key": 0}, in{"value": value}, call, ret)
	}
	cas := func(id, old, value, rows, call, ret int64, o history.Outcome) history.Op {
		return op(id, history.CAS, o, in{"key": 0, "old": old, "new": value}, in{"rows": rows}, call, ret)
	}
	ok, unknown, failed := history.OK, history.Unknown, history.Failed
	for name, c := range map[string]struct {
		ops  []history.Op
		end  int64
		want string
	}{
		"in order":                         {[]history.Op{write(1, 5, 1, 2, ok), read(2, 5, 3, 4)}, 5, ""},
		"a stale read":                     {[]history.Op{write(1, 5, 1, 2, ok), read(2, 0, 3, 4)}, 5, "no order"},
		"at the same time":                 {[]history.Op{write(1, 5, 1, 4, ok), read(2, 0, 2, 3)}, 5, ""},
		"a lost write":                     {[]history.Op{write(1, 5, 1, 2, ok)}, 0, "no order"},
		"unknown, seen late":               {[]history.Op{write(1, 5, 1, 0, unknown), read(2, 0, 3, 4), read(3, 5, 5, 6)}, 5, ""},
		"unknown, never seen":              {[]history.Op{write(1, 5, 1, 0, unknown), read(2, 0, 3, 4)}, 0, ""},
		"unknown, seen and gone":           {[]history.Op{write(1, 5, 1, 0, unknown), read(2, 5, 3, 4), read(3, 0, 5, 6)}, 0, "no order"},
		"failed, seen":                     {[]history.Op{write(1, 5, 1, 2, failed), read(2, 5, 3, 4)}, 5, "no order"},
		"swapped twice":                    {[]history.Op{cas(1, 0, 5, 1, 1, 2, ok), cas(2, 0, 6, 1, 3, 4, ok)}, 6, "no order"},
		"missed because of an unknown one": {[]history.Op{write(1, 5, 1, 0, unknown), cas(2, 0, 6, 0, 3, 4, ok), write(3, 7, 5, 6, ok)}, 7, ""},
		"missed without a reason":          {[]history.Op{cas(2, 0, 6, 0, 3, 4, ok)}, 0, "no order"},
	} {
		now := start()
		now.Registers = map[int64]int64{0: c.end}
		picture := filepath.Join(t.TempDir(), "p.html")
		expect(t, name, Linearizable(c.ops, start(), now, LinearOptions{Picture: picture}), c.want)
		_, err := os.Stat(strings.TrimSuffix(picture, ".html") + "-registers.html")
		if drawn := err == nil; drawn != (c.want != "") {
			t.Errorf("%s: picture drawn: %v", name, drawn)
		}
	}
}

func TestLinearizableBank(t *testing.T) {
	t.Parallel()
	moved := op(1, history.Transfer, history.OK, in{"token": 3, "from": 0, "to": 1, "amount": 10}, nil, 1, 2)
	unknown := op(2, history.Transfer, history.Unknown, in{"token": 4, "from": 0, "to": 1, "amount": 5}, nil, 3, 0)
	stale := op(3, history.BankRead, history.OK, nil, nil, 5, 6)
	stale.Values = []int64{100, 100, 100}
	now := start()
	now.Balances, now.Transfers = []int64{90, 110, 100}, []int64{3}
	expect(t, "an unknown one that is not there", Linearizable([]history.Op{moved, unknown}, start(), now, LinearOptions{}), "")
	expect(t, "a stale read", Linearizable([]history.Op{moved, stale}, start(), now, LinearOptions{}), "bank: no order")
	now.Balances, now.Transfers = []int64{85, 115, 100}, []int64{3, 4}
	expect(t, "an unknown one that is there", Linearizable([]history.Op{moved, unknown}, start(), now, LinearOptions{}), "")
}
