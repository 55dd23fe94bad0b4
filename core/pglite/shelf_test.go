package pglite

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"blobpglite/core/memfs"
)

// shelf is a source that holds chunks in memory, for any number of trees. A test decides for which files it delays or fails.
type shelf struct {
	mu      sync.Mutex
	chunks  []shelved
	fetched int
	errs    map[string]error         // by the file's path
	held    map[string]chan struct{} // by path: held until it is closed
	gone    int64                    // below it, nothing of files that were held is there any more
	asked   chan string              // receives each fetch that is held
	ahead   []aheadOf
	queue   chan chan struct{} // not nil: answers come in another order than requests
}

type shelved struct {
	path string
	at   int64 // the chunk's index in the file
	data *[memfs.ChunkSize]byte
}

// aheadOf is a call of Ahead.
type aheadOf struct {
	path        string
	first, last int64 // chunks of the file
	n           int
}

func newShelf() *shelf {
	return &shelf{errs: map[string]error{}, held: map[string]chan struct{}{}, asked: make(chan string, 100)}
}

func (s *shelf) put(path string, at int64, data []byte) int64 {
	c := new([memfs.ChunkSize]byte)
	copy(c[:], data)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks = append(s.chunks, shelved{path, at, c})
	return int64(len(s.chunks)) - 1
}

func (s *shelf) Fetch(ctx context.Context, addresses []int64) (got []memfs.Fetched, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if queue := s.queue; queue != nil {
		s.mu.Unlock()
		err = inTurn(ctx, queue)
		s.mu.Lock()
	}
	s.fetched += len(addresses)
	path := s.chunks[addresses[0]].path
	if gate := s.held[path]; gate != nil {
		s.mu.Unlock()
		s.asked <- path
		select {
		case <-gate:
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.mu.Lock()
	}
	if addresses[0] < s.gone {
		err = errors.New("there is no such segment")
	}
	if err = errors.Join(err, s.errs[path]); err != nil {
		return nil, err
	}
	for _, a := range addresses {
		c := *s.chunks[a].data
		got = append(got, memfs.Fetched{Address: a, Data: &c})
	}
	return got, nil
}

func (s *shelf) Ahead(addresses []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, last := s.chunks[addresses[0]], s.chunks[addresses[len(addresses)-1]]
	s.ahead = append(s.ahead, aheadOf{first.path, first.at, last.at, len(addresses)})
}

// inTurn returns when it is the caller's turn.
func inTurn(ctx context.Context, queue chan chan struct{}) error {
	turn := make(chan struct{})
	select {
	case queue <- turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-turn:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// shuffle answers in random order, as long as the test runs: each time one is answered, all that have arrived are taken up.
func (s *shelf) shuffle(t testing.TB, rng *rand.Rand) {
	t.Helper()
	queue, over := make(chan chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.queue = queue
	s.mu.Unlock()
	t.Cleanup(func() { close(over) })
	go func() {
		var waiting []chan struct{}
		for {
			if len(waiting) == 0 {
				select {
				case one := <-queue:
					waiting = append(waiting, one)
				case <-over:
					return
				}
			}
			for range 3 {
				runtime.Gosched()
				select {
				case one := <-queue:
					waiting = append(waiting, one)
				default:
				}
			}
			i := rng.IntN(len(waiting))
			close(waiting[i])
			waiting = slices.Delete(waiting, i, i+1)
		}
	}()
}

// hold holds back the answers for a file until release is called.
func (s *shelf) hold(path string) (release func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[path] = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, path)
		close(gate)
	})
}

// await returns when a fetch is held back; the statement continues only afterwards.
func (s *shelf) await(t testing.TB, done <-chan error) {
	t.Helper()
	select {
	case <-s.asked:
	case err := <-done:
		t.Fatalf("it did not have to wait: %v", err)
	}
}

// fail makes the file's chunks fail from now on; nil: no longer.
func (s *shelf) fail(path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs[path] = err
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched
}

// origin is an Origin: the address of each chunk.
type origin []int64

func (p origin) Address(chunk int64) int64 {
	if chunk >= int64(len(p)) {
		return memfs.Nowhere
	}
	return p[chunk]
}

// layer makes the shelf hold all tables and indexes of a tree, as taking a layer would: new chunks are put there.
func (s *shelf) layer(t testing.TB, fs *memfs.FS) {
	t.Helper()
	mark := fs.Mark()
	snapshot := fs.Clone()
	var file *memfs.File
	err := snapshot.Walk("/", func(path string, info memfs.Info) (err error) {
		if !info.IsRegular() || KeepResident(path) {
			return nil
		}
		for _, tree := range []*memfs.FS{fs, snapshot} { // a content of the template is read, so that it can be evicted
			if file, err = tree.OpenInode(info.Ino, os.O_RDONLY); err != nil {
				return err
			}
			defer file.Close()
		}
		var at origin
		for p := range file.Pieces() {
			for int64(len(at)) < p.Off/memfs.ChunkSize {
				at = append(at, memfs.Nowhere)
			}
			if p.Address < 0 {
				p.Address = s.put(path, p.Off/memfs.ChunkSize, p.Data)
			}
			at = append(at, p.Address)
		}
		return fs.Settle(info.Ino, mark, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// evict evicts what a layer has, down to budget bytes of all files.
func evict(fs *memfs.FS, budget int64) {
	fs.Evict(memfs.Eviction{Budget: budget, Keep: KeepResident})
}
