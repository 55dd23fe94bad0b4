package pglite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"

	"blobpglite/core/memfs"
)

// PGlite's makers also provide pg_dump as WebAssembly, in an npm package of its own. It is a client program: its libpq sends and receives
// by the same two callbacks as PostgreSQL, so any connection that speaks the wire protocol will do. It was built to be placed anywhere in
// memory; here it is always placed at the same address.

// DumpOptions configures a Dump. Conn and Out are required.
type DumpOptions struct {
	// Args are pg_dump's own arguments. Those that name a server or a file are refused, because Conn and Out replace them, as is the
	// directory format, which is not a single file.
	Args []string
	// Conn is a new connection to the server, before its startup packet. Dump closes it.
	Conn net.Conn
	// Out receives what pg_dump writes: SQL, or another format that Args asks for.
	Out io.Writer
	// Log is called with each line of pg_dump's standard error. Nil: they are dropped, except for the last ones in an error.
	Log func(line string)
}

// DumpError is a failure that pg_dump itself reported.
type DumpError struct {
	Code int    // exit code
	Said string // the last lines of its standard error
}

func (e *DumpError) Error() string {
	return fmt.Sprintf("pg_dump ended with exit code %d%s", e.Code, e.Said)
}

// Dump runs pg_dump of PostgreSQL 18. The first call fetches it by npm if the cache lacks it, and compiles it (about a second). Errors:
// *DumpError, those of Conn and Out, the context's, those of NewRuntime about files. After an error, Out may have received a part.
func (rt *Runtime) Dump(ctx context.Context, o DumpOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer o.Conn.Close()
	if err := checkDumpArgs(o.Args); err != nil {
		return err
	}
	p, err := rt.dumpProgram(ctx)
	if err != nil {
		return fmt.Errorf("make pg_dump ready: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = o.Conn.Close() })()
	inst := instanceOptions{log: o.Log}
	inst.fill()
	tail := &logTail{next: inst.log}
	tree, err := dumpTree()
	if err != nil {
		return fmt.Errorf("start pg_dump: %w", err)
	}
	fs := newFiles(tree, memfs.New(memfs.Options{}), inst.random)
	out := &outDevice{w: o.Out}
	for _, d := range []device{nullDevice{}, out, &lineDevice{emit: tail.line}} {
		fs.add(&openFile{dev: d, flags: 2})
	}
	in, err := rt.newInstance(p, fs, inst, 0)
	if err != nil {
		return fmt.Errorf("start pg_dump: %w", err)
	}
	defer in.release()
	in.wire = &wire{conn: o.Conn}
	if err := in.prepare(); err != nil {
		return fmt.Errorf("start pg_dump: %w", err)
	}
	code, err := in.main(append([]string{dumpBinary}, o.Args...))
	if err == nil {
		err = in.flushStreams()
	}
	switch {
	case err != nil:
		err = fmt.Errorf("run pg_dump: %w%s", err, tail.text())
	case code != 0:
		err = &DumpError{Code: int(code), Said: tail.text()}
	}
	if err = errors.Join(err, out.err, in.wire.err); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// flushStreams writes what the guest's C library still buffers, as its exit would.
func (in *Instance) flushStreams() error {
	return in.guard(func() {
		for _, name := range []string{"__funcs_on_exit", "fflush"} {
			if f := in.module.ExportedFunction(name); f != nil {
				in.call(f, 0)
			}
		}
	})
}

// dumpBinary is pg_dump's path for itself. The file must exist, but is not read.
const dumpBinary = pgRoot + "/bin/pg_dump"

// dumpTree returns the file tree that pg_dump sees.
func dumpTree() (*memfs.FS, error) {
	tree := memfs.New(memfs.Options{})
	for _, dir := range []string{"/tmp", "/home/postgres", path.Dir(dumpBinary)} {
		if err := tree.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return tree, tree.WriteFile(dumpBinary, nil, 0o755)
}

// checkDumpArgs refuses arguments that would send the dump, or the connection, elsewhere.
func checkDumpArgs(args []string) error {
	const withValue = "EFUdefhjnNtTSZ" // short options that take a value
	long := []string{"--file", "--host", "--port", "--jobs"}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			break
		}
		if strings.HasPrefix(arg, "--") {
			name, _, _ := strings.Cut(arg, "=")
			for _, l := range long {
				if len(name) > len("--") && strings.HasPrefix(l, name) {
					return refused(arg)
				}
			}
			continue
		}
		for j := 1; j < len(arg) && arg[0] == '-'; j++ {
			if strings.IndexByte("fhpj", arg[j]) >= 0 {
				return refused(arg)
			}
			if strings.IndexByte(withValue, arg[j]) >= 0 {
				if j == len(arg)-1 {
					i++ // its value is the next argument
				}
				break
			}
		}
	}
	return nil
}

func refused(arg string) error {
	return fmt.Errorf("run pg_dump: its argument %q is refused: file, host, port and jobs are given by the caller", arg)
}

// wire is a client program's connection.
//
// libpq assumes that its socket does not block: after receiving much data it tries to read more, and continues with what it has if there is
// none. It waits by poll, which the guest itself answers, always with "ready". So the first read that finds nothing returns immediately,
// and the next one waits, unless something else came in between.
type wire struct {
	conn    io.ReadWriter
	buf     []byte
	unread  []byte // of buf
	waiting bool   // the last read found nothing
	err     error  // why it broke, unless the server ended it
}

const (
	eCONNRESET errno = 15
	wireBuffer       = 64 << 10
)

// readWire is the guest's recv. 0: the other end is gone; below zero: an error.
func (in *Instance) readWire(p []byte) int {
	w := in.wire
	if in.proc != nil {
		return in.proc.recv(p)
	}
	if w == nil {
		return 0
	}
	if len(w.unread) == 0 {
		if !w.waiting {
			w.waiting = true
			return in.fail(eAGAIN)
		}
		if w.buf == nil {
			w.buf = make([]byte, wireBuffer)
		}
		n, err := 0, error(nil)
		for n == 0 && err == nil {
			n, err = w.conn.Read(w.buf)
		}
		switch {
		case n > 0:
		case errors.Is(err, io.EOF):
			return 0
		default:
			return in.wireFailed(err)
		}
		w.unread = w.buf[:n]
	}
	w.waiting = false
	n := copy(p, w.unread)
	w.unread = w.unread[n:]
	return n
}

// writeWire is the guest's send.
func (in *Instance) writeWire(p []byte) int {
	if in.proc != nil {
		return in.proc.send(p)
	}
	if in.wire == nil {
		return len(p)
	}
	n, err := in.wire.conn.Write(p)
	if err == nil {
		return n
	}
	return in.wireFailed(err)
}

func (in *Instance) wireFailed(err error) int {
	if in.wire.err == nil {
		in.wire.err = fmt.Errorf("talk to the server: %w", err)
	}
	return in.fail(eCONNRESET)
}

// fail returns the result of a failed C function, and sets errno.
func (in *Instance) fail(e errno) int {
	in.mem.putU32(uint32(in.call(in.module.ExportedFunction("__errno_location"))), uint32(e))
	return -1
}

// outDevice passes on what is written to it.
type outDevice struct {
	nullDevice
	w   io.Writer
	err error
}

func (d *outDevice) write(p []byte) (int, errno) {
	if d.err != nil {
		return 0, eIO
	}
	n, err := d.w.Write(p)
	if err != nil {
		d.err = fmt.Errorf("write the dump: %w", err)
		return n, eIO
	}
	return n, eOK
}
