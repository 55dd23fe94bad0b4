package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/point"
)

// A start takes twenty milliseconds until PostgreSQL's main has come to where processes are made of it, and hardly anything of that
// depends on the database: what does is put right afterwards. So who is going to start a cluster, and still waits for its files, has
// that done meanwhile (Prepare).

// spare is a cluster that has been brought as far as its image, on the template's files.
type spare struct {
	settings map[string]string
	ready    chan struct{} // closed when what follows is there

	c       *Cluster // nil: it failed, or somebody has taken it
	err     error
	control []byte // of the template
	conf    []byte // likewise, postgresql.conf
	at      int    // where in shared memory PostgreSQL has the control file
}

// Prepare brings a cluster with these options, but for its files, as far as it can be brought without them: the next StartCluster with
// the same settings begins there. One is kept. It is safe for concurrent use, and an error costs nothing but the time.
func (rt *Runtime) Prepare(ctx context.Context, o ClusterOptions) error {
	o.fill()
	s := &spare{settings: o.settings(), ready: make(chan struct{})}
	rt.mu.Lock()
	old := rt.spare
	if old != nil && maps.Equal(old.settings, s.settings) {
		rt.mu.Unlock()
		return nil
	}
	rt.spare = s
	rt.mu.Unlock()
	old.drop()
	defer close(s.ready)
	s.err = rt.prepare(ctx, o, s)
	if s.err != nil {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if rt.spare == s {
			rt.spare = nil
		}
		return fmt.Errorf("prepare a start of PostgreSQL: %w", s.err)
	}
	return nil
}

func (rt *Runtime) prepare(ctx context.Context, o ClusterOptions, s *spare) error {
	data, err := rt.Template(ctx, memfs.Options{})
	if err != nil {
		return err
	}
	if s.control, _, err = readControl(data); err != nil {
		return err
	}
	if s.conf, err = data.ReadFile(mainConf); err != nil {
		return err
	}
	c, err := rt.newCluster(ctx, ClusterOptions{
		Data: data, MemoryLimit: o.MemoryLimit, Settings: o.Settings, MaxClients: o.MaxClients, Clock: o.Clock, Random: o.Random,
		Log: func(string) {}, Mark: o.Mark,
	}, nil)
	if err != nil {
		return err
	}
	if err := c.main(ctx); err != nil {
		c.Kill()
		return err
	}
	if s.at, err = c.findControl(s.control[:pgdata.ControlSize]); err != nil {
		c.Kill()
		return err
	}
	s.c = c
	return nil
}

const mainConf = "/postgresql.conf"

// drop ends what nobody has taken.
func (s *spare) drop() {
	if s == nil {
		return
	}
	<-s.ready
	if s.c != nil {
		s.c.Kill()
	}
}

// adopt is the spare cluster, made one of these options and files; nil: there is none that fits.
func (rt *Runtime) adopt(ctx context.Context, o ClusterOptions, log func(string)) *Cluster {
	rt.mu.Lock()
	s := rt.spare
	rt.mu.Unlock()
	if s == nil || !maps.Equal(s.settings, o.settings()) {
		return nil
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil
	}
	if s.err != nil || !s.fits(o.Data) {
		return nil
	}
	rt.mu.Lock()
	taken := rt.spare == s
	if taken {
		rt.spare = nil
	}
	rt.mu.Unlock()
	if !taken { // by somebody else
		return nil
	}
	c := s.c
	c.ctx = context.WithoutCancel(ctx)
	c.o = o
	c.o.Log = log
	c.lock.clock = o.Clock
	c.files.data, c.files.random, c.files.dataLimit = o.Data, o.Random, o.DataLimit
	control, _, err := readControl(o.Data)
	if err == nil {
		copy(c.shm.region[s.at:], control[:pgdata.ControlSize])
		err = o.Hook.Fire(c.ctx, point.ProcessBeforeFork)
	}
	if err != nil {
		c.Kill()
		return nil // the long way tells what is wrong
	}
	return c
}

// fits says whether the image would be the same if it were made on these files: their configuration is the template's, and nothing of the
// control file that an image holds differs.
func (s *spare) fits(data *memfs.FS) bool {
	conf, err := data.ReadFile(mainConf)
	if err != nil || !bytes.Equal(conf, s.conf) || len(readConf(data)) > 0 {
		return false
	}
	control, _, err := readControl(data)
	return err == nil && bytes.Equal(pgdata.Built(control), pgdata.Built(s.control))
}

// findControl is where in shared memory PostgreSQL keeps the control file that it has read. Only pages that were written are looked at:
// a look at the others would make them.
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
