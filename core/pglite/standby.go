package pglite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"strconv"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
)

// A cluster may be a hot standby: PostgreSQL's own recovery runs indefinitely in a process, reads what the host puts into pg_wal, and every
// client's transactions are read-only. To feed it, write to the segments' files under the lock (Locked) and call Wake; there is no
// walreceiver, because the host brings the log.
//
//	host ── bytes ──► pg_wal ── Wake ──► startup process ── replays ──► waits again, which Following reports
//	                                          │
//	                                          └── consistent, as far as the files reached ──► StartCluster returns, clients come

const (
	// signalFile makes recovery follow the log.
	signalFile = "/standby.signal"
	// promoteFile is what PostgreSQL would write to end recovery (pg_promote). A directory in its place makes pg_promote fail immediately:
	// nothing would notice the file.
	promoteFile = "/promote"
)

// standbySettings are always a standby's: only its host ends its recovery, delays it, or feeds it. A tablespace can only be a folder of the
// data directory here; a standby's recovery, unlike a writer's, accepts one only with allow_in_place_tablespaces.
func standbySettings() map[string]string {
	return map[string]string{
		"hot_standby": "on", "restore_command": "", "archive_cleanup_command": "", "recovery_end_command": "", "primary_conninfo": "",
		"primary_slot_name": "", "hot_standby_feedback": "off", "sync_replication_slots": "off", "recovery_min_apply_delay": "0",
		"recovery_target": "", "recovery_target_lsn": "", "recovery_target_name": "", "recovery_target_time": "", "recovery_target_xid": "",
		"allow_in_place_tablespaces": "on", "recovery_target_timeline": "latest", "recovery_target_action": "pause", "wal_retrieve_retry_interval": "5s",
	}
}

// makeStandby prepares files for a standby, and gives it at least the limits of the server that last wrote them.
func (o *ClusterOptions) makeStandby() error {
	data := o.Data
	body, control, err := readControl(data)
	if err != nil {
		return err
	}
	if err := data.WriteFile(pgdata.ControlPath, pgdata.WithoutWorkers(body), 0o600); err != nil {
		return err
	}
	o.atLeast("max_connections", control.MaxConnections)
	o.atLeast("max_prepared_transactions", control.MaxPrepared)
	o.atLeast("max_locks_per_transaction", control.MaxLocks)
	if err := data.WriteFile(signalFile, nil, 0o600); err != nil {
		return err
	}
	if err := data.Unlink(promoteFile); err != nil && !errors.Is(err, fs.ErrNotExist) && !isDirectory(data, promoteFile) {
		return err
	}
	if isDirectory(data, promoteFile) {
		return nil
	}
	return data.Mkdir(promoteFile, 0o500)
}

func isDirectory(data *memfs.FS, path string) bool {
	info, err := data.Stat(path)
	return err == nil && info.IsDir()
}

// lower matches PostgreSQL's message that a standby has lower limits than the log's writer had, which ends its recovery.
var lower = regexp.MustCompile(`([a-z_]+) = \d+ is a lower setting than on the primary server, where its value was (\d+)`)

// raise gives a standby the limit that it lacks, and reports whether it did.
func (o *ClusterOptions) raise(failed error) bool {
	said := lower.FindStringSubmatch(failed.Error())
	if said == nil {
		return false
	}
	want, err := strconv.Atoi(said[2])
	return err == nil && o.atLeast(said[1], want)
}

// atLeast raises a setting that is lower, and reports whether it was.
func (o *ClusterOptions) atLeast(name string, want int) bool {
	usual := map[string]int{"max_prepared_transactions": 0, "max_locks_per_transaction": 64}
	have, known := usual[name]
	if n, err := strconv.Atoi(o.settings()[name]); err == nil {
		have, known = n, true
	}
	if known && have >= want {
		return false
	}
	o.Settings = maps.Clone(o.Settings)
	if o.Settings == nil {
		o.Settings = map[string]string{}
	}
	o.Settings[name] = strconv.Itoa(want)
	return true
}

