package mutant

// replicaMutants break what follows the log.
func replicaMutants() []Mutant {
	const (
		tests   = "./core/replica -run "
		life    = "core/replica/life.go"
		move    = "core/replica/move.go"
		follows = "core/replica/replica.go"
		engine  = "core/engine/replica.go"
		server  = "core/engine/server.go"
		standby = "core/pglite/standby.go"
		process = "core/pglite/process.go"
	)
	return []Mutant{
		{
			Name: "skips-a-record", Invariant: prefix, File: life, Plan: tests + "TestReplicaFollowsItsWriter",
			Doc: "a replica leaves out a record of the log",
			Old: "\t\tif err := l.engine.Feed(ctx, rec); err != nil {\n", New: "\t\tif rec.Seq%5 == 4 {\n\t\t\treturn nil\n\t\t}\n\t\tif err := l.engine.Feed(ctx, rec); err != nil {\n",
		},
		{
			Name: "follows-behind-a-fence", Invariant: fenced, File: life, Plan: tests + "TestRecordBehindItsFence",
			Doc: "a replica that looks at just the wrong moment replays what a fenced writer has written",
			Old: "\tl.fed = at\n", New: "\tl.fed = wal.Position{Seq: at.Seq}\n",
		},
		{
			Name: "serves-before-consistent", Invariant: prefix, File: server, Plan: "./core/engine -run TestReplicaCrash",
			Doc: "a replica that has crashed accepts clients before it has replayed what it had shown",
			Old: "\t\terr = e.follower.caughtUp(ctx, c, want)\n", New: "\t\terr = ctx.Err()\n",
		},
		{
			Name: "looks-at-rest", Invariant: idle, File: life, Plan: tests + "TestRestingMakesNoRequest",
			Doc: "a replica that is not in use keeps looking",
			Old: "return l.r.resting()", New: "return l.r.resting() && l.r.o.Poll < 0",
		},
		{
			Name: "goes-back", Invariant: prefix, File: move, Plan: tests + "TestNobodyGoesBack",
			Doc: "an engine takes a replica's place without having got as far",
			Old: "\t\tif next.engine.Position() >= l.engine.Position() {\n", New: "\t\tif next.engine.Position() > 0 {\n",
		},
		{
			Name: "absent-is-the-end", Invariant: prefix, File: life, Plan: tests + "TestCollectedLog",
			Doc: "a replica whose next record was collected believes that nothing was written",
			Old: "\tcase m.WalStart > l.fed.Seq+1, last.Seq > l.fed.Seq:", New: "\tcase m.WalStart > l.fed.Seq+1 && err != nil:",
		},
		{
			Name: "missing-is-the-end", Invariant: dense, File: life, Plan: tests + "TestDamagedLog",
			Doc: "a record missing from the log is taken for the log's end",
			Old: "there <- err == nil", New: "there <- err == nil && beyond == 0",
		},
		{
			Name: "written-meanwhile", Invariant: dense, File: life, Plan: tests + "TestBusyLogIsNotMissing",
			Doc: "what was written between the look at the log and the concurrent one is taken for a gap",
			Old: "if err == nil && l.suspicious(seen) {", New: "if err != nil && l.suspicious(seen) {",
		},
		{
			Name: "old-behind-a-rest", Invariant: prefix, File: "core/replica/ask.go", Plan: tests + "TestRestingMakesNoRequest",
			Doc: "the first client after a rest is shown what was known before",
			Old: "\t\tbound = r.o.Poll\n", New: "\t\tbound = r.o.Idle * 100\n",
		},
		{
			Name: "replica-writes", Invariant: oneWriter, File: follows, Plan: tests + "TestReplicaFollowsItsWriter",
			Doc: "a replica opens the database as a writer does",
			Old: "\tl, err := r.begin(ctx)\n\tif err != nil {\n\t\treturn nil, err\n\t}\n\tr.mu.Lock()\n",
			New: "\tif r.life == nil {\n\t\treturn engine.Open(ctx, r.o.Engine)\n\t}\n\tl, err := r.begin(ctx)\n\tif err != nil {\n\t\treturn nil, err\n\t}\n\tr.mu.Lock()\n",
		},
		{
			Name: "stuck-is-quiet", Invariant: prefix, File: engine, Plan: "./core/engine -run TestReplicaStuck",
			Doc: "bytes that are not log are taken for the beginning of a record",
			Old: "\tif replayed >= f.end {\n", New: "\tif replayed >= f.end || replayed > 0 {\n",
		},
		{
			Name: "dark-while-it-waits", Invariant: promise, File: "cloud/pgserve/replica.go", Plan: "./cloud/pgserve -run TestFailedPromotion",
			Doc: "a replica ends before its successor is open: reads stop until the lease has expired, and for good if the bucket is silent",
			Old: "\t\te, err := s.write(ctx)\n", New: "\t\ts.replica.End(errPromoted)\n\t\te, err := s.write(ctx)\n",
		},
		{
			Name: "promoted-for-nobody", Invariant: promise, File: "cloud/pgserve/replica.go", Plan: "./cloud/pgserve -run TestPromotionAsTheServiceEnds",
			Doc: "what a promotion has opened is left open when the service ends, so that its lease has to expire",
			Old: "errors.Join(err, unused.Close(context.WithoutCancel(ctx)))", New: "errors.Join(err)",
		},
		{
			Name: "replica-is-promoted", Invariant: oneWriter, File: standby, Plan: "./core/pglite -run TestStandbyIsReadOnly",
			Doc: "a client's pg_promote waits a minute for something that never comes",
			Old: "\treturn data.Mkdir(promoteFile, 0o500)\n", New: "\treturn nil\n",
		},
		{
			Name: "pipe-is-a-latch", Invariant: host, File: process, Plan: "./core/pglite -run TestStandbyFollows",
			Doc: "the descriptor of the postmaster's pipe is one that a process closes when it starts, and reopens for something else",
			Old: "fs.lowest+inheritedFiles)", New: "fs.lowest)",
		},
		{
			Name: "half-a-record", Invariant: prefix, File: engine, Plan: tests + "TestPositionWithinARecord",
			Doc: "a position within a record whose rest is still to come is waited for until the next write",
			Old: "f.quietAt.Store(max(now.Replayed, uint64(aligned(f.end))))", New: "f.quietAt.Store(now.Replayed)",
		},
		{
			Name: "waits-for-nobody", Invariant: prefix, File: "core/pglite/position.go", Plan: "./core/pglite -run TestPosition",
			Doc: "a client that waits for a position is not made to wait",
			Old: "source != client && source != session ||", New: "source != client ||",
		},
		{
			Name: "collected-is-missing", Invariant: promise, File: "core/replica/life.go", Plan: "./core/replica -run TestCollectedMeanwhile",
			Doc: "a record that is collected after the look at the manifest is reported as damage, and the replica stands still",
			Old: "if damaged(err) || missing {", New: "if damaged(err) && seen.manifest == nil {",
		},
	}
}
