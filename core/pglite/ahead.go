package pglite

import "blobpglite/core/memfs"

// Sizes, in bytes, of the windows in which a file that is read from front to back is fetched ahead: the first, the growth factor, the
// largest for a source that does not report its room, and the largest of all. Each window takes one round trip to the bucket; each growth
// takes another.
const (
	firstWindow = 256 << 10
	windowGrows = 4
	lastWindow  = 4 << 20
	mostWindow  = 64 << 20
)

// adviseWillNeed is POSIX_FADV_WILLNEED.
const adviseWillNeed = 3

// sysFadvise is posix_fadvise: PostgreSQL says what it will read, where it knows.
func sysFadvise(in *Instance, s []uint64) {
	o, e := in.files.get(uint32(s[0]))
	off, length := int64(s[1]), int64(s[2])
	if e == eOK && uint32(s[3]) == adviseWillNeed && o.file != nil && off >= 0 && length >= 0 {
		if length == 0 { // to the end
			length = o.file.Stat().Size
		}
		in.ahead(o.file, off, length)
	}
	s[0] = 0 // success: it is only advice
}

// ahead announces to the source which chunks of a range are away.
func (in *Instance) ahead(file *memfs.File, off, length int64) {
	source := in.source()
	if source == nil || !file.Partial() {
		return
	}
	var at []int64
	for _, m := range file.Missing(off, length) {
		if m.Address >= 0 {
			at = append(at, m.Address)
		}
	}
	if len(at) > 0 {
		source.Ahead(at)
	}
}

// lastWindow returns the size of the largest window.
func (in *Instance) lastWindow() int64 {
	if r, ok := in.source().(memfs.RoomySource); ok {
		return min(max(r.Room(), firstWindow), mostWindow)
	}
	return lastWindow
}

// runAhead detects sequential reads, as a kernel does: if a read begins where the last one ended, what follows is fetched in a window that
// grows whenever half of it has been read. After that, reads may skip pages, because PostgreSQL does not read pages that are in its own
// buffers.
func (in *Instance) runAhead(o *openFile, off, n int64) {
	end, gap, first := off+n, off-o.nextRead, o.nextRead == 0
	o.nextRead = end
	switch {
	case first || gap < 0 || gap > o.window/2: // an index's first page is read whatever follows
		o.window = 0
		return
	case o.window == 0:
		o.window, o.aheadTo = firstWindow, end
	case o.aheadTo-end >= o.window/2:
		return
	default:
		o.window = min(windowGrows*o.window, in.lastWindow())
	}
	from := max(o.aheadTo, end)
	o.aheadTo = end + o.window
	in.ahead(o.file, from, o.aheadTo-from)
}
