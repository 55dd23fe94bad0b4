package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// ErrNotFound is wrapped when something in a binary does not look as expected: this PGlite differs more than earlier ones
// did. Change the rule that the message names, so that it also finds the new shape.
var ErrNotFound = errors.New("not found in this pglite.wasm")

// Find finds the functions, addresses and sizes that the host needs in a pglite.wasm: from its exports, the strings that
// functions refer to, the shapes of their code, and the table of process kinds in its data. Errors match [ErrNotFound],
// or are wasmbin's.
func Find(bin []byte) (*Layout, error) {
	p, err := readProgram(bin)
	if err != nil {
		return nil, fmt.Errorf("find the layout: %w", err)
	}
	l, err := p.layout()
	if err != nil {
		return nil, fmt.Errorf("find the layout: %w", err)
	}
	sum := sha256.Sum256(bin)
	l.SHA256 = hex.EncodeToString(sum[:])
	return l, nil
}

// layout also returns what was found before an error.
func (p *program) layout() (*Layout, error) {
	f := &finder{p: p, out: &Layout{
		Functions: map[string]uint32{}, Addresses: map[string]uint32{},
		Slots: map[string]uint32{}, Sizes: map[string]uint32{}, Offsets: map[string]uint32{},
	}, slots: map[uint32]uint32{}}
	for slot, fn := range p.slots {
		if old, ok := f.slots[fn]; !ok || slot < old {
			f.slots[fn] = slot
		}
	}
	for _, step := range []func() error{f.versions, f.exported, f.kinds, f.rules, f.sane} {
		if err := step(); err != nil {
			return f.out, err
		}
	}
	return f.out, nil
}

type finder struct {
	p     *program
	out   *Layout
	slots map[uint32]uint32 // the first one of each function
}

func missing(what, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", what, ErrNotFound, fmt.Sprintf(format, args...))
}

// versions reads the versions from the result of SELECT version().
func (f *finder) versions() error {
	found := regexp.MustCompile(`\x00PostgreSQL ([0-9.]+) \(PGlite ([0-9.]+)\) on wasm32`).FindAllSubmatch(f.p.memory, -1)
	if len(found) != 1 {
		return missing("the versions", "its data contains the text of version() %d times", len(found))
	}
	f.out.Postgres, f.out.PGlite = string(found[0][1]), string(found[0][2])
	return nil
}

func (f *finder) exported() error {
	functions, variables := exported()
	for _, name := range functions {
		i, ok := f.p.named[name]
		if !ok {
			return missing(name, "no function is exported by this name")
		}
		f.out.Functions[name] = i
	}
	for _, name := range variables {
		at, ok := f.p.data[name]
		if !ok {
			return missing(name, "no variable is exported by this name")
		}
		f.out.Addresses[name] = at
	}
	return nil
}

// processKinds are the entries of child_process_kinds (launch_backend.c) in order: each one's name, and its main
// function, "" if it has none.
var processKinds = []struct{ name, main string }{
	{"invalid", ""}, {"backend", "BackendMain"}, {"dead-end backend", "BackendMain"},
	{"autovacuum launcher", "AutoVacLauncherMain"}, {"autovacuum worker", "AutoVacWorkerMain"}, {"bgworker", "BackgroundWorkerMain"},
	{"wal sender", ""}, {"slot sync worker", "ReplSlotSyncWorkerMain"}, {"standalone backend", ""}, {"archiver", "PgArchiverMain"},
	{"bgwriter", "BackgroundWriterMain"}, {"checkpointer", "CheckpointerMain"}, {"io_worker", "IoWorkerMain"},
	{"startup", "StartupProcessMain"}, {"wal_receiver", "WalReceiverMain"}, {"wal_summarizer", "WalSummarizerMain"},
	{"wal_writer", "WalWriterMain"}, {"syslogger", "SysLoggerMain"},
}

// kindSize is the size of an entry: name, main function, whether it has shared memory.
const kindSize = 12

// kinds finds child_process_kinds by its row of names.
func (f *finder) kinds() error {
	var tables []uint32
	for at := uint32(0); int(at)+len(processKinds)*kindSize <= len(f.p.memory); at += 4 {
		if f.isKinds(at) {
			tables = append(tables, at)
		}
	}
	if len(tables) != 1 {
		return missing("child_process_kinds", "%d tables begin with the names of the kinds of processes: %v", len(tables), tables)
	}
	f.out.Addresses["child_process_kinds"] = tables[0]
	for i, kind := range processKinds {
		slot := f.p.u32(tables[0] + uint32(i)*kindSize + 4)
		if kind.main == "" && slot == 0 {
			continue
		}
		fn, ok := f.p.slots[slot]
		if old, again := f.out.Functions[kind.main]; !ok || kind.main == "" || again && old != fn {
			return missing("the main function of the "+kind.name, "slot %d in child_process_kinds, which holds function %d", slot, fn)
		}
		f.out.Functions[kind.main], f.out.Slots[kind.main] = fn, slot
	}
	return nil
}

func (f *finder) isKinds(at uint32) bool {
	for i, kind := range processKinds {
		if !f.p.isString(f.p.u32(at+uint32(i)*kindSize), kind.name) {
			return false
		}
	}
	return true
}

