package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{
		0: 100, 1 << 20: 100, 24 << 20: 100, 48 << 20: 50, 480 << 20: 5, 8 << 30: 2,
	} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d MB in use: GOGC %d, want %d", live>>20, got, want)
		}
	}
}

func TestHeapLimit(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, c := range []struct{ container, resident, goes, inUse, want int64 }{
		{512, 400, 300, 250, 348}, // 448, less 100 outside
		{512, 500, 300, 230, 248}, // 200 outside
		{512, 560, 300, 290, 298}, // more is in use than the container has: some room even so
		{512, 200, 300, 100, 448}, // not all of it is resident
	} {
		if got := heapLimit(c.container*mb, c.resident*mb, c.goes*mb, c.inUse*mb); got != c.want*mb {
			t.Errorf("%+v: %d MB", c, got/mb)
		}
	}
	if n := residentBytes(); n < mb && n != 0 {
		t.Errorf("%d bytes are resident", n)
	}
}
