package pglite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
)

// ALTER SYSTEM accepts values with which PostgreSQL cannot start: a library that does not exist, more connections than fit into memory,
// fewer prepared transactions than exist. On a server, an administrator edits the file; here the files are in a bucket. So a failed start
// is retried: with as many prepared transactions as there were, then without the lines of postgresql.auto.conf that make it fail. The file
// itself does not change.

// autoConf is the file that ALTER SYSTEM writes.
const autoConf = "postgresql.auto.conf"

// maxSettingTries bounds how many lines are tried one by one; a longer file is left out entirely.
const maxSettingTries = 32

// confLine is one setting in the file.
type confLine struct{ name, line string }

// readConf reads the settings of the file.
func readConf(data *memfs.FS) []confLine {
	b, err := data.ReadFile("/" + autoConf)
	if err != nil {
		return nil
	}
	var all []confLine
	for line := range strings.Lines(string(b)) {
		text := strings.TrimSpace(line)
		if name, _, ok := strings.Cut(text, "="); ok && text[0] != '#' {
			all = append(all, confLine{strings.TrimSpace(name), strings.TrimRight(line, "\r\n")})
		}
	}
	return all
}

// confTree returns a tree that holds the file with these lines.
func confTree(lines []confLine) (*memfs.FS, error) {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.line + "\n")
	}
	tree := memfs.New(memfs.Options{})
	return tree, tree.WriteFile("/"+autoConf, []byte(b.String()), 0o600)
}

// preparedBefore returns max_prepared_transactions of the server that last wrote these files: recovery, which has failed here, found it in
// the log.
func preparedBefore(data *memfs.FS) int {
	_, control, err := readControl(data)
	if err != nil {
		return 0
	}
	return control.MaxPrepared
}

// readControl reads the control file.
func readControl(data *memfs.FS) ([]byte, pgdata.Control, error) {
	b, err := data.ReadFile(pgdata.ControlPath)
	if err != nil {
		return nil, pgdata.Control{}, err
	}
	control, err := pgdata.ParseControl(b)
	return b, control, err
}

// recoverAgain makes PostgreSQL's next start recover again: a start that failed after recovery has shut down cleanly, and without
// another recovery Replayed would be unknown.
func recoverAgain(data *memfs.FS) error {
	b, control, err := readControl(data)
	if err != nil || !control.ShutDown() {
		return nil // PostgreSQL reports what is wrong with it, or recovers
	}
	return data.WriteFile(pgdata.ControlPath, pgdata.InProduction(b), 0o600)
}

// sayOverridden logs which lines of the file have no effect because the command line overrides them.
func sayOverridden(data *memfs.FS, settings map[string]string, log func(string)) {
	for _, l := range readConf(data) {
		value, there := settings[l.name]
		if !there {
			continue
		}
		log(fmt.Sprintf("WARNING:  the line with %s in %s has no effect: PostgreSQL is started with %s here", l.name, autoConf, value))
	}
}

// trial is one way to start.
type trial struct {
	o    ClusterOptions
	conf *memfs.FS // holds postgresql.auto.conf to be read instead; nil: the file itself is
}

// with returns the same trial with another max_prepared_transactions.
func (t trial) with(prepared int) trial {
	set := map[string]string{"max_prepared_transactions": strconv.Itoa(prepared)}
	for name, value := range t.o.Settings {
		if name != "max_prepared_transactions" {
			set[name] = value
		}
	}
	t.o.Settings = set
	return t
}

