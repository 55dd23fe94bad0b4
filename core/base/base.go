// Package base writes and reads layers: the files of a data directory as of one log position, in a handful of objects.
//
//	snapshot := data.Clone() // after CHECKPOINT, every record up to seq durable
//	layer, stats, err := base.Write(ctx, st, base.Key(7, 120), snapshot, base.WriteOptions{})
//	…
//	restored := memfs.New(memfs.Options{})
//	layer, stats, err = base.Read(ctx, st, base.Key(7, 120), restored, base.ReadOptions{})
//
// The non-zero 8 KiB chunks of all files, in the order of their paths, form a stream. It is cut into frames of 256 KiB, each compressed on
// its own; frames are collected into page segments of about 4 MiB; the index says where everything is:
//
//	files    /PG_VERSION ▏/base/1/1247 ················▏/base/1/1249 ·······▏ hole, zeros: not stored
//	frames   [ 0                ][ 1                ][ 2                ][ 3    ]
//	objects  page/7-120/000000: frames 0, 1, 2   page/7-120/000001: frame 3   base/7-120/index: written last
//
// Segments are written once and shared. A layer that is given the previous one (WriteOptions.Share) writes only what has changed since, and
// refers to everything else where it is. Its index is complete all the same: reading a layer needs no other index.
//
//	base/7-120   page/7-120/000000 [AAAABBBB]  page/7-120/000001 [CC]
//	base/7-180   page/7-120/000000 [AAAA····]  page/7-120/000001 [CC]  page/7-180/000000 [BBBBDD]
//
// A segment that is less than half used is cleaned: its used part is written again. Small segments are merged (plan.go). A collection may
// delete a segment that no layer named by the manifest needs (package gc).
//
//	index    "BPGLAYER" | format u32 | body length u32 | CRC32C u32 of all before and after | name | zstd(body)
//	name     0x184D2A5B u32 | length u32 | key of the layer | id of the database
//	body     frame bytes
//	         segments count × { layer that it was written for, without base/; empty: as the previous one
//	                            number, chunks, one for each frame × { bytes, CRC32C } }
//	         boot     count × { segment, frame }: what is read until the first rows are there, and so is fetched together
//	         entries  count × { kind, path, permissions, mtime in ns,
//	                            file: size, runs of stored chunks × { chunks skipped, chunks stored, address }
//	                            symlink: target    hard link: path of an earlier file }
//
// A chunk's address counts the chunks of all segments in order; a run's is that of its first chunk, minus the address after the previous
// run. Integers are varints, CRCs are u32, fixed-size numbers are little endian. Given a file and a chunk, the index alone gives segment,
// offset and length of the one frame that holds it. Format 1 can be read too (parts.go).
//
// An index names its layer and database, and is refused under another key; and no layer names a segment of a higher epoch or a later record
// than its own. The name is a skippable zstd frame, so that earlier versions can read such an index. This version can read theirs, which
// have no name: what the manifest says about a layer (Expect) tells these apart, by their sizes. The record in a layer's key is the one in
// the manifest.
//
// Survives: death at any point of Write (without its index a layer does not exist; its segments are garbage that nothing names), a lost
// reply, a damaged, truncated, swapped, foreign or missing object (Read fails and says which; nothing in the bucket is changed). Does not
// survive: a tree that changes during Write, so give it a clone.
package base

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

const (
	// Format is the format that this version writes, and the newest that it reads.
	Format = 2
	// DefaultFrameBytes is the raw size of a frame: small enough to fetch for a single page.
	DefaultFrameBytes = 256 << 10
	// DefaultSegmentBytes is the stored size at which a segment ends.
	DefaultSegmentBytes = 4 << 20
	// DefaultParallel is the number of requests in flight, and so of segments in memory.
	DefaultParallel = 8

	// MaxFrameBytes, MaxSegmentBytes and maxParallel bound the options, and what a reader accepts.
	MaxFrameBytes   = 4 << 20
	MaxSegmentBytes = 64 << 20
	maxParallel     = 256

	// putTries bounds the puts of one object; the pauses between them start at firstPause and double each time.
	putTries   = 5
	firstPause = 100 * time.Millisecond
	maxPause   = 16 * firstPause
)

var (
	// ErrCorrupt: an object of the layer is not as written. Do not start from what was read, and delete nothing: restore from an older
	// layer and the log, or bring back a noncurrent version of the object. It wraps store.ErrCorrupt.
	ErrCorrupt = fmt.Errorf("layer is damaged: start from an older one, and delete nothing: %w", store.ErrCorrupt)
	// ErrNewer: written by a newer version of this program, in a format unknown to this one. Upgrade; nothing is wrong with the layer. It
	// wraps manifest.ErrNewer.
	ErrNewer = fmt.Errorf("layer cannot be read: %w", manifest.ErrNewer)
	// ErrTooLarge: the tree holds more than WriteOptions.MaxBytes or than an index can describe. Nothing was uploaded. Leave files out
	// (Include), or raise the limit.
	ErrTooLarge = errors.New("layer is too large")
)

