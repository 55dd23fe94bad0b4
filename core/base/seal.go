package base

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

const (
	magic      = "BPGLAYER"
	headerSize = len(magic) + 12
	formatPart = 1 // a layer that shares nothing: its parts are its own

	// The name is in a skippable zstd frame (RFC 8878, 3.1.2): decompressors skip it, and so do versions of this program that do not know
	// it.
	nameMagic  = 0x184D2A5B
	nameHeader = 8       // magic, length
	maxName    = 4 << 10 // bytes
)

// seal puts the header and the layer's name before the compressed body.
func seal(own named, body []byte, format uint32) ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	object := append(make([]byte, 0, headerSize+len(body)/2), magic...)
	object = binary.LittleEndian.AppendUint32(object, format)
	object = binary.LittleEndian.AppendUint32(object, uint32(len(body)))
	object = append(object, 0, 0, 0, 0)
	object = own.append(object)
	object = z.EncodeAll(body, object)
	binary.LittleEndian.PutUint32(object[headerSize-4:], checksum(object)) // computed with zeros in its own place
	return object, nil
}

// unseal checks the header and returns the layer's name, if the index has it, and the body. It changes object.
func unseal(object []byte) (own named, body []byte, format uint32, err error) {
	if len(object) < headerSize || string(object[:len(magic)]) != magic {
		return own, nil, 0, fmt.Errorf("%w: it does not begin as an index does (%d bytes)", ErrCorrupt, len(object))
	}
	format = binary.LittleEndian.Uint32(object[len(magic):])
	switch {
	case format > Format:
		return own, nil, 0, fmt.Errorf("%w: its format is %d, this program reads up to %d: upgrade it", ErrNewer, format, Format)
	case format < formatPart:
		return own, nil, 0, fmt.Errorf("%w: its format is %d", ErrCorrupt, format)
	}
	size := binary.LittleEndian.Uint32(object[len(magic)+4:])
	want := binary.LittleEndian.Uint32(object[headerSize-4:])
	clear(object[headerSize-4 : headerSize])
	if got := checksum(object); got != want {
		return own, nil, 0, fmt.Errorf("%w: its checksum is %08x, want %08x", ErrCorrupt, got, want)
	}
	if size > maxIndexBytes {
		return own, nil, 0, fmt.Errorf("%w: its body has %d bytes, the limit is %d", ErrCorrupt, size, maxIndexBytes)
	}
	own, stored, err := cutNamed(object[headerSize:])
	if err != nil {
		return own, nil, 0, fmt.Errorf("%w: the layer's name in it: %w", ErrCorrupt, err)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(max(zstd.MinWindowSize, uint64(size))))
	if err != nil {
		return own, nil, 0, err
	}
	defer z.Close()
	body, err = z.DecodeAll(stored, nil)
	if err != nil || len(body) != int(size) {
		return own, nil, 0, fmt.Errorf("%w: its body does not decompress to %d bytes (%d, %v)", ErrCorrupt, size, len(body), err)
	}
	return own, body, format, nil
}

// append encodes the name; nothing if there is none.
func (own named) append(object []byte) []byte {
	if own.layer == "" {
		return object
	}
	text := appendText(appendText(nil, own.layer), own.database)
	object = binary.LittleEndian.AppendUint32(object, nameMagic)
	object = binary.LittleEndian.AppendUint32(object, uint32(len(text)))
	return append(object, text...)
}

// cutNamed returns the name after a header, if there is one, and the rest.
func cutNamed(b []byte) (own named, rest []byte, err error) {
	if len(b) < nameHeader || binary.LittleEndian.Uint32(b) != nameMagic {
		return own, b, nil
	}
	n, b := int64(binary.LittleEndian.Uint32(b[4:])), b[nameHeader:]
	if n > min(maxName, int64(len(b))) {
		return own, nil, errCut
	}
	d := decoder{left: b[:n]}
	own = named{layer: d.text(maxName), database: d.text(maxName)}
	if d.err == nil && (own.layer == "" || len(d.left) > 0) {
		d.fail("%q and %d bytes more", own.layer, len(d.left))
	}
	return own, b[n:], d.err
}
