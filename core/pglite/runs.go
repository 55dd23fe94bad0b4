package pglite

import (
	"bytes"
	"iter"
)

// nonZeroRuns yields the runs of non-zero pages of b, with their offsets.
func nonZeroRuns(b []byte) iter.Seq2[int, []byte] {
	const page = 4096
	return func(yield func(int, []byte) bool) {
		start := -1
		for off := 0; off < len(b); off += page {
			if zero := isZero(b[off:min(off+page, len(b))]); zero == (start < 0) {
				continue
			} else if !zero {
				start = off
			} else {
				if !yield(start, b[start:off]) {
					return
				}
				start = -1
			}
		}
		if start >= 0 {
			yield(start, b[start:])
		}
	}
}

// zeroPage is compared with: the comparison uses vector instructions.
var zeroPage [4096]byte

// isZero reports whether a page, or a part of one, is all zeros.
func isZero(b []byte) bool { return bytes.Equal(b, zeroPage[:len(b)]) }
