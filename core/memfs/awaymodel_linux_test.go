package memfs

import (
	"errors"
	"os"
	"testing"
)

// brought runs an operation on a path, and fetches what it needs.
func (p *pair) brought(path string, op func() error) error {
	err := op()
	if !errors.Is(err, ErrAway) {
		return err
	}
	file := mustOpen(p.t, p.mem, path, os.O_RDONLY)
	defer file.Close()
	return p.broughtFile(file, op)
}

// broughtFile runs an operation on a file, and fetches what it needs.
func (p *pair) broughtFile(file *File, op func() error) error {
	p.t.Helper()
	err := op()
	var a *AwayError
	if !errors.As(err, &a) {
		return err
	}
	p.seen["fetch"]++
	got, failed := Get(p.t.Context(), p.away, a.Missing)
	check(p.t, failed)
	file.Fill(a.Missing, got)
	return op()
}

// turnAway takes a layer of all files and evicts everything.
func (p *pair) turnAway() {
	p.t.Helper()
	m := p.mem.Mark()
	c := p.mem.Clone()
	for ino, in := range c.inodes {
		if in == nil || !in.isRegular() {
			continue
		}
		file := must(c.OpenInode(uint64(ino), os.O_RDONLY))
		var at places
		for piece := range file.Pieces() {
			for int64(len(at)) < piece.Off/ChunkSize {
				at = append(at, Nowhere)
			}
			if piece.Address < 0 {
				piece.Address = p.away.put(piece.Data)
			}
			at = append(at, piece.Address)
		}
		check(p.t, p.mem.Settle(uint64(ino), m, at))
	}
	p.mem.Evict(Eviction{})
	if p.mem.ResidentBytes() != 0 {
		p.t.Fatalf("%d bytes are left", p.mem.ResidentBytes())
	}
}

// TestAwayBehavesAsTheOperatingSystem: a tree whose bytes are repeatedly evicted is like a tree of plain files.
func TestAwayBehavesAsTheOperatingSystem(t *testing.T) {
	for i := range uint64(4) {
		seed := modelSeed + 300 + i
		t.Logf("seed %d", seed)
		p := newPair(t, seed)
		p.away = &shelf{beside: int64(i % 2)}
		for n := range 4000 {
			p.step()
			if n%40 == 39 {
				p.turnAway()
			}
			if n%500 == 499 {
				p.compare()
			}
		}
		if p.seen["fetch"] < 50 {
			t.Errorf("%d fetches", p.seen["fetch"])
		}
		p.closeAll()
		p.compare()
	}
}
