package codecache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"blobpglite/core/pglite/internal/postlink"
)

// afterCode is the minimum number of bytes after an entry's code: a sum, and whether it has source positions.
const afterCode = 5

// arranged returns the entry with its code arranged by package postlink: the functions' offsets, the code and the code's
// sum change.
func arranged(entry []byte) ([]byte, error) {
	before, functions, size, err := head(bytes.NewReader(entry))
	if err != nil {
		return nil, err
	}
	code := entry[len(before):]
	if size < 0 || size > int64(len(code))-afterCode {
		return nil, fmt.Errorf("%w: its code of %d bytes does not match the entry's %d bytes", ErrRefused, size, len(entry))
	}
	code, after := code[:size], code[size:]
	if after[afterCode-1] != 0 {
		return nil, fmt.Errorf("%w: it has a source map", postlink.ErrUnknown)
	}
	table := before[len(before)-8*(int(functions)+1):]
	begins := make([]uint64, functions)
	for i := range begins {
		begins[i] = binary.LittleEndian.Uint64(table[8*i:])
	}
	if code, begins, err = postlink.Rearrange(code, begins); err != nil {
		return nil, err
	}
	out := slices.Grow(slices.Clone(before[:len(before)-len(table)]), len(table)+len(code)+len(after))
	for _, at := range append(begins, uint64(len(code))) {
		out = binary.LittleEndian.AppendUint64(out, at)
	}
	out = append(out, code...)
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(code, castagnoli))
	return append(out, after[4:]...), nil
}
