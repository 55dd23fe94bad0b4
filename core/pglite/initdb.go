package pglite

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"blobpglite/core/memfs"
)

// A new database starts from a template: initdb's result, made once per machine and kept in the cache. initdb is a WebAssembly program of
// its own that runs postgres by popen(3) and system(3); here each of those commands is an instance.

// initdbArgs are initdb's arguments. WAL segments of 1 MB keep a database small: 28 MB raw, 4.5 MB compressed.
var initdbArgs = []string{
	pgRoot + "/bin/initdb", "--allow-group-access", "--encoding", "UTF8", "--locale=C.UTF-8", "--locale-provider=libc",
	"--auth=trust", "--username=postgres", "--wal-segsize=1", "--no-sync",
}

// Files through which initdb and its commands pass their input and output.
const (
	commandInput  = pgRoot + "/pgstdin"
	commandOutput = pgRoot + "/pgstdout"
	localeList    = pgRoot + "/locale-a"
)

// PostgresVersion is the version of the server in the PGlite package.
const PostgresVersion = "18.6"

// Template returns a new data directory, owned by the caller, as a tree with the given options. The files' contents are read when first
// opened, once for all templates of the runtime.
func (rt *Runtime) Template(ctx context.Context, o memfs.Options) (*memfs.FS, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.template == nil {
		var err error
		if rt.template, err = rt.tree(ctx, templateName(), rt.runInitdb); err != nil {
			return nil, fmt.Errorf("make the template database: %w", err)
		}
	}
	data := rt.clone(rt.template)
	data.Use(o)
	return data, nil
}

func templateName() string { return fmt.Sprintf("template-v%d.image", formatVersion) }

// runInitdb makes a data directory. rt.mu is held.
func (rt *Runtime) runInitdb(ctx context.Context) (*memfs.FS, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var err error
	if rt.initdb == nil {
		if rt.initdb, err = rt.compile(ctx, "initdb", rt.assets.InitdbWasm()); err != nil {
			return nil, err
		}
	}
	rt.progress("making the template database", 0, 0)
	o := instanceOptions{data: memfs.New(memfs.Options{})}
	o.fill()
	tail := &logTail{next: o.log}
	fs := newFiles(rt.installed(), o.data, o.random)
	standardFiles(fs, tail.line)
	in, err := rt.newInstance(rt.initdb, fs, o, 0)
	if err != nil {
		return nil, fmt.Errorf("start initdb: %w", err)
	}
	defer in.release()
	in.shell = &initdbShell{rt: rt, ctx: ctx, tree: fs.system, opts: o, log: tail.line}
	if err := in.prepare(); err != nil {
		return nil, fmt.Errorf("start initdb: %w", err)
	}
	code, err := in.main(initdbArgs)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("run initdb: %w%s", err, tail.text())
	case code != 0:
		return nil, fmt.Errorf("initdb ended with exit code %d%s", code, tail.text())
	}
	return o.data, nil
}

// initdbShell runs initdb's commands: each starts a postgres.
type initdbShell struct {
	rt   *Runtime
	ctx  context.Context
	tree *memfs.FS
	opts instanceOptions
	log  func(string)

	pending []string // command of an open popen(..., "w")
	status  uint32   // of the command of an open popen(..., "r")
}

func (s *initdbShell) system(_ *Instance, command string) uint32 { return s.run(words(command), "") }

func (s *initdbShell) popen(in *Instance, command, mode string) uint32 {
	if mode == "w" {
		s.pending = words(command)
		return in.fopen(commandInput, "w")
	}
	s.status = s.run(words(command), "")
	return in.fopen(commandOutput, "r")
}

func (s *initdbShell) pclose(in *Instance, stream uint32) uint32 {
	in.call(in.module.ExportedFunction("fclose"), uint64(stream))
	if s.pending == nil {
		return s.status
	}
	args := s.pending
	s.pending = nil
	return s.run(args, commandInput)
}

