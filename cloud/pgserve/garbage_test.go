package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 100, 1 << 20: 100, 32 << 20: 100, 64 << 20: 50, 640 << 20: 5, 1 << 30: 3, 8 << 30: 2,
	} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d MB in use: GOGC %d, want %d", live>>20, got, want)
		}
	}
}
