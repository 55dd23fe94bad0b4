package base

import (
	"math"
)

// Layers of format 1 are read but no longer written: their chunks form one stream, in the order of the files, which is cut into frames, and
// these into parts that belong to the layer.
//
//	body     frame bytes, chunks
//	         parts    count × { frames, bytes, CRC32C }
//	         frames   count × { bytes, CRC32C }
//	         entries  as in format 2, but runs have no addresses: each begins where the last one ended

// part is what the index says about a part.
type part struct {
	frames int
	size   int64
}

const minPartBytes = 6

// partsOf reads parts and frames, and turns them into segments.
func (d *decoder) partsOf(x *index) {
	chunks := d.number(math.MaxInt64 / MaxFrameBytes)
	total := int(x.framesOf(chunks))
	n := d.count(minPartBytes)
	if n > maxSegments {
		d.fail("%d parts, the limit is %d", n, maxSegments)
		return
	}
	parts := make([]part, n)
	frames := 0
	for i := range parts {
		p := &parts[i]
		p.frames = int(d.number(int64(total - frames)))
		p.size = d.number(MaxSegmentBytes + maxStored(x.frameBytes))
		d.crc() // of the part; each frame has its own
		if p.frames == 0 {
			d.fail("part %d has no frames", i)
		}
		frames += p.frames
	}
	if frames != total || total > len(d.left)/minFrameBytes {
		d.fail("%d frames in parts, %d chunks need %d", frames, chunks, total)
		return
	}
	x.segments = make([]segment, n)
	for i, p := range parts {
		s := &x.segments[i]
		*s = segment{layer: d.layer, n: i, part: true, chunks: min(chunks, int64(p.frames)*x.frameChunks())}
		chunks -= s.chunks
		d.frames(x, s, p.frames)
		size := int64(0)
		for _, f := range s.frames {
			size += int64(f.size)
		}
		if size != p.size {
			d.fail("part %d has %d bytes, its frames %d", i, p.size, size)
		}
	}
}
