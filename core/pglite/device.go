package pglite

import "io"

// device is what a descriptor that is not a file refers to.
type device interface {
	read(p []byte) (int, errno)
	write(p []byte) (int, errno)
	ready() (readable, writable bool)
	close()
}

// openDevice opens a name below /dev, or returns nil.
func openDevice(name string, random io.Reader) device {
	switch name {
	case "/dev/urandom", "/dev/random":
		return randomDevice{random: random}
	case "/dev/null", "/dev/tty":
		return nullDevice{}
	case "/dev/zero":
		return zeroDevice{}
	default:
		return nil
	}
}

// nullDevice reads as an empty file and discards what is written.
type nullDevice struct{}

func (nullDevice) read([]byte) (int, errno)    { return 0, eOK }
func (nullDevice) write(p []byte) (int, errno) { return len(p), eOK }
func (nullDevice) ready() (bool, bool)         { return true, true }
func (nullDevice) close()                      {}

type zeroDevice struct{ nullDevice }

func (zeroDevice) read(p []byte) (int, errno) { clear(p); return len(p), eOK }

type randomDevice struct {
	nullDevice
	random io.Reader
}

func (d randomDevice) read(p []byte) (int, errno) {
	if _, err := io.ReadFull(d.random, p); err != nil {
		return 0, eIO
	}
	return len(p), eOK
}

// lineDevice hands each complete line written to it to a function: the guest's standard error.
type lineDevice struct {
	nullDevice
	emit    func(line string)
	pending []byte
}

// maxLine bounds a line that never ends.
const maxLine = 64 << 10

func (d *lineDevice) write(p []byte) (int, errno) {
	for _, c := range p {
		if c == '\n' || len(d.pending) >= maxLine {
			d.emit(string(d.pending))
			d.pending = d.pending[:0]
			if c == '\n' {
				continue
			}
		}
		d.pending = append(d.pending, c)
	}
	return len(p), eOK
}

// pipe is an in-memory pipe; PostgreSQL wakes itself through one (its latch).
type pipe struct {
	buf              []byte
	readers, writers int
}

// maxPipe is the capacity of a pipe, as on Linux.
const maxPipe = 64 << 10

type pipeReader struct{ p *pipe }

func (r pipeReader) read(b []byte) (int, errno) {
	if len(r.p.buf) == 0 {
		if r.p.writers == 0 {
			return 0, eOK
		}
		return 0, eAGAIN
	}
	n := copy(b, r.p.buf)
	r.p.buf = r.p.buf[n:]
	return n, eOK
}
func (pipeReader) write([]byte) (int, errno) { return 0, eBADF }
func (r pipeReader) ready() (bool, bool)     { return len(r.p.buf) > 0 || r.p.writers == 0, false }
func (r pipeReader) close()                  { r.p.readers-- }

type pipeWriter struct{ p *pipe }

func (pipeWriter) read([]byte) (int, errno) { return 0, eBADF }
func (w pipeWriter) write(b []byte) (int, errno) {
	switch {
	case w.p.readers == 0:
		return 0, ePIPE
	case len(w.p.buf)+len(b) > maxPipe:
		return 0, eAGAIN
	}
	w.p.buf = append(w.p.buf, b...)
	return len(b), eOK
}
func (w pipeWriter) ready() (bool, bool) { return false, len(w.p.buf) < maxPipe }
func (w pipeWriter) close()              { w.p.writers-- }