// WriteOptions of Write. The zero value is useful.
type WriteOptions struct {
	FrameBytes int // raw bytes per frame, a multiple of memfs.ChunkSize up to MaxFrameBytes; 0: DefaultFrameBytes
	// Share is the previous layer: chunks that were not written after Since, a mark of src or of the tree that it was cloned from, stay
	// where that layer has them. It must hold exactly what the tree held at that mark. Nil: everything is written.
	Share *Layer
	Since memfs.Mark
	// Copy is for a layer of a database other than Share's: it copies a segment, and returns the copy's size. It is called concurrently,
	// before the index is written, for each segment of Share that the new layer uses; none is cleaned. Nil: Share is of the same database.
	Copy func(ctx context.Context, from, to string) (size int64, err error)
	// Database is the ID of the layer's database, for its index. Empty: the index does not say it.
	Database string
	// Pages is the source of src's chunks that are away; for chunks in memory that have an origin, it knows where Share has them. Nil: src
	// has no such chunks.
	Pages *Pages
	// Boot are addresses of Pages. When the layer is opened, their frames are fetched first, or the frames with the chunks that replace
	// them. Nil: those of Share.
	Boot []int64
	// Rewrite is a file, by canonical path, that is always written, because in src it is not the file in the tree of Since. Empty: none.
	Rewrite string

	SegmentBytes int64 // stored bytes per segment, up to MaxSegmentBytes; 0: DefaultSegmentBytes
	Level        zstd.EncoderLevel
	Parallel     int        // uploads in flight; 0: DefaultParallel
	MaxBytes     int64      // largest RawBytes; 0: no limit. Beyond: ErrTooLarge
	Hook         point.Hook // fired at the base/ points, from several goroutines
	// Include says what goes into the layer, by canonical path ("/base/1/1259"); leaving out a directory leaves out everything below it.
	// The root is always in. Nil: everything.
	Include func(path string, info memfs.Info) bool
	// LeaveOut returns a range of a file's chunks, end excluded, to leave out: they are read as zeros. Nil: none.
	LeaveOut func(path string) (first, end int64)
	// Progress is called with the raw bytes done and in total, in the caller's goroutine. Nil: not called.
	Progress func(done, total int64)
	// Unreadable is called, in the caller's goroutine, for each segment that was to be cleaned but has pages that are damaged or gone: the
	// layer continues to name it. With the same Pages it is called once an hour for each. Nil: not called.
	Unreadable func(segment string, err error)
	Clock      clock.Clock // for pauses and Stats; nil: the system's
}

// ReadOptions of Read. The zero value is useful.
type ReadOptions struct {
	Parallel int // downloads in flight; 0: DefaultParallel
	// Progress is called with the raw bytes done and in total, in the caller's goroutine. Nil: not called.
	Progress func(done, total int64)
	Clock    clock.Clock // for Stats; nil: the system's
	Expect   Expect      // what is known about the layer
	// Head is called by Verify, in the caller's goroutine, with the first chunk of the file HeadOf, if the layer has one. Nil: not called.
	Head   func(chunk []byte)
	HeadOf string
	// Verified is for several calls of Verify on layers that share segments. Nil: all segments are read.
	Verified *Verified
}

// Stats of one Write or Read.
type Stats struct {
	Files       int   // regular files, a hard-linked one once
	RawBytes    int64 // chunks in the layer, uncompressed
	StoredBytes int64 // all objects that the layer needs
	Segments    int   // of these, the number of segments, or parts
	Frames      int   // in them
	// Of a Write: the number of new segments; the bytes uploaded, including the index; the bytes of the new chunks, uncompressed; and of
	// these, those that the previous layer has too, which were written again to get rid of hardly used segments.
	NewSegments                         int
	NewBytes, NewRawBytes, CleanedBytes int64
	ReadBytes                           int64 // of an Open: how much of StoredBytes was read
	// Times, summed over goroutines; Wall is elapsed time.
	Compress, Upload, Download, Decompress time.Duration
	Wall                                   time.Duration
}

func (o WriteOptions) withDefaults() (WriteOptions, error) {
	if o.FrameBytes == 0 {
		o.FrameBytes = DefaultFrameBytes
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.Level == 0 {
		o.Level = zstd.SpeedFastest
	}
	if o.Parallel == 0 {
		o.Parallel = DefaultParallel
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	switch {
	case o.FrameBytes < memfs.ChunkSize || o.FrameBytes%memfs.ChunkSize != 0 || o.FrameBytes > MaxFrameBytes:
		return o, fmt.Errorf("%w: FrameBytes %d is not a multiple of %d up to %d",
			store.ErrInvalid, o.FrameBytes, memfs.ChunkSize, MaxFrameBytes)
	case o.SegmentBytes < 1 || o.SegmentBytes > MaxSegmentBytes:
		return o, fmt.Errorf("%w: SegmentBytes %d is not in 1..%d", store.ErrInvalid, o.SegmentBytes, MaxSegmentBytes)
	case o.Parallel < 1 || o.Parallel > maxParallel:
		return o, fmt.Errorf("%w: Parallel %d is not in 1..%d", store.ErrInvalid, o.Parallel, maxParallel)
	case len(o.Database) > maxOrigin:
		return o, fmt.Errorf("%w: the id of the database has %d bytes, the limit is %d", store.ErrInvalid, len(o.Database), maxOrigin)
	}
	return o, nil
}

func (o ReadOptions) withDefaults() (ReadOptions, error) {
	if o.Parallel == 0 {
		o.Parallel = DefaultParallel
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Parallel < 1 || o.Parallel > maxParallel {
		return o, fmt.Errorf("%w: Parallel %d is not in 1..%d", store.ErrInvalid, o.Parallel, maxParallel)
	}
	return o, nil
}

func checksum(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// cpus is the number of goroutines that compress or decompress.
func cpus() int { return runtime.GOMAXPROCS(0) }
