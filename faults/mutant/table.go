package mutant

// The files that mutants break.
const (
	takeoverFile = "core/takeover/takeover.go"
	verifyFile   = "core/takeover/verify.go"
	logFile      = "core/wal/log.go"
	createFile   = "core/store/create.go"
	readFile     = "core/wal/read.go"
	leaseFile    = "core/lease/lease.go"
	manifestFile = "core/manifest/update.go"
	gcFile       = "core/gc/gc.go"
	gcLayersFile = "core/gc/layers.go"
	// processFile stands in for the engine: capturing what a layer holds, acknowledging. Core has these lines in core/engine, which the
	// explorer does not run; so the explorer's own process is broken instead.
	processFile = "runner/explore/process.go"
)

// The protocol's invariants.
const (
	dense      = "1"
	once       = "2"
	fenced     = "3"
	byOne      = "4"
	durable    = "5"
	prefix     = "6"
	replay     = "7"
	restorable = "8"
	oneWriter  = "9"
	idle       = "10"
)

// Mutants returns all mutants that the explorer has to catch.
func Mutants() []Mutant {
	return append(append(takeovers(), appends()...), append(leases(), layers()...)...)
}

// takeovers break the opening.
func takeovers() []Mutant {
	return []Mutant{
		{
			Name: "no-manifest-reread", Invariant: oneWriter, File: takeoverFile, Plan: "dead-zone",
			Doc: "the manifest is not read again after the fence: a fence in a collected part of the log makes a writer",
			Old: "\tm, err := op.confirm(ctx, log, seen)\n", New: "\tm, err := seen.Manifest, error(nil)\n",
		},
		{
			Name: "no-seqlock", Invariant: oneWriter, File: takeoverFile, Plan: "seqlock",
			Doc: "after the fence only the dead zone is checked: what was read before is restored, whatever became of it",
			Old: "\tif sameStart(now, seen) {\n", New: "\tif sameStart(now, seen) || fence.Seq > 0 {\n",
		},
		{
			Name: "no-swap", Invariant: restorable, File: takeoverFile, Plan: "pages",
			Doc: "the manifest is only read after the fence: an older collection, or an older writer's next one, deletes what is shared with or read late",
			Old: "\tif op.made != 0 && seen.Gen == op.made {\n\t\tif seen, err = op.manifest(ctx); err != nil || seen.Gen == op.made {\n",
			New: "\tif seen.Gen != 0 {\n\t\tif seen, err = op.manifest(ctx); err != nil || seen.WalStart <= fence.Seq && seen.Epoch < fence.Epoch {\n",
		},
		{
			Name: "layer-before-swap", Invariant: restorable, File: takeoverFile, Plan: "pages",
			Doc: "what was read before the swap is restored: its layer may have been replaced, and is being collected",
			Old: "\t\t\tif highest < fence.Epoch {\n\t\t\t\treturn now.Manifest, nil\n",
			New: "\t\t\tif highest < fence.Epoch {\n\t\t\t\tif seen.WalStart == now.WalStart || len(seen.Layers) > 0 {\n\t\t\t\t\treturn seen.Manifest, nil\n\t\t\t\t}\n\t\t\t\treturn now.Manifest, nil\n",
		},
		{
			Name: "stale-layer", Invariant: prefix, File: takeoverFile, Plan: "retention",
			Doc: "the layer of a newer manifest is restored with the records after an older one, which are also kept",
			Old: "newest(a).Key == newest(b).Key", New: "newest(a).Seq >= 0 && newest(b).Seq >= 0",
		},
		{
			Name: "restore-before-acquire", Invariant: prefix, File: takeoverFile, Plan: "zombie",
			Doc: "what the predecessor appends between the reading and the fence is not restored",
			Old: "\t\t\top.out.Records = append(op.out.Records, r)\n\t\t\tlast = r\n", New: "\t\t\tlast = r\n",
		},
		{
			Name: "no-fence", Invariant: fenced, File: takeoverFile, Plan: "zombie",
			Doc: "the successor appends without a fence",
			Old: "\tif err := op.fence(ctx, log, seen.Manifest); err != nil {\n\t\treturn err\n\t}\n\tm, err := op.confirm(ctx, log, seen)\n",
			New: "\tm := seen.Manifest\n\tif tail.Seq == 0 {\n\t\t_, err = log.Fence(ctx)\n\t}\n",
		},
		{
			Name: "same-epoch-reacquire", Invariant: byOne, File: takeoverFile, Plan: "openers",
			Doc: "an opener takes the epoch it finds instead of the next one",
			Old: "Epoch: max(tail.Epoch, seen.Epoch) + 1, DatabaseID", New: "Epoch: max(tail.Epoch, seen.Epoch, 1), DatabaseID",
		},
		{
			Name: "moved-is-damage", Invariant: "sound", File: takeoverFile, Plan: "collectors",
			Doc: "an opener takes a log that was collected under it for damaged",
			Old: "case now.WalStart != seen.WalStart:", New: "case now.WalStart < seen.WalStart:",
		},
		{
			Name: "create-twice", Invariant: "sound", File: takeoverFile, Plan: "create",
			Doc: "when two processes create the database at the same time, one gives up with an error that is not a rival's",
			Old: "if m.DatabaseID != \"\" && m.DatabaseID != id {", New: "if m.DatabaseID != \"\" && m.DatabaseID == id {",
		},
		{
			Name: "verify-without-second-look", Invariant: oneWriter, File: verifyFile, Plan: "reader",
			Doc: "a reader does not read the manifest again: it takes a log that was collected under it for damaged",
			Old: "if now.WalStart == m.WalStart && (err == nil || sameLayers(now, m)) {", New: "if now.WalStart >= m.WalStart {",
		},
	}
}

