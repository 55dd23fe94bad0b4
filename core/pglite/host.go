package pglite

import (
	"context"
	"errors"
	"fmt"
)

// The cluster's first superuser: he has this number whatever he is called, and cannot lose his rights.
const firstSuperuser = 10

// Of guc.h: who sets a parameter, and from where.
const (
	gucSuperuser     = 5  // PGC_SUSET
	gucFromTheClient = 13 // PGC_S_SESSION
)

// pinned are parameters that a client may have set in the session and that would change what the host's own statements do: how
// long they take, how thorough they are, and whether damage is an error. They are as at the session's beginning while such a
// statement runs.
func pinned() []string {
	return []string{
		"vacuum_cost_delay", "vacuum_cost_limit", "vacuum_buffer_usage_limit", "vacuum_truncate", "maintenance_work_mem",
		"default_statistics_target", "default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable",
		"zero_damaged_pages", "ignore_checksum_failure", "row_security", "synchronous_commit", "client_min_messages", "session_replication_role",
	}
}

// Maintain runs SQL of the host's own between two statements of the client, like Query: as the cluster's first superuser,
// whoever the session's user is, with parameters that are none of the client's, and with no limit on the data directory. What the
// client has set is as it was afterwards. Nothing may be open in the session. A query, which finds its operators by
// search_path, begins with SafePath.
func (in *Instance) Maintain(ctx context.Context, sql string) (results []Result, err error) {
	restore, err := in.becomeHost()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	if results, err = in.Query(ctx, sql); err != nil {
		return results, fmt.Errorf("%.60s: %w", sql, err)
	}
	return results, nil
}

// SafePath begins a query of the host's own: for its one transaction it finds PostgreSQL's own functions and operators before
// any others.
const SafePath = "SET LOCAL search_path = pg_catalog, pg_temp; "

// becomeHost gives the session the host's identity and parameters; the function that it returns gives the client's back.
func (in *Instance) becomeHost() (restore func() error, err error) {
	if err := in.acquire(); err != nil {
		return nil, err
	}
	defer in.relinquish()
	limit := in.files.dataLimit
	var user, security uint32
	set := map[string]string{}
	err = in.guard(func() {
		at := uint32(in.call(in.fn.malloc, 8))
		in.call(in.module.ExportedFunction("GetUserIdAndSecContext"), uint64(at), uint64(at+4))
		user, security = in.mem.u32(at), in.mem.u32(at+4)
		in.call(in.fn.free, uint64(at))
		in.call(in.module.ExportedFunction("SetUserIdAndSecContext"), firstSuperuser, 0)
		for _, name := range pinned() {
			was := in.parameter(name)
			in.setParameter(name, nil)
			if in.parameter(name) != was {
				set[name] = was
			}
		}
	})
	if err != nil {
		return nil, in.outcome(err)
	}
	in.files.dataLimit = 0
	return func() error {
		in.files.dataLimit = limit
		if err := in.acquire(); errors.Is(err, ErrDead) {
			return nil // who ran the statement has heard of it
		} else if err != nil {
			return err
		}
		defer in.relinquish()
		err := in.guard(func() {
			for name, value := range set {
				in.setParameter(name, &value)
			}
			in.call(in.module.ExportedFunction("SetUserIdAndSecContext"), uint64(user), uint64(security))
		})
		return in.outcome(err)
	}, nil
}

// Parameter is the value of a server parameter in the session, as text. It is for the owner.
func (in *Instance) Parameter(name string) (value string, err error) {
	if err := in.acquire(); err != nil {
		return "", err
	}
	defer in.relinquish()
	err = in.guard(func() { value = in.parameter(name) })
	return value, in.outcome(err)
}

// parameter is a server parameter's value, as text. It belongs into guard.
func (in *Instance) parameter(name string) string {
	var value string
	in.withText(name, func(at uint32) {
		if p := uint32(in.call(in.module.ExportedFunction("GetConfigOption"), uint64(at), 1, 0)); p != 0 {
			value = in.mem.cstr(p)
		}
	})
	return value
}

// setParameter sets a server parameter in the session; nil: to what it was at the session's beginning. It belongs into guard.
func (in *Instance) setParameter(name string, value *string) {
	in.withText(name, func(at uint32) {
		set := func(to uint32) {
			in.call(in.module.ExportedFunction("SetConfigOption"), uint64(at), uint64(to), gucSuperuser, gucFromTheClient)
		}
		if value == nil {
			set(0)
			return
		}
		in.withText(*value, set)
	})
}

// withText has a text in the guest's memory while f runs.
func (in *Instance) withText(text string, f func(at uint32)) {
	at := uint32(in.call(in.fn.malloc, uint64(len(text)+1)))
	in.mem.putCstr(at, text)
	f(at)
	in.call(in.fn.free, uint64(at))
}

// Places in TransamVariablesData (src/include/access/transam.h).
const (
	nextTransactionAt   = 8
	oldestTransactionAt = 16
)

// TransactionAge is how many transaction ids have been given away since the oldest one that some table of some database may
// still hold: at 2^31 PostgreSQL gives no more. It is for the owner.
func (in *Instance) TransactionAge() (age uint32, err error) {
	if err := in.acquire(); err != nil {
		return 0, err
	}
	defer in.relinquish()
	err = in.guard(func() {
		at := in.mem.u32(uint32(in.rt.main.consts["TransamVariables"]))
		age = in.mem.u32(at+nextTransactionAt) - in.mem.u32(at+oldestTransactionAt)
	})
	return age, in.outcome(err)
}

// SkipTransactions makes the next transaction id one that far ahead, at the beginning of a page of pg_xact, as if so many transactions had
// run: for tests of what happens when ids run out. It is for the owner, between transactions.
func (in *Instance) SkipTransactions(n uint32) {
	const pageOfIDs = 32768 // CLOG_XACTS_PER_PAGE: the first id of a page makes the page
	at := uint32(in.rt.main.consts["TransamVariables"])
	at = in.mem.u32(at) + nextTransactionAt
	next := (in.mem.u64(at) + uint64(n)) / pageOfIDs * pageOfIDs
	in.mem.putU64(at, next)
}
