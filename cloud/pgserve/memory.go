package main

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"blobpglite/core/engine"
)

const (
	// cacheShare: 1/cacheShare of a container's memory is for the database's files. The rest is for PostgreSQL, its clients, the log in
	// flight, the garbage collector, half as much again of pages that no layer holds yet, and pages of which a layer is being made.
	cacheShare = 5
	// allInMemory is the -cache that means no cache: all files are in memory.
	allInMemory = -1
	// anyMemory is the -temp-memory that means no bound.
	anyMemory = -1
	// defaultCache is the -cache if nothing limits the memory, in bytes.
	defaultCache = 1 << 30
)

// limitFiles hold the memory limit of a container, in cgroups version 2 and 1.
var limitFiles = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// containerMemory is how much memory a container's processes may use, in bytes; 0: unlimited.
func containerMemory(files ...string) int64 {
	const unlimited = 1 << 50 // version 1 expresses it as a number
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || n <= 0 || n >= unlimited { // "max"
			return 0
		}
		return n
	}
	return 0
}

// containerBytes is how much memory the container's processes may use, as given or detected; 0: unlimited.
func (c *config) containerBytes() int64 {
	if c.container > 0 {
		return c.container
	}
	return containerMemory(limitFiles...)
}

// bounded returns engine.Options.Cache, and the server parameters derived from it.
func (c *config) bounded() (cache int64, settings map[string]string) {
	cache, settings = cacheBytes(c.cache, c.containerBytes()), maps.Clone(c.settings)
	for name, value := range map[string]func(int64) string{"shared_buffers": sharedBuffers, "maintenance_work_mem": maintenanceMemory} {
		if _, set := settings[name]; !set && cache > 0 {
			settings[name] = value(cache)
		}
	}
	return cache, settings
}

// sharedBuffers is the default of PostgreSQL's shared_buffers: a small part of the cache, because each page in it is in memory twice. Each
// start writes to all of it: with 128 MB a start takes 300 ms instead of 60, and the process 120 MB more.
func sharedBuffers(cache int64) string {
	const part, least, most = 8, 8 << 20, 16 << 20
	return fmt.Sprintf("%dMB", min(max(cache/part, least), most)>>20)
}

// maintenanceMemory is the default of maintenance_work_mem: PostgreSQL's own 64 MB are an eighth of a small instance, and a process keeps
// memory that it once had. A sort that needs more uses temporary files.
func maintenanceMemory(cache int64) string {
	const part, least, most = 4, 16 << 20, 64 << 20
	return fmt.Sprintf("%dMB", min(max(cache/part, least), most)>>20)
}

// cacheBytes is engine.Options.Cache: as given, or a share of the container's memory.
func cacheBytes(given, container int64) int64 {
	switch {
	case given == allInMemory:
		return 0
	case given > 0:
		return given
	case container > 0:
		return max(container/cacheShare, engine.LeastCache)
	}
	return defaultCache
}
