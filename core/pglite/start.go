package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

// HostSettings are the server parameters of every instance, the caller's own copy.
//
// Durability (see Pins): fsync stays on, because the host's log takes each commit's WAL at the fdatasync; wal_level=minimal would
// keep bulk loads out of the WAL. full_page_writes is off because a copy of the files is only ever taken between two
// calls of the guest, so no page is torn: a record of the log is a few hundred bytes instead of a page. Nothing is
// preallocated or recycled, so that a layer holds no dead WAL.
//
// max_stack_depth counts the guest's own stack. That of the compiled code, which wazero bounds at 80 MB, grows up to 120
// times as fast (measured: SQL functions that call themselves), and an overflow of it is a trap.
func HostSettings() map[string]string {
	return map[string]string{
		"fsync": "on", "wal_level": "replica", "full_page_writes": "off", "wal_init_zero": "off", "wal_recycle": "off",
		"wal_sync_method": "fdatasync", "archive_mode": "off", "summarize_wal": "off",
		"max_wal_senders": "0", "max_replication_slots": "0", "max_stack_depth": "400kB", "shared_buffers": "16MB", "work_mem": "64MB",
		"exit_on_error": "false", "log_checkpoints": "false", "log_min_messages": "log", "log_min_error_statement": "panic",
		"max_worker_processes": "0", "max_parallel_workers": "0", "max_parallel_workers_per_gather": "0",
		"max_parallel_maintenance_workers": "0", "io_method": "sync", "pre_auth_delay": "0", "post_auth_delay": "0",
	}
}

// commandLine is how PostgreSQL is started.
func commandLine(extra map[string]string, database string) []string {
	settings := HostSettings()
	maps.Copy(settings, extra)
	args := []string{pgRoot + "/bin/postgres", "--single", "-j"}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return append(args, "-D", dataRoot, orDefault(database))
}

// fill completes the options.
func (o *InstanceOptions) fill() {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Random == nil {
		o.Random = defaultRandom
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
}

// standardFiles gives the guest its standard input, output and error.
func standardFiles(fs *files, log func(string)) {
	for _, d := range []device{nullDevice{}, &lineDevice{emit: log}, &lineDevice{emit: log}} {
		fs.add(&openFile{dev: d, flags: 2})
	}
}

// Start starts PostgreSQL on a data directory; after a crash it recovers first. The session is ready when Start
// returns. Settings of ALTER SYSTEM that it cannot start with are left out, see Instance.LeftOut. An error of PostgreSQL itself
// holds the last lines of its log.
func (rt *Runtime) Start(ctx context.Context, o InstanceOptions) (*Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Data == nil {
		return nil, fmt.Errorf("start PostgreSQL: no data directory given")
	}
	if err := CheckSettings(o.Settings); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	o.fill()
	tellIgnored(o.Data, o.Log)
	in, err := rt.try(ctx, o)
	return in, err
}

// errNotStarted: it is not PostgreSQL that failed.
var errNotStarted = errors.New("no instance")

// try starts PostgreSQL in one way. What it writes to files before it fails is there the next time, as after a crash.
func (rt *Runtime) try(ctx context.Context, o InstanceOptions) (*Instance, error) {
	tail := &logTail{next: o.Log}
	fs := newFiles(rt.installed(), o.Data, o.Random)
	standardFiles(fs, tail.line)
	dropSlots(o.Data, o.Log)
	in, err := rt.newInstance(rt.main, fs, o, 0)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", fmt.Errorf("%w: %w", errNotStarted, err))
	}
	defer whenDone(ctx, in.setCancel)()
	fs.dataLimit = 0 // recovery has to come to its end: clients were stopped before it was large
	if err := in.boot(commandLine(o.Settings, o.Database)); err != nil {
		in.dead = err
		in.release()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("start PostgreSQL: %w%s", err, tail.text())
	}
	fs.dataLimit = o.DataLimit
	return in, nil
}

// boot brings a fresh instance to where it takes messages.
func (in *Instance) boot(args []string) error {
	if err := in.prepare(); err != nil {
		return err
	}
	if _, _, _, err := in.enterGuest(in.fn.setActive, 1); err != nil {
		return err
	}
	if code, err := in.main(args); err != nil {
		return err
	} else if code != exitAlive {
		return fmt.Errorf("PostgreSQL ended with exit code %d", code)
	}
	if _, _, _, err := in.enterGuest(in.fn.startPGlite); err != nil {
		return err
	}
	if err := in.pin(); err != nil {
		return err
	}
	if err := in.startup(); err != nil {
		return err
	}
	// PostgreSQL reports parameters that changed during the start with its first answer: not to the first client.
	message, err := (&pgproto3.Query{}).Encode(nil)
	if err != nil {
		return fmt.Errorf("encode an empty query: %w", err)
	}
	var answer bytes.Buffer
	if err := in.Exec(context.Background(), message, &answer); err != nil {
		return err
	}
	return in.report(answer.Bytes())
}

// prepare does what a C program's start-up code does before main, and hands over the callbacks.
func (in *Instance) prepare() error {
	return in.guard(func() {
		in.writeData()
		if in.program.settled {
			in.call(in.module.ExportedFunction("__wasm_apply_data_relocs"))
		}
		in.call(in.fn.ctors)
		set := func(name string, args ...uint64) {
			if f := in.module.ExportedFunction(name); f != nil {
				in.call(f, args...)
			}
		}
		first := uint64(in.firstCallback)
		set("pgl_set_system_fn", first+2)
		set("pgl_set_popen_fn", first+3)
		set("pgl_set_pclose_fn", first+4)
		set("pgl_set_rw_cbs", first, first+1)
	})
}

// main runs the guest's main with a command line and returns its exit code.
func (in *Instance) main(args []string) (code uint32, err error) {
	var argc, argv uint64
	if err := in.guard(func() { argc, argv = in.arguments(args) }); err != nil {
		return 0, err
	}
	result, exited, code, err := in.enterGuest(in.module.ExportedFunction("__main_argc_argv"), argc, argv)
	if err != nil {
		return 0, err
	}
	if !exited {
		code = uint32(result)
	}
	return code, nil
}

// logTail keeps the last lines of a log for an error message.
type logTail struct {
	next  func(string)
	mu    sync.Mutex
	lines []string
}

// maxTail is how many lines an error message quotes.
const maxTail = 5

func (t *logTail) line(s string) {
	t.mu.Lock()
	t.lines = append(t.lines, s)
	if len(t.lines) > maxTail {
		t.lines = t.lines[1:]
	}
	t.mu.Unlock()
	t.next(s)
}

func (t *logTail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := ""
	for _, l := range t.lines {
		out += "\n\t" + l
	}
	return out
}
