package pglite

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/tetratelabs/wazero/api"
	"golang.org/x/sys/unix"

	"blobpglite/core/point"
)

// forkImage is the postmaster's memory at the point where it would fork: every process begins as a copy of it.
type forkImage struct {
	memory    *memorySnapshot
	globals   []uint64
	shared    []sharedMapping // shared memory, at the same place in every process
	libraries []*library      // preloaded
	mainSlots map[string]uint32
	handles   map[uint32]string

	region     []byte // the main segment of shared memory, mapped by the host
	base       uint32 // its address in a process
	transam    uint32 // address of TransamVariablesData
	children   uint32 // the maximum number of the postmaster's children
	autovacuum bool
}

// sharedMapping is a piece of a process's memory that it shares with others.
type sharedMapping struct {
	addr, size uint32
	inode      uint64 // of a file of /dev/shm; 0: the main segment
	file       *os.File
	off        int64 // the piece's place in the file
}

// of returns the piece in a process's memory.
func (s sharedMapping) of(region []byte) []byte { return region[s.addr:][:s.size] }

// attach maps the piece at its place.
func (s sharedMapping) attach(region []byte) error {
	if err := mapFile(s.of(region), s.file, s.off, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map %d bytes of shared memory: %w", s.size, err)
	}
	return nil
}

// detach replaces the piece with memory of the process's own.
func (s sharedMapping) detach(region []byte) error {
	if err := mapZeros(s.of(region)); err != nil {
		return fmt.Errorf("unmap %d bytes of shared memory: %w", s.size, err)
	}
	return nil
}

// fork is called by PostgreSQL's main at the point where a process of its own would continue: shared memory exists, and nothing else has
// begun. It takes the image, and makes shared memory shared.
func (c *Cluster) fork(in *Instance) error {
	at := c.rt.places
	base, size := in.mem.u32(at.AnonymousShmem), in.mem.u32(at.AnonymousShmemSize)
	if err := c.rt.selfTest(in, base, size); err != nil {
		return err
	}
	if err := c.o.Hook.Fire(c.ctx, point.ProcessBeforeFork); err != nil {
		return err
	}
	in.pinSettings()
	in.definePosition()
	rules, err := c.rules()
	if err != nil {
		return err
	}
	var loaded uint64
	in.files.instead(rules, func() { loaded = in.call(in.internal("load_hba")) })
	if loaded == 0 {
		if at := in.mem.u32(in.mem.u32(in.option("hba_file") + optionVariable)); at == 0 || in.mem.cstr(at) != hbaFile {
			return errors.New("hba_file cannot be loaded")
		}
		c.o.Log("WARNING:  pg_hba.conf cannot be loaded: only HTTP requests are let in")
	}
	img := &forkImage{
		base: base, transam: in.mem.u32(uint32(c.rt.main.consts["TransamVariables"])),
		libraries: slices.Clone(in.libraries), mainSlots: maps.Clone(in.mainSlots), handles: maps.Clone(in.handles),
		children: in.mem.u32(in.mem.u32(at.PMSignalState) + childCountAt),
	}
	img.memory = in.linear.image()
	main := sharedMapping{addr: base, size: size, off: int64(base), file: img.memory.file}
	c.shm.main = img.memory
	if img.region, err = unix.Mmap(int(main.file.Fd()), main.off, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map shared memory: %w", err)
	}
	c.shm.region = img.region
	img.shared = append([]sharedMapping{main}, in.mappings...)
	c.shm.inherited(in.mappings)
	c.setImage(in, img)
	return nil
}

// setImage completes an image with the rest of the postmaster's instance.
func (c *Cluster) setImage(in *Instance, img *forkImage) {
	img.globals = nil
	for _, name := range in.program.globals {
		img.globals = append(img.globals, in.module.ExportedGlobal(name).Get())
	}
	img.autovacuum = in.mem.u8(in.mem.u32(in.option("autovacuum")+optionVariable)) != 0 &&
		in.mem.u8(in.mem.u32(in.option("track_counts")+optionVariable)) != 0
	c.image = img
}

// reload does what a postmaster does at SIGHUP: it rereads the configuration, so that new processes start with it, and signals the others.
// It is called under the lock, by the process that asked for it.
func (c *Cluster) reload() error {
	fs := c.files.sibling(c.o.Random)
	standardFiles(fs, c.o.Log)
	o := c.o.instance()
	in, err := c.rt.newInstance(c.rt.main, fs, o, c.image.memory.size)
	if err != nil {
		return err
	}
	defer in.release()
	in.cluster = c
	if err := c.image.restore(in); err != nil {
		return err
	}
	const sighup = 2 // PGC_SIGHUP
	_, exited, code, err := in.enterGuest(in.module.ExportedFunction("ProcessConfigFile"), sighup)
	if err != nil || exited {
		return fmt.Errorf("read the configuration again: exit code %d, %w", code, err)
	}
	img := *c.image
	if img.memory, err = snapshotMemory(in.mem.b, img.shared...); err != nil {
		return err
	}
	return in.guard(func() { c.setImage(in, &img) })
}

// internal returns a PostgreSQL function that only the rewritten module exports.
func (in *Instance) internal(name string) api.Function {
	f := in.module.ExportedFunction(processExport + name)
	if f == nil {
		in.trapf("PostgreSQL has no function %s where it is looked for: this PGlite needs another host", name)
	}
	return f
}
