package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/point"
)

// PostgreSQL's main takes twenty milliseconds to reach the point where processes are forked, and hardly any of that depends on the
// database; the parts that do are corrected afterwards. So an opening does this while it still waits for its files (Prepare). It is done
// once for all clusters of a runtime that have the same settings, including those that restart after a crash. Set-up keeps the result for
// later processes (KeepPrepared).

// prepared is what clusters with the same settings start from: the postmaster at the point where it would fork, on the template. It does
// not change once it is ready.
type prepared struct {
	settings map[string]string
	ready    chan struct{} // closed when the fields below are set

	err     error
	image   forkImage // without its shared memory
	size    int       // of the main segment of shared memory
	segment []extent  // its content
	dynamic []dynamicSegment
	files   *files // includes the tree of /dev/shm; cloned under Runtime.cloning
	control []byte // of the template
	conf    []byte // postgresql.conf of the template
	at      int    // where PostgreSQL has the control file in shared memory
}

// extent is a piece of a memory that is not all zeros.
type extent struct {
	off int
	b   []byte
}

// dynamicSegment is a piece of dynamic shared memory that every process maps.
type dynamicSegment struct {
	sharedMapping // file is nil
	length        int64
	content       []extent
}

// Prepare does the part of StartCluster with these options that needs no files, so that each StartCluster with the same settings skips it.
// Only the last result is kept. It is safe for concurrent use; an error only costs time.
func (rt *Runtime) Prepare(ctx context.Context, o ClusterOptions) error {
	o.fill()
	p := &prepared{settings: o.settings(), ready: make(chan struct{})}
	rt.mu.Lock()
	if rt.prepared != nil && maps.Equal(rt.prepared.settings, p.settings) {
		rt.mu.Unlock()
		return nil
	}
	rt.prepared = p
	rt.mu.Unlock()
	defer close(p.ready)
	if p.err = rt.prepare(ctx, o, p); p.err == nil {
		return nil
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.prepared == p {
		rt.prepared = nil
	}
	return fmt.Errorf("prepare a start of PostgreSQL: %w", p.err)
}

func (rt *Runtime) prepare(ctx context.Context, o ClusterOptions, p *prepared) error {
	kept, err := rt.loadKept(p.settings)
	if err == nil {
		p.image, p.size, p.segment, p.dynamic = kept.image, kept.size, kept.segment, kept.dynamic
		p.files, p.control, p.conf, p.at = kept.files, kept.control, kept.conf, kept.at
		return nil
	}
	if !errors.Is(err, errNotKept) {
		rt.progress(fmt.Sprintf("preparing a start in full: %v", err), 0, 0)
	}
	data, err := rt.Template(ctx, memfs.Options{})
	if err != nil {
		return err
	}
	if p.control, _, err = readControl(data); err != nil {
		return err
	}
	if p.conf, err = data.ReadFile(mainConf); err != nil {
		return err
	}
	c, err := rt.newCluster(ctx, ClusterOptions{
		Data: data, MemoryLimit: o.MemoryLimit, Settings: o.Settings, MaxClients: o.MaxClients, Clock: o.Clock, Random: o.Random,
		Log: func(string) {}, Mark: o.Mark, Standby: o.Standby, Prefetch: o.Prefetch,
	}, nil)
	if err != nil {
		return err
	}
	defer c.Kill()
	if !maps.Equal(c.o.settings(), p.settings) {
		return errors.New("the template's configuration has settings of its own")
	}
	if err := c.main(ctx); err != nil {
		return err
	}
	if p.at, err = c.findControl(p.control[:pgdata.ControlSize]); err != nil {
		return err
	}
	return p.save(c)
}

const mainConf = "/postgresql.conf"

// save takes over the state of a cluster without processes.
func (p *prepared) save(c *Cluster) error {
	p.image, p.files = *c.image, c.files
	p.image.region, p.image.shared = nil, nil
	p.size, p.segment = len(c.shm.region), extents(c.shm.region)
	if err := punch(c.shm.main.file, int64(c.image.base), int64(len(c.shm.region))); err != nil {
		return fmt.Errorf("give back the memory of what is kept elsewhere: %w", err)
	}
	for _, m := range c.image.shared[1:] {
		info, err := m.file.Stat()
		if err != nil {
			return err
		}
		b := make([]byte, info.Size())
		if _, err := m.file.ReadAt(b, 0); err != nil {
			return fmt.Errorf("read dynamic shared memory: %w", err)
		}
		d := dynamicSegment{sharedMapping: m, length: info.Size(), content: extents(b)}
		d.file = nil
		p.dynamic = append(p.dynamic, d)
	}
	return nil
}

// extents copies the non-zero parts of b.
func extents(b []byte) (all []extent) {
	for off, piece := range nonZeroRuns(b) {
		all = append(all, extent{off, bytes.Clone(piece)})
	}
	return all
}

// adopt returns a cluster with these options and files that starts from the prepared state; nil: nothing that fits was prepared.
func (rt *Runtime) adopt(ctx context.Context, o ClusterOptions, log func(string)) *Cluster {
	rt.mu.Lock()
	p := rt.prepared
	rt.mu.Unlock()
	if p == nil || !maps.Equal(p.settings, o.settings()) {
		return nil
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		return nil
	}
	if p.err != nil || !p.fits(o.Data) {
		return nil
	}
	o.Log = log
	c, err := rt.newCluster(ctx, o, nil)
	if err != nil {
		return nil
	}
	err = p.copyTo(c)
	if err == nil {
		err = o.Hook.Fire(c.ctx, point.ProcessBeforeFork)
	}
	if err != nil {
		c.Kill()
		return nil // a regular start will report what is wrong
	}
	return c
}

// copyTo brings a new cluster to the prepared state.
func (p *prepared) copyTo(c *Cluster) error {
	c.files.system = c.rt.clone(p.files.system)
	c.files.cwd, c.files.umask = p.files.cwd, p.files.umask
	main, err := newSegment(p.size)
	if err != nil {
		return err
	}
	img := p.image
	if img.region, err = unix.Mmap(int(main.file.Fd()), 0, p.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map shared memory: %w", err)
	}
	c.shm = sharedFiles{main: main, region: img.region, files: map[uint64]*sharedSegment{}}
	for _, r := range p.segment {
		copy(img.region[r.off:], r.b)
	}
	control, _, err := readControl(c.files.data)
	if err != nil {
		return err
	}
	copy(img.region[p.at:], control[:pgdata.ControlSize])
	img.shared = []sharedMapping{{addr: img.base, size: uint32(p.size), file: main.file}}
	for _, d := range p.dynamic {
		file, err := memoryFile("dynamic shared memory")
		if err != nil {
			return err
		}
		c.shm.files[d.inode] = &sharedSegment{file: file, refs: 1} // held by the image, see inherited
		if err := file.Truncate(d.length); err != nil {
			return err
		}
		for _, r := range d.content {
			if _, err := file.WriteAt(r.b, int64(r.off)); err != nil {
				return err
			}
		}
		d.file = file
		img.shared = append(img.shared, d.sharedMapping)
	}
	c.image, c.slots = &img, make([]bool, img.children+1)
	return nil
}

// newSegment returns shared memory that is all zeros.
func newSegment(size int) (*memorySnapshot, error) {
	file, err := memoryFile("shared memory")
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("size shared memory to %d bytes: %w", size, err), file.Close())
	}
	return (&memorySnapshot{file: file, size: uint64(size)}).owned(), nil
}

