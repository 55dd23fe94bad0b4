// Package image keeps a file tree in one file; the contents of its files are read when they are first opened.
//
//	err := image.Write(w, tree)
//	img, err := image.Open("installation-v1.image")     // reads the index
//	tree, err := img.Tree(memfs.Options{})              // no contents yet
//
// The format, numbers little-endian or varints as in encoding/binary:
//
//	"PGIMAGE1"  length of the index u32  its CRC-32C u32  index  contents of the files, in the order of the index
//
//	entry of the index: length of the path, path, mode, mtime (ns), and of a file: size, CRC-32C of its content
//
// Faults: for a truncated image, or one whose index has a changed bit, Open returns an error; a file with other bytes
// than were written cannot be opened (EIO). The image may be deleted while it is in use. It must not be written to, and
// is not: it is put in place by renaming.
package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	gopath "path"
	"time"

	"blobpglite/core/memfs"
)

// ErrDamaged is wrapped when an image is not as written. Make it again.
var ErrDamaged = errors.New("damaged image")

const (
	magic       = "PGIMAGE1"
	headerBytes = len(magic) + 8
	maxIndex    = 16 << 20
	maxFile     = 64 << 20 // of one file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entry is a file or folder.
type entry struct {
	path  string
	mode  uint32
	mtime int64 // Unix nanoseconds
	size  int64
	crc   uint32
}

func (e entry) isDir() bool { return e.mode&memfs.ModeType == memfs.ModeDir }

// Write writes a tree of files and folders.
func Write(w io.Writer, tree *memfs.FS) error {
	var index []byte
	var files []string
	err := tree.Walk("/", func(path string, info memfs.Info) error {
		e := entry{path: path, mode: info.Mode, mtime: info.Mtime.UnixNano()}
		switch {
		case info.IsRegular():
			b, err := tree.ReadFile(path)
			if err != nil {
				return err
			}
			if len(b) > maxFile {
				return fmt.Errorf("%s has %d bytes, an image takes files of at most %d", path, len(b), maxFile)
			}
			e.size, e.crc = int64(len(b)), crc32.Checksum(b, castagnoli)
			files = append(files, path)
		case !info.IsDir():
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		index = e.append(index)
		return nil
	})
	if err != nil {
		return fmt.Errorf("write an image: %w", err)
	}
	if len(index) > maxIndex {
		return fmt.Errorf("write an image: its index would have %d bytes, at most %d are read", len(index), maxIndex)
	}
	head := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(index)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(index, castagnoli))
	if _, err := w.Write(append(head, index...)); err != nil {
		return fmt.Errorf("write an image: %w", err)
	}
	for _, path := range files {
		b, err := tree.ReadFile(path)
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			return fmt.Errorf("write an image: %w", err)
		}
	}
	return nil
}

func (e entry) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.path)))
	b = append(b, e.path...)
	b = binary.AppendUvarint(b, uint64(e.mode))
	b = binary.AppendVarint(b, e.mtime)
	if e.isDir() {
		return b
	}
	b = binary.AppendUvarint(b, uint64(e.size))
	return binary.LittleEndian.AppendUint32(b, e.crc)
}

// Image is an open image. It is safe for concurrent use. Its file is closed when neither it nor any of its trees is in
// use.
type Image struct {
	// Damaged is called when a file that is opened is not as written. Set it before Tree is called; nil: not called.
	Damaged func(error)

	file    *os.File
	entries []entry
	starts  int64 // where the contents begin
}

// Open reads the index of an image. Errors match [ErrDamaged], or are the operating system's.
func Open(path string) (*Image, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open an image: %w", err)
	}
	img, err := open(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), file.Close())
	}
	return img, nil
}

