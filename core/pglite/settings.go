package pglite

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/wasmbin"
)

// ErrPinned: a setting cannot be changed, because data could be lost. The error says why. Leave the setting out.
var ErrPinned = errors.New("the setting is fixed")

// Pin is a setting of PostgreSQL that keeps its value, because durability depends on it.
type Pin struct {
	Name   string
	Values []string // the allowed values, the host's own first
	Why    string
	start  bool // only ever taken from the command line, so the guest need not enforce it
}

// Pins returns the settings that cannot be changed: not by -c on the command line, SET, SET LOCAL, set_config, ALTER SYSTEM, ALTER ROLE or
// ALTER DATABASE, nor by a function's SET clause.
func Pins() []Pin {
	return []Pin{
		{Name: "archive_mode", Values: []string{"off"}, Why: "there is no archiver: PostgreSQL would keep all of its log, in memory"},
		{Name: "dynamic_shared_memory_type", Values: []string{"posix"}, Why: "processes can only share the dynamic memory that the host gives them"},
		{Name: "exit_on_error", Values: []string{"off"}, Why: "an error would end PostgreSQL for all clients"},
		{Name: "fsync", Values: []string{"on"}, Why: "a commit goes to the bucket when PostgreSQL syncs its log"},
		{Name: "io_method", Values: []string{"sync"}, Why: "there are no I/O workers: PostgreSQL would wait for them forever"},
		{Name: "max_wal_senders", Values: []string{"0"}, Why: "there is no replication: a commit would wait for standbys forever"},
		{Name: "shared_memory_type", Values: []string{"mmap"}, Why: "processes can only share the memory that the host gives them"},
		{Name: "summarize_wal", Values: []string{"off"}, Why: "there is no summarizer: PostgreSQL would keep all of its log, in memory"},
		{Name: "wal_level", Values: []string{"replica", "logical"}, Why: "what PostgreSQL does not write to its log is not in the bucket"},
		{Name: "wal_recycle", Values: []string{"off"}, Why: "what is written to a reused segment of the log could not be distinguished from its old contents"},
		{Name: "wal_sync_method", Values: []string{"fdatasync", "fsync"}, Why: "a commit goes to the bucket when PostgreSQL syncs its log"},
		{Name: "data_directory", start: true, Why: "the host keeps the files where it put them"},
		{Name: "config_file", start: true, Why: "the configuration is in the data directory, and moves with it"},
	}
}

// CheckSettings refuses settings for a start that differ from their pinned values. Error: ErrPinned.
func CheckSettings(settings map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		for _, p := range Pins() {
			if strings.EqualFold(strings.ReplaceAll(name, "-", "_"), p.Name) && !slices.ContainsFunc(p.Values, sameSetting(settings[name])) {
				return fmt.Errorf("%w: %s=%s: %s", ErrPinned, name, settings[name], p.Why)
			}
		}
	}
	return nil
}

// alterSystem is a line of the file that ALTER SYSTEM writes.
var alterSystem = regexp.MustCompile(`^\s*([A-Za-z_]+)\s*=\s*'(.*)'\s*$`)

// tellIgnored logs pinned settings in a data directory's configuration that were set before they were pinned: the command line overrides
// them.
func tellIgnored(data *memfs.FS, log func(string)) {
	body, err := data.ReadFile("/postgresql.auto.conf")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(body)) {
		if m := alterSystem.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			if err := CheckSettings(map[string]string{m[1]: m[2]}); err != nil {
				log(fmt.Sprintf("WARNING: postgresql.auto.conf: %v; it is ignored: ALTER SYSTEM RESET %s removes it", err, m[1]))
			}
		}
	}
}

// sameSetting compares with a value the way PostgreSQL reads it, as far as the pins need it.
func sameSetting(value string) func(string) bool {
	switch v := strings.ToLower(strings.TrimSpace(value)); v {
	case "true", "yes", "1":
		value = "on"
	case "false", "no":
		value = "off"
	default:
		value = v
	}
	return func(want string) bool { return want == value || want == "off" && value == "0" }
}

// Offsets in the guest's records of settings (src/include/utils/guc_tables.h): the common part, then those for each type.
const (
	optionType     = 24
	optionVariable = 92
	boolCheck      = 100
	intCheck       = 108
	enumCheck      = 104

	optionBool = 0
	optionInt  = 1
	optionEnum = 4
)

// option returns the guest's record of a setting. Call it within guard.
func (in *Instance) option(name string) uint32 {
	p := uint32(in.call(in.fn.malloc, uint64(len(name)+1)))
	in.mem.putCstr(p, name)
	const skipErrors = 1
	record := uint32(in.call(in.fn.findOption, uint64(p), 0, skipErrors, 0))
	in.call(in.fn.free, uint64(p))
	if record == 0 || in.mem.cstr(in.mem.u32(record)) != name {
		in.trapf("PostgreSQL has no setting %s where it is looked for: this PGlite needs another host", name)
	}
	return record
}

// pinSettings makes the guest refuse changes of pinned settings: each gets a check in the host. Call it within guard, after PostgreSQL has
// read its settings.
func (in *Instance) pinSettings() {
	for i, p := range Pins() {
		if p.start {
			continue
		}
		record := in.option(p.Name)
		at := map[uint32]uint32{optionBool: boolCheck, optionInt: intCheck, optionEnum: enumCheck}[in.mem.u32(record+optionType)]
		if at == 0 {
			in.trapf("the setting %s has a type that the host does not know: this PGlite needs another host", p.Name)
		}
		in.mem.putU32(record+at, in.firstCallback+uint32(len(callbacks())-len(Pins())+i))
	}
}

// checks returns the host's checks of new values (GucBoolCheckHook and the like), one for each pin, in order.
func checks() []callback {
	i32 := wasmbin.I32
	kind := wasmbin.FuncType{Params: []wasmbin.ValType{i32, i32, i32}, Results: []wasmbin.ValType{i32}}
	var out []callback
	for _, p := range Pins() {
		out = append(out, callback{"pin_" + p.Name, kind, func(in *Instance, s []uint64) { s[0] = in.check(p, uint32(s[0])) }})
	}
	return out
}

// check accepts only the pinned setting's current value.
func (in *Instance) check(p Pin, value uint32) uint64 {
	record := in.option(p.Name)
	variable := in.mem.u32(record + optionVariable)
	same := in.mem.u32(value) == in.mem.u32(variable)
	if in.mem.u32(record+optionType) == optionBool {
		same = in.mem.bytes(value, 1)[0] == in.mem.bytes(variable, 1)[0]
	}
	if same {
		return 1
	}
	// The text goes into memory that PostgreSQL frees with the statement, as GUC_check_errdetail's does.
	in.refuse(fmt.Sprintf("%s cannot be changed in this service: %s.", p.Name, p.Why))
	return 0
}