// fits reports whether the image would be the same if it were made on these files: their configuration is the template's, and the control
// file agrees in everything that an image holds.
func (p *prepared) fits(data *memfs.FS) bool {
	conf, err := data.ReadFile(mainConf)
	if err != nil || !bytes.Equal(conf, p.conf) || len(readConf(data)) > 0 {
		return false
	}
	control, _, err := readControl(data)
	return err == nil && bytes.Equal(pgdata.Built(control), pgdata.Built(p.control))
}

// findControl returns where in shared memory PostgreSQL keeps its copy of the control file. It looks only at pages that were written: a
// look at the others would allocate them.
func (c *Cluster) findControl(control []byte) (int, error) {
	found := -1
	file, base := int(c.shm.main.file.Fd()), int64(c.image.base)
	for off := base; off < base+int64(len(c.shm.region)); {
		from, to, ok := nextData(file, off)
		if !ok {
			break
		}
		from, to = max(from, base), min(to, base+int64(len(c.shm.region)))
		if from >= to {
			break
		}
		part := c.shm.region[from-base : to-base]
		for at := 0; ; at++ {
			n := bytes.Index(part[at:], control)
			if n < 0 {
				break
			}
			at += n
			if found >= 0 {
				return 0, errors.New("the control file is in shared memory twice")
			}
			found = int(from-base) + at
		}
		off = to
	}
	if found < 0 {
		return 0, errors.New("the control file is not in shared memory")
	}
	return found, nil
}