func open(file *os.File) (*Image, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, headerBytes)
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(head[len(magic):]))
	img := &Image{file: file, starts: int64(headerBytes) + length}
	if !bytes.HasPrefix(head, []byte(magic)) || length > maxIndex || img.starts > info.Size() {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	index := make([]byte, length)
	if _, err := file.ReadAt(index, int64(headerBytes)); err != nil {
		return nil, err
	}
	if crc32.Checksum(index, castagnoli) != binary.LittleEndian.Uint32(head[len(magic)+4:]) {
		return nil, fmt.Errorf("%w: its index has other bytes than were written", ErrDamaged)
	}
	total := img.starts
	if img.entries, err = parse(index); err != nil {
		return nil, err
	}
	for _, e := range img.entries {
		total += e.size
	}
	if total != info.Size() {
		return nil, fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, info.Size(), total)
	}
	return img, nil
}

// parse reads an index.
func parse(index []byte) (entries []entry, err error) {
	r := bytes.NewReader(index)
	fail := func(what string) error {
		return fmt.Errorf("%w: byte %d of its index: %s", ErrDamaged, len(index)-r.Len(), what)
	}
	for r.Len() > 0 {
		var e entry
		length, err := binary.ReadUvarint(r)
		if err != nil || length > memfs.PathMax || length > uint64(r.Len()) {
			return nil, fail("length of a path")
		}
		path := make([]byte, length)
		_, _ = r.Read(path)
		e.path = string(path)
		if !gopath.IsAbs(e.path) || gopath.Clean(e.path) != e.path {
			return nil, fail("a path that is not clean")
		}
		mode, err := binary.ReadUvarint(r)
		if e.mode = uint32(mode); err != nil || uint64(e.mode) != mode || !e.isDir() && e.mode&memfs.ModeType != memfs.ModeRegular {
			return nil, fail("a mode")
		}
		if e.mtime, err = binary.ReadVarint(r); err != nil {
			return nil, fail("a time")
		}
		if e.isDir() {
			entries = append(entries, e)
			continue
		}
		size, err := binary.ReadUvarint(r)
		var crc [4]byte
		if n, _ := r.Read(crc[:]); err != nil || size > maxFile || n != len(crc) {
			return nil, fail("size and sum of a file")
		}
		e.size, e.crc = int64(size), binary.LittleEndian.Uint32(crc[:])
		entries = append(entries, e)
	}
	return entries, nil
}

// Tree returns a tree of the image's files, owned by the caller. Make it once, and clone it for others: then each file is
// read once.
func (img *Image) Tree(o memfs.Options) (*memfs.FS, error) {
	tree := memfs.New(o)
	at := img.starts
	for _, e := range img.entries {
		var err error
		if e.isDir() {
			err = tree.MkdirAll(e.path, e.mode)
		} else {
			err = tree.Install(e.path, e.mode, time.Unix(0, e.mtime), memfs.NewContent(e.size, img.reader(e, at)))
			at += e.size
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, img.file.Name(), err)
		}
	}
	return tree, nil
}

// reader returns a function that reads a file whose content begins at offset at.
func (img *Image) reader(e entry, at int64) func() ([]byte, error) {
	return func() ([]byte, error) {
		b := make([]byte, e.size)
		_, err := img.file.ReadAt(b, at)
		if err == nil && crc32.Checksum(b, castagnoli) != e.crc || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: other bytes than were written", ErrDamaged)
		}
		if err != nil {
			err = fmt.Errorf("read %s of %s: %w; delete that file, and it is made again", e.path, img.file.Name(), err)
		}
		if errors.Is(err, ErrDamaged) && img.Damaged != nil {
			img.Damaged(err)
		}
		if err != nil {
			return nil, err
		}
		return b, nil
	}
}

// Verify reads everything. Errors are those of Open, and those of opening a damaged file.
func Verify(path string) error {
	img, err := Open(path)
	if err != nil {
		return err
	}
	at := img.starts
	for _, e := range img.entries {
		if _, readErr := img.reader(e, at)(); readErr != nil {
			err = errors.Join(err, readErr)
		}
		at += e.size
	}
	return errors.Join(err, img.file.Close())
}
