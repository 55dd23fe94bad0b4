package pglite

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"blobpglite/core/clock"
)

// HostSettings returns the server parameters of every instance. The caller owns the map.
//
// Durability (see Pins): fsync stays on, because the host's log takes each commit's WAL at the fdatasync; wal_level=minimal would keep bulk
// loads out of the WAL. full_page_writes is off: the files are copied only between two calls of the guest, so no page is torn, and a record
// of the log takes a few hundred bytes instead of a page. WAL files are neither preallocated nor recycled, so that a layer holds no unused
// WAL.
//
// max_stack_depth counts the guest's own stack. The compiled code's stack, which wazero bounds at 80 MB, grows up to 120 times as fast
// (measured: SQL functions that call themselves), and overflowing it is a trap.
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

// commandLine returns the command line that starts PostgreSQL.
func commandLine(settings map[string]string, database string) []string {
	args := []string{pgRoot + "/bin/postgres", "--single", "-j"}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return append(args, "-D", dataRoot, orDefault(database))
}

// fill completes the options.
func (o *instanceOptions) fill() {
	if o.clock == nil {
		o.clock = clock.System()
	}
	if o.random == nil {
		o.random = defaultRandom
	}
	if o.log == nil {
		o.log = func(string) {}
	}
}

// standardFiles gives the guest its standard input, output and error, and the host a place to report what it could not read.
func standardFiles(fs *files, log func(string)) {
	fs.log = log
	for _, d := range []device{nullDevice{}, &lineDevice{emit: log}, &lineDevice{emit: log}} {
		fs.add(&openFile{dev: d, flags: 2})
	}
}

// errNotStarted: the failure is not PostgreSQL's.
var errNotStarted = errors.New("no instance")

// orDefault returns a user's or a database's name.
func orDefault(name string) string {
	if name == "" {
		return "postgres"
	}
	return name
}

// prepare does what a C program's start-up code does before main, and passes the callbacks to the guest.
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