// again retries a failed start, without the settings that make it fail. If that does not help, it returns the first error.
func (rt *Runtime) again(ctx context.Context, o ClusterOptions, failed error) (*Cluster, error) {
	const preparedSetting = "max_prepared_transactions"
	var left []string
	raised := 0
	t := trial{o: o}
	if err := recoverAgain(o.Data); err != nil {
		return nil, errors.Join(failed, err)
	}
	if n := preparedBefore(o.Data); n > 0 {
		t, raised = t.with(n), n
		if isSet(o, preparedSetting) {
			left = append(left, preparedSetting)
		}
		if c, err := rt.tryCluster(ctx, t); err == nil {
			c.sayLeftOut(left, raised, failed)
			return c, nil
		}
	}
	lines := readConf(o.Data)
	if len(lines) == 0 {
		return nil, failed
	}
	if err := recoverAgain(o.Data); err != nil {
		return nil, errors.Join(failed, err)
	}
	// Trials that may fail get a copy of the files, and no log; the last one gets the files themselves.
	starts := func(lines []confLine) bool {
		copied := t
		copied.o.Data, copied.o.Log = o.Data.Clone(), func(string) {}
		var err error
		if copied.conf, err = confTree(lines); err != nil {
			return false
		}
		c, err := rt.tryCluster(ctx, copied)
		if err == nil {
			c.Kill()
		}
		return err == nil
	}
	if ctx.Err() != nil || !starts(nil) {
		return nil, failed // the file is not the cause
	}
	var kept []confLine
	for _, l := range lines {
		if len(lines) <= maxSettingTries && ctx.Err() == nil && starts(append(kept[:len(kept):len(kept)], l)) {
			kept = append(kept, l)
		} else {
			left = append(left, l.name)
		}
	}
	var err error
	if t.conf, err = confTree(kept); err != nil {
		return nil, errors.Join(failed, err)
	}
	c, err := rt.tryCluster(ctx, t)
	if err != nil {
		return nil, failed
	}
	c.sayLeftOut(left, raised, failed)
	return c, nil
}

// isSet reports whether a parameter is set, on the command line or by ALTER SYSTEM.
func isSet(o ClusterOptions, name string) bool {
	_, set := o.Settings[name]
	return set || inConf(o.Data, name)
}

// inConf reports whether postgresql.auto.conf has a line for a parameter.
func inConf(data *memfs.FS, name string) bool {
	return slices.ContainsFunc(readConf(data), func(l confLine) bool { return l.name == name })
}

// dropSlots removes replication slots, which an earlier version allowed: nothing can read from them, and PostgreSQL, which is started with
// max_replication_slots 0, would not start.
func dropSlots(data *memfs.FS, log func(string)) {
	const dir = "/pg_replslot"
	slots, err := data.ReadDir(dir)
	if err != nil {
		return
	}
	for _, slot := range slots {
		files, err := data.ReadDir(dir + "/" + slot.Name)
		for _, f := range files {
			err = errors.Join(err, data.Unlink(dir+"/"+slot.Name+"/"+f.Name))
		}
		if err = errors.Join(err, data.Rmdir(dir+"/"+slot.Name)); err == nil {
			log(fmt.Sprintf("WARNING:  replication slot %s was removed: there are none here", slot.Name))
		}
	}
}

// sayLeftOut records the settings that were left out, and logs them with the reason; raised is the max_prepared_transactions that the start
// chose itself, or zero.
func (c *Cluster) sayLeftOut(left []string, raised int, failed error) {
	c.leftOut = left
	said := fmt.Sprintf("It had said: %v", failed)
	if raised > 0 {
		c.o.Log(fmt.Sprintf("WARNING:  PostgreSQL is started with max_prepared_transactions = %d, as when these files were written, because they may hold transactions prepared then. %s",
			raised, said))
	}
	if len(left) == 0 {
		return
	}
	file := ""
	if slices.ContainsFunc(left, func(name string) bool { return inConf(c.o.Data, name) }) {
		file = ", and " + autoConf + " is as it was (ALTER SYSTEM RESET removes a line)"
	}
	c.o.Log(fmt.Sprintf("WARNING:  PostgreSQL does not start with the configured values of %s; it has started without them%s. %s", strings.Join(left, ", "), file, said))
}

// openConf opens the replacement of a configuration file; nil: there is none.
func (f *files) openConf(fs *memfs.FS, rel string, flags int) *openFile {
	if f.replaced == nil || fs != f.data || flags&(oAccMode|oCreat) != 0 || strings.Contains(strings.TrimPrefix(rel, "/"), "/") {
		return nil
	}
	file, err := f.replaced.Open("/"+strings.TrimPrefix(rel, "/"), os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	return &openFile{fs: f.replaced, file: file, flags: flags}
}