// run starts a postgres with a command line on initdb's files, and returns its exit code.
func (s *initdbShell) run(args []string, stdin string) uint32 {
	const failed = 1
	if s.ctx.Err() != nil {
		return failed
	}
	code, err := s.postgres(args, stdin)
	if err != nil {
		s.log(fmt.Sprintf("run %s: %v", strings.Join(args, " "), err))
		return failed
	}
	return code
}

func (s *initdbShell) postgres(args []string, stdin string) (uint32, error) {
	if len(args) == 0 || args[0] != pgRoot+"/bin/postgres" {
		return 0, errors.New("initdb may only run postgres")
	}
	fs := newFiles(s.tree, s.opts.data, s.opts.random)
	standardFiles(fs, s.log)
	for fd, name := range []string{stdin, commandOutput} {
		if name == "" {
			continue
		}
		flags := 0
		if fd == 1 {
			flags = 1 | oCreat | oTrunc
		}
		got, e := fs.open(name, flags, 0o600)
		if e != eOK {
			return 0, fmt.Errorf("open %s: error %d", name, e)
		}
		o, _ := fs.get(uint32(got))
		fs.set(fd, o)
		fs.close(uint32(got))
	}
	in, err := s.rt.newInstance(s.rt.main, fs, s.opts, 0)
	if err != nil {
		return 0, err
	}
	defer in.release()
	if err := in.prepare(); err != nil {
		return 0, err
	}
	return in.main(args)
}

// fopen calls the guest's fopen(3).
func (in *Instance) fopen(name, mode string) uint32 {
	p := uint32(in.call(in.fn.malloc, uint64(len(name)+len(mode)+2)))
	in.mem.putCstr(p, name)
	in.mem.putCstr(p+uint32(len(name))+1, mode)
	f := in.call(in.module.ExportedFunction("fopen"), uint64(p), uint64(p)+uint64(len(name))+1)
	if in.fn.free != nil { // initdb, which ends soon, does not export it
		in.call(in.fn.free, uint64(p))
	}
	return uint32(f)
}

// words splits a shell command up to its first redirection.
func words(command string) []string {
	var out []string
	var cur strings.Builder
	started, quote := false, rune(0)
	for _, c := range command {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			cur.WriteRune(c)
		case c == '"' || c == '\'':
			quote, started = c, true
		case c == ' ' || c == '\n':
			if started {
				out = append(out, cur.String())
				cur.Reset()
				started = false
			}
		case c == '<' || c == '>' || c == '|' || c == '&':
			if started && cur.String() != "2" { // the 2 of 2>
				out = append(out, cur.String())
			}
			return out
		default:
			cur.WriteRune(c)
			started = true
		}
	}
	if started {
		out = append(out, cur.String())
	}
	return out
}

// WriteTar writes a data directory as a tar archive, with prefix before each name. It leaves out postmaster.pid, which only says that a
// server runs.
func WriteTar(w io.Writer, fs *memfs.FS, prefix string) error {
	t := tar.NewWriter(w)
	err := fs.Walk("/", func(name string, info memfs.Info) error {
		name = strings.TrimPrefix(name, "/")
		h := &tar.Header{
			Name: prefix + name, Mode: int64(info.Mode & 0o7777), Size: info.Size, ModTime: info.Mtime, Typeflag: tar.TypeReg,
		}
		switch {
		case name == "" || name == "postmaster.pid":
			return nil
		case info.IsDir():
			h.Typeflag, h.Size, h.Name = tar.TypeDir, 0, h.Name+"/"
		case !info.IsRegular():
			return fmt.Errorf("%s is neither a file nor a directory", name)
		}
		if err := t.WriteHeader(h); err != nil || info.IsDir() {
			return err
		}
		b, err := fs.ReadFile(name)
		if err != nil {
			return err
		}
		_, err = t.Write(b)
		return err
	})
	return errors.Join(err, t.Close())
}
