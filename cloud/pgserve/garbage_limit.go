package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Near the container's limit the collector works harder, because a process that exceeds it even briefly is killed. Memory outside the heap,
// such as PostgreSQL's and the program, varies, so it is measured after each cycle.
const (
	limitReserve  = 8       // 1/limitReserve of the container is kept free for what happens between two cycles
	leastHeapRoom = 8 << 20 // bytes above what is in use: with less the collector would run all the time
)

// heapLimit is the limit for the heap and everything else that Go manages. All are in bytes: the container's limit, what the process has
// resident, Go's part of that, and the part of Go's that is in use.
func heapLimit(container, resident, goes, inUse int64) int64 {
	outside := max(resident-goes, 0)
	return max(container-container/limitReserve-outside, inUse+leastHeapRoom)
}

// boundHeap keeps the process within its container. It does nothing if GOMEMLIMIT is set, if nothing limits memory, or if the system does
// not report resident memory.
func boundHeap(container int64) {
	if container > 0 && os.Getenv("GOMEMLIMIT") == "" && residentBytes() > 0 {
		adjustHeap(container)
	}
}

// adjustHeap is called once per cycle of the collector.
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

// residentBytes is how many bytes the process has resident; 0: unknown on this system.
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