func (f *finder) rules() error {
	for _, r := range rules() {
		if err := f.apply(r); err != nil {
			return err
		}
	}
	// TransactionState CurrentTransactionState = &TopTransactionStateData;
	f.out.Addresses["TopTransactionStateData"] = f.p.u32(f.out.Addresses["CurrentTransactionState"])
	return nil
}

// sane checks everything that was found: types of functions, variables outside memory, two variables at one address.
func (f *finder) sane() error {
	if err := f.out.CheckProgram(f.p.module); err != nil {
		return err
	}
	at := map[uint32]string{}
	for _, name := range slices.Sorted(maps.Keys(f.out.Addresses)) {
		a := f.out.Addresses[name]
		if other, ok := at[a]; ok || a < firstAddress || a >= f.p.bound() {
			return missing(name, "address %d is not between %d and %d, or is also that of %q", a, firstAddress, f.p.bound(), other)
		}
		at[a] = name
	}
	return nil
}

// firstAddress is where the linker starts to lay out data.
const firstAddress = 1024

// fit is one way in which a rule fits.
type fit struct {
	function uint32
	names    found
}

func (f *finder) apply(r rule) error {
	where := r.in.how + " " + strings.Join(r.in.names, ", ")
	candidates := r.in.find(f, r.in.names)
	if r.shape == "" {
		if len(candidates) != 1 {
			return missing(r.is, "%s: %d functions %v", where, len(candidates), candidates)
		}
		f.out.Functions[r.is] = candidates[0]
		return nil
	}
	s, err := parseShape(r.shape)
	if err != nil {
		return err
	}
	what := strings.Join(append(slices.DeleteFunc([]string{r.is}, func(s string) bool { return s == "" }), f.unknown(s)...), ", ")
	if what == "" {
		what = "what is known of " + where
	}
	var fits []fit
	m := &matcher{p: f.p, known: f.known}
	for _, c := range candidates {
		row, err := f.p.code.Tree(c)
		if err != nil {
			return err
		}
		for _, names := range m.search(s, row) {
			if same := func(other fit) bool { return r.is == "" && maps.Equal(other.names, names) }; !slices.ContainsFunc(fits, same) {
				fits = append(fits, fit{c, names})
			}
		}
	}
	if len(fits) != 1 {
		return missing(what, "%s (functions %v): the shape %q fits in %d ways %v", where, candidates, s.text, len(fits), fits)
	}
	if r.is != "" {
		f.out.Functions[r.is] = fits[0].function
	}
	return f.learn(fits[0].names)
}

// unknown returns the names in a shape that have no value yet.
func (f *finder) unknown(s *shape) (names []string) {
	for _, w := range regexp.MustCompile(`(f?\$|&)[A-Za-z_.0-9]+`).FindAllString(s.text, -1) {
		if _, ok := f.known(w); !ok {
			names = append(names, strings.TrimLeft(w, "f$&"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (f *finder) function(name string) (uint32, bool) {
	if i, ok := f.out.Functions[name]; ok {
		return i, true
	}
	i, ok := f.p.named[name]
	return i, ok
}

func (f *finder) address(name string) (uint32, bool) {
	if at, ok := f.out.Addresses[name]; ok {
		return at, true
	}
	at, ok := f.p.data[name]
	return at, ok
}

// known returns the number of a name in a shape, if it is known.
func (f *finder) known(mark string) (int64, bool) {
	var v uint32
	var ok bool
	switch kind, name := split(mark); kind {
	case "function":
		v, ok = f.function(name)
	case "slot":
		if v, ok = f.function(name); ok {
			v, ok = f.slots[v]
		}
	case "size":
		v, ok = f.out.Sizes[name]
	case "offset":
		v, ok = f.out.Offsets[name]
	case "address":
		v, ok = f.address(name)
	}
	return int64(v), ok
}

// split returns the kind of thing that a name in a shape stands for.
func split(mark string) (kind, name string) {
	switch {
	case strings.HasPrefix(mark, "f$"):
		return "function", mark[2:]
	case strings.HasPrefix(mark, "&"):
		return "slot", mark[1:]
	case strings.HasPrefix(mark, "$sizeof."):
		return "size", mark[len("$sizeof."):]
	case strings.HasPrefix(mark, "$") && strings.Contains(mark, "."):
		return "offset", mark[1:]
	case strings.HasPrefix(mark, "$"):
		return "address", mark[1:]
	}
	return "", mark
}

// learn adopts what a rule has found.
func (f *finder) learn(names found) error {
	for mark, v := range names {
		switch kind, name := split(mark); kind {
		case "function":
			f.out.Functions[name] = uint32(v)
		case "slot":
			fn, ok := f.p.slots[uint32(v)]
			if !ok {
				return missing(name, "slot %d of the table is empty", v)
			}
			f.out.Functions[name], f.out.Slots[name] = fn, uint32(v)
		case "size":
			f.out.Sizes[name] = uint32(v)
		case "offset":
			f.out.Offsets[name] = uint32(v)
		case "address":
			f.out.Addresses[name] = uint32(v)
		}
	}
	return nil
}