// appends break the log.
func appends() []Mutant {
	return []Mutant{
		{
			Name: "ignore-write-id", Invariant: durable, File: createFile, Plan: "zombie",
			Doc: "a record of our own, whose reply was lost, is taken for another writer's",
			Old: "\t\t\tcase lookErr == nil && bytes.Equal(o.Body, body):\n", New: "\t\t\tcase lookErr == nil && bytes.Equal(o.Body, body) && st == nil:\n",
		},
		{
			Name: "ignore-conflict", Invariant: durable, File: createFile, Plan: "zombie",
			Doc: "a conflict is taken for success",
			Old: "return &ExistsError{Object: o, Undecided: undecided}", New: "return nil",
		},
		{
			Name: "two-in-flight", Invariant: dense, File: createFile, Plan: "zombie",
			Doc: "an append without an answer is taken as done, and the next one is sent while it is on its way",
			Old: "\t\tcase errors.Is(err, ErrUnknown):\n\t\t\tundecided = true\n", New: "\t\tcase errors.Is(err, ErrUnknown):\n\t\t\treturn nil\n",
		},
		{
			Name: "unknown-is-failed", Invariant: durable, File: createFile, Plan: "zombie",
			Doc: "an append without an answer is reported as failed",
			Old: "\t\tcase errors.Is(err, ErrUnknown):\n\t\t\tundecided = true\n", New: "\t\tcase errors.Is(err, ErrUnknown):\n\t\t\treturn ErrDenied\n",
		},
		{
			Name: "fenced-is-final", Invariant: durable, File: logFile, Plan: "late",
			Doc: "an append is reported as not in the log, though a try without an answer may have been stored, read and collected",
			Old: "if taken.Undecided {", New: "if taken.Undecided && l.st == nil {",
		},
		{
			Name: "ack-before-put", Invariant: durable, File: processFile, Plan: "zombie",
			Doc: "a commit is acknowledged while its record is on its way (the engine's part)",
			Old: "\tp.pending = []string{token}\n",
			New: "\tp.pending = []string{token}\n\tp.w.judge.acknowledged(p, token, wal.Position{Seq: p.opened.Log.Tail().Seq + 1})\n",
		},
		{
			Name: "dead-fence-is-damage", Invariant: "sound", File: readFile, Plan: "seqlock",
			Doc: "a fence at wal_start that refers to the dead fence before it is taken for damage",
			Old: "return rec.Kind == Fence && r.at.Seq == r.o.From.Seq && r.at.Seq > 0", New: "return rec.Kind == Fence && r.at.Seq == 0",
		},
		{
			Name: "free-name-is-proof", Invariant: "read", File: "core/wal/unfenced.go", Plan: "reads",
			Doc: "a strict read takes the free name after its writer's last record as proof, though a record of its own may have been collected there",
			Old: "\t\tif errors.Is(err, store.ErrNotFound) {\n\t\t\tcontinue\n", New: "\t\tif errors.Is(err, store.ErrNotFound) {\n\t\t\treturn nil\n",
		},
		{
			Name: "no-chain-check", Invariant: dense, File: readFile, Plan: "damaged",
			Doc: "a reader does not check whether a record follows from the one before it",
			Old: "rec.Prev != r.at.Hash && !r.mayBreak(rec)", New: "rec.Prev != r.at.Hash && rec.Seq == 0",
		},
	}
}

