package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Garbage may take as much memory as is in use (Go's own rule), but no more than garbageBytes, so that a large database is not in memory
// twice. A collection is fast here, because files are bytes without pointers.
const (
	garbageBytes   = 24 << 20
	leastOfPercent = 2
	mostOfPercent  = 100
)

// garbagePercent is GOGC for a heap with live bytes in use.
func garbagePercent(live uint64) int {
	if live == 0 {
		return mostOfPercent
	}
	return int(min(max(garbageBytes*100/live, leastOfPercent), mostOfPercent))
}

// boundGarbage adjusts the collector after each of its cycles. It does nothing if GOGC is set.
func boundGarbage() {
	if os.Getenv("GOGC") == "" {
		adjustGarbage()
	}
}

// round is an object that nothing refers to, so that each cycle of the collector finds one. (One without a pointer might be allocated
// together with others.)
type round struct{ _ *byte }

// adjustGarbage is called once per cycle, by the finalizer of such an object.
func adjustGarbage() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() == metrics.KindUint64 {
		debug.SetGCPercent(garbagePercent(sample[0].Value.Uint64()))
	}
	runtime.SetFinalizer(new(round), func(*round) { adjustGarbage() })
}
