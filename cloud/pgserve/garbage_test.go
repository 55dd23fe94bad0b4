package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 100, 1 << 20: 100, 24 << 20: 100, 48 << 20: 50, 480 << 20: 5, 8 << 30: 2,
	} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d MB in use: GOGC %d, want %d", live>>20, got, want)
		}
	}
}