// leases break the lease.
func leases() []Mutant {
	return []Mutant{
		{
			Name: "renew-without-generation", Invariant: "lease", File: leaseFile, Plan: "lease",
			Doc: "a lease is renewed over the writer that has taken it",
			Old: "err = l.write(ctx, l.o.Holder, store.IfGen(gen))", New: "_, err = gen, l.write(ctx, l.o.Holder, store.Always())",
		},
		{
			Name: "release-without-generation", Invariant: "lease", File: leaseFile, Plan: "lease",
			Doc: "a lease is released that another writer has taken",
			Old: "err := l.write(ctx, \"\", store.IfGen(gen))", New: "_, err := gen, l.write(ctx, \"\", store.Always())",
		},
		{
			Name: "take-a-held-lease", Invariant: "lease", File: leaseFile, Plan: "lease",
			Doc: "a lease is taken while its holder has time left",
			Old: "if s.Holder != \"\" && s.Holder != l.o.Holder", New: "if s.Holder == l.o.Holder",
		},
		{
			Name: "idle-heartbeat", Invariant: idle, File: leaseFile, Plan: "lease",
			Doc: "a request inside a valid lease renews it (the engine's idle time is measured elsewhere)",
			Old: "\tif l.Valid() {\n\t\treturn nil\n\t}\n\tif err := l.swap.take(ctx); err != nil {\n\t\treturn err\n\t}\n\tdefer l.swap.end()\n\tif l.Valid() {", New: "\tif err := l.swap.take(ctx); err != nil {\n\t\treturn err\n\t}\n\tdefer l.swap.end()\n\tif l.Valid() && l.o.TTL == 0 {",
		},
	}
}

// layers break compaction and collection.
func layers() []Mutant {
	return []Mutant{
		{
			Name: "publish-undurable-base", Invariant: replay, File: processFile, Plan: "zombie-layer",
			Doc: "a layer holds a commit whose record is on its way (the engine's part)",
			Old: "return p.opened.Log.Tail(), slices.Clone(p.tokens)", New: "return p.opened.Log.Tail(), append(slices.Clone(p.tokens), p.pending...)",
		},
		{
			Name: "ignore-manifest-epoch", Invariant: restorable, File: manifestFile, Plan: "unnamed-layer",
			Doc: "a manifest of a higher epoch is swapped: a zombie publishes a layer that was collected",
			Old: "\tif old.Epoch > u.o.Epoch {\n", New: "\tif old.Epoch > u.o.Epoch && u.st == nil {\n",
		},
		{
			Name: "blind-manifest-swap", Invariant: restorable, File: manifestFile, Plan: "collectors",
			Doc: "the manifest is overwritten regardless of its generation",
			Old: "cond = store.IfGen(old)", New: "cond = store.Always()",
		},
		{
			Name: "delete-fence", Invariant: once, File: gcFile, Plan: "sleeper",
			Doc: "a collection deletes fences: a stalled writer creates its next record where one stood",
			Old: "if fence {\n", New: "if fence && c.o.Epoch == 0 {\n",
		},
		{
			Name: "gc-one-too-many", Invariant: restorable, File: gcFile, Plan: "collectors",
			Doc: "a collection deletes the record at wal_start",
			Old: "if seq >= c.m.WalStart", New: "if seq > c.m.WalStart",
		},
		{
			Name: "gc-live-layer", Invariant: restorable, File: gcLayersFile, Plan: "collectors",
			Doc: "a collection deletes the layer that the manifest names",
			Old: "\t\tkeep[l.Key] = true\n", New: "\t\tkeep[l.Key] = len(c.m.Layers) > 1\n",
		},
		{
			Name: "gc-shared-segment", Invariant: restorable, File: gcLayersFile, Plan: "pages",
			Doc: "a collection deletes a segment that a layer shares with one that is gone",
			Old: "\t\t\tc.needed[key] = true\n", New: "\t\t\to, _ := base.ParseSegment(key)\n\t\t\tc.needed[key] = o.Layer == l.Key\n",
		},
		{
			Name: "gc-segment-of-later-writer", Invariant: restorable, File: gcLayersFile, Plan: "pages",
			Doc: "a stalled collection deletes segments of a writer that came later",
			Old: "ok && !c.needed[a.Key] && o.Epoch <= c.o.Epoch", New: "ok && !c.needed[a.Key] && o.Epoch > 0",
		},
	}
}