// bootStandby starts recovery, and returns when clients can connect.
func (c *Cluster) bootStandby(ctx context.Context) error {
	if _, err := c.start(KindCheckpoint); err != nil {
		return err
	}
	startup, err := c.start(KindStartup)
	if err != nil {
		return err
	}
	select {
	case <-c.hot:
	case <-startup.done:
		if err := c.Err(); err != nil {
			return err
		}
		return fmt.Errorf("recovery failed: exit code %d", startup.code)
	case <-ctx.Done():
		return ctx.Err()
	}
	c.files.replaced = nil
	return nil
}

// Wake makes recovery look for more log. Call it with the lock.
func (c *Cluster) Wake() {
	if p := c.process(KindStartup); p != nil {
		p.in.mem.putU32(c.recoveryAt(p)+wakeupLatch, 1)
		p.signal(sigURG)
	}
}

// recoveryAt returns the address of XLogRecoveryCtl in a process.
func (c *Cluster) recoveryAt(p *Process) uint32 {
	return p.in.mem.u32(c.rt.places.layout.Addresses["XLogRecoveryCtl"])
}

// Offsets in XLogRecoveryCtlData (xlogrecovery.c) and Latch (storage/latch.h).
const (
	wakeupLatch    = 4
	latchSleeps    = 4
	latchSharedAt  = 8
	latchOwner     = 12
	lastCommitTime = 64
	pauseState     = 80
)

// Recovery says how far a standby's recovery has got.
type Recovery struct {
	// Replayed is the place in the log after the last record replayed.
	Replayed uint64
	// Waits: it has replayed all that it can read, and waits for more.
	Waits bool
	// Paused: it was stopped by pg_wal_replay_pause, or because the log's writer allows more connections or the like (see Lacks).
	Paused bool
}

// errLayout: recovery's state is not where the host expects it.
var errLayout = errors.New("recovery's state is not where it is looked for: this PGlite needs another host")

// Recovery returns how far a standby's recovery has got. Call it with the lock.
func (c *Cluster) Recovery() (Recovery, error) {
	p := c.process(KindStartup)
	if p == nil {
		return Recovery{}, fmt.Errorf("%w: there is no recovery", ErrDead)
	}
	m, at := p.in.mem, c.recoveryAt(p)
	r := Recovery{
		Replayed: m.u64(at + c.rt.places.layout.Offsets["XLogRecoveryCtlData.lastReplayedEndRecPtr"]),
		Waits:    m.u32(at+wakeupLatch) == 0 && m.u32(at+wakeupLatch+latchSleeps) == 1,
		Paused:   m.u32(at+pauseState) != 0,
	}
	if owner := m.u32(at + wakeupLatch + latchOwner); m.u8(at+wakeupLatch+latchSharedAt) != 1 || owner != p.pid || m.u32(at+pauseState) > 2 {
		return Recovery{}, errLayout
	}
	return r, nil
}

// Lacks reports whether the log's writer now allows more connections, prepared transactions or locks than this standby: recovery has then
// stopped. Call it with the lock.
func (c *Cluster) Lacks() bool {
	_, control, err := readControl(c.files.data)
	if err != nil {
		return false
	}
	o := c.o
	return o.atLeast("max_connections", control.MaxConnections) || o.atLeast("max_prepared_transactions", control.MaxPrepared) ||
		o.atLeast("max_locks_per_transaction", control.MaxLocks) || o.atLeast("max_worker_processes", control.MaxWorkers)
}

// Following returns a channel that gets a value whenever a standby's recovery begins to wait; call leave afterwards.
func (c *Cluster) Following() (heard <-chan struct{}, leave func()) { return c.recovery.join() }

// Reload makes PostgreSQL reread its configuration, as pg_reload_conf does. Call it with the lock.
func (c *Cluster) Reload() {
	if err := c.reload(); err != nil {
		c.o.Log("WARNING:  " + err.Error())
	}
	for _, p := range c.Processes() {
		p.signal(sigHUP)
	}
}
