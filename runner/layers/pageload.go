package layers

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"blobpglite/core/memfs"
)

// pageLoad changes the pages of a tree of files like a database that people use: some tables large and some small, most changes in a hot
// part of the pages, bursts, a batch at night.
type pageLoad struct {
	tree   *memfs.FS
	random *rand.Rand
	files  []loadFile
	pages  int // of all files
	page   [memfs.ChunkSize]byte
	drop   bool // the batch's table is there
}

type loadFile struct {
	path  string
	f     *memfs.File
	pages int
}

// What each day brings.
const (
	hotShare     = 5  // 1/hotShare of a file's pages is hot
	hotMost      = 80 // of a hundred changes, those in it
	usualLeast   = 0.001
	usualMost    = 0.006 // of all pages, that change in ten minutes of a working day
	burstOdds    = 20    // one in burstOdds steps is a burst
	burstShare   = 0.03  // of all pages, that it changes
	batchAt      = 2 * time.Hour
	batchShare   = 0.1 // of all pages, rewritten by the batch one after the other
	stagingShare = 0.05
	stagingEnds  = 3 * time.Hour
	dayBegins    = 6 * time.Hour
	dayEnds      = 22 * time.Hour
	stagingPath  = "/base/5/staging"
)

// newPageLoad fills files.
func newPageLoad(size int64, seed uint64) (*pageLoad, error) {
	l := &pageLoad{tree: memfs.New(memfs.Options{}), random: rand.New(rand.NewPCG(seed, 0x7765656b))}
	if err := l.tree.MkdirAll("/base/5", 0o700); err != nil {
		return nil, err
	}
	for i, share := range []float64{0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.03, 0.02} {
		f, err := l.file(fmt.Sprintf("/base/5/%d", 16384+i), max(int(share*float64(size))/memfs.ChunkSize, 1))
		if err != nil {
			return nil, err
		}
		l.files = append(l.files, f)
		l.pages += f.pages
	}
	return l, nil
}

func (l *pageLoad) file(path string, pages int) (loadFile, error) {
	f, err := l.tree.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return loadFile{}, err
	}
	file := loadFile{path, f, pages}
	return file, l.rewrite(file, 0, pages)
}

// rewrite writes consecutive pages.
func (l *pageLoad) rewrite(f loadFile, first, n int) error {
	for i := range n {
		if err := l.write(f, (first+i)%f.pages); err != nil {
			return err
		}
	}
	return nil
}

// write gives a page other bytes: half of them compress.
func (l *pageLoad) write(f loadFile, page int) error {
	const half = memfs.ChunkSize / 2
	for i := 0; i < half; i += 8 {
		binary.LittleEndian.PutUint64(l.page[i:], l.random.Uint64())
	}
	for i := half; i < len(l.page); i += 16 {
		copy(l.page[i:], "a row of a table ")
	}
	_, err := f.f.WriteAt(l.page[:], int64(page)*memfs.ChunkSize)
	return err
}

// step makes the changes of the ten minutes up to a moment of the week. False: nothing.
func (l *pageLoad) step(at time.Duration) (bool, error) {
	day, hour := int(at/(24*time.Hour)), at%(24*time.Hour)
	switch {
	case hour == batchAt:
		return true, l.batch()
	case hour == stagingEnds && l.drop:
		l.drop = false
		return true, l.tree.Unlink(stagingPath)
	case hour < dayBegins || hour >= dayEnds:
		return false, nil
	}
	share := usualLeast + (usualMost-usualLeast)*l.random.Float64()
	if day%7 >= 5 { // the week's end
		if share /= 4; l.random.IntN(3) == 0 {
			return false, nil
		}
	}
	if l.random.IntN(burstOdds) == 0 {
		share = burstShare
	}
	for range max(int(share*float64(l.pages)), 1) {
		f := l.any()
		if err := l.write(f, l.place(f)); err != nil {
			return true, err
		}
	}
	return true, nil
}

// any is a file, by its size.
func (l *pageLoad) any() loadFile {
	n := l.random.IntN(l.pages)
	for _, f := range l.files {
		if n -= f.pages; n < 0 {
			return f
		}
	}
	return l.files[0]
}

// place picks a page of a file. Hot pages are scattered, as rows that are used often are.
func (l *pageLoad) place(f loadFile) int {
	n := l.random.IntN(f.pages)
	if l.random.IntN(100) < hotMost {
		n -= n % hotShare
	}
	return n
}

// batch rewrites a part of the largest table, one page after the other, and writes a table of its own that is dropped later.
func (l *pageLoad) batch() error {
	if err := l.rewrite(l.files[0], l.random.IntN(l.files[0].pages), min(int(batchShare*float64(l.pages)), l.files[0].pages)); err != nil {
		return err
	}
	staging, err := l.file(stagingPath, max(int(stagingShare*float64(l.pages)), 1))
	if err != nil {
		return err
	}
	l.drop = true
	return staging.f.Close()
}
