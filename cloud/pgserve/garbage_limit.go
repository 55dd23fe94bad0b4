package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Near the container's limit the collector works harder: a process that is over it for a moment is ended. What lies outside of the heap, as
// PostgreSQL's memories and the program, comes and goes, so it is looked at behind each round.
const (
	limitReserve  = 8       // of the container, one over it, for what comes between two rounds
	leastHeapRoom = 8 << 20 // over what is in use: below it the collector would do nothing else
)

// heapLimit is what the heap and all that Go keeps beside it may come to. All are in bytes: of the container, what the process has resident, of
// that Go's own, and of that in use.
func heapLimit(container, resident, goes, inUse int64) int64 {
	outside := max(resident-goes, 0)
	return max(container-container/limitReserve-outside, inUse+leastHeapRoom)
}

// boundHeap keeps the process within its container. Where GOMEMLIMIT is set, whoever set it knows better; where nothing limits memory, or the
// system does not say what is resident, nothing is done.
func boundHeap(container int64) {
	if container > 0 && os.Getenv("GOMEMLIMIT") == "" && residentBytes() > 0 {
		adjustHeap(container)
	}
}

// adjustHeap is called once for each round of the collector.
func adjustHeap(container int64) {
	names := []string{"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes"}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	goes := value(0) - value(1)
	debug.SetMemoryLimit(heapLimit(container, residentBytes(), goes, goes-value(2)))
	runtime.SetFinalizer(new(round), func(*round) { adjustHeap(container) })
}

// residentBytes is what the process has resident; 0: the system does not say.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
