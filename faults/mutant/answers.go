package mutant

// answerMutants break the code that makes answers wait, and what an engine does when its PostgreSQL crashes.
func answerMutants() []Mutant {
	const (
		tests     = "./core/engine -run "
		markFile  = "core/engine/mark.go"
		server    = "core/engine/server.go"
		logFile   = "core/engine/groupcommit.go"
		flushFile = "core/engine/flusher.go"
		sizeFile  = "core/engine/checkpoints.go"
	)
	return []Mutant{
		{
			Name: "answer-before-durable", Invariant: durable, File: answersFile, Plan: tests + "TestAnswersWaitForWhatTheyTellOf",
			Doc: "the answer to a commit leaves before its place in the log is durable",
			Old: "\tif m.log.isDurable(number) {\n", New: "\tif m.log.isDurable(number) || at.wrote() {\n",
		},
		{
			Name: "reader-does-not-wait", Invariant: durable, File: markFile, Plan: tests + "TestAnswersWaitForWhatTheyTellOf",
			Doc: "an answer reports another session's commit that is not durable",
			Old: "s.completions, s.visible = n, written", New: "s.completions = n",
		},
		{
			Name: "blocks-wait", Invariant: promise, File: markFile, Plan: tests + "TestAnswersWaitForWhatTheyTellOf",
			Doc: "within a transaction, answers wait for the bucket",
			Old: "\t\t\tm |= early\n", New: "\t\t\tm |= 0\n",
		},
		{
			Name: "loads-hold-readers", Invariant: promise, File: markFile, Plan: tests + "TestLoadKeepsNoReaderWaiting",
			Doc: "a reader waits for what an open transaction has written",
			Old: "n != s.completions {", New: "n >= s.completions {",
		},
		{
			Name: "stopped-with-all", Invariant: promise, File: logFile, Plan: tests + "TestWhoWritesTooFastIsStopped",
			Doc: "a process that writes faster than the bucket takes waits while holding the lock of all processes",
			Old: "if w.bytes <= pendingBytes || !w.ships || w.failed != nil {", New: "if w.bytes >= 0 || !w.ships || w.failed != nil {",
		},
		{
			Name: "who-writes-is-stopped", Invariant: promise, File: modeFile, Plan: tests + "TestWhoWritesTooFastIsStopped",
			Doc: "while the log is crowded, the process that writes out PostgreSQL's buffers is taken for the one that filled them",
			Old: "if p.Logged()-m.logged[p] > excessBytes {", New: "if p == c.Current() || p.Logged()-m.logged[p] > excessBytes {",
		},
		{
			Name: "not-started-again", Invariant: promise, File: server, Plan: tests + "TestCrashOfPostgreSQL",
			Doc: "a PostgreSQL that has crashed is not restarted",
			Old: "\t\ts.live.Store(nil) // no process runs\n\t\tif s.life.Err() != nil {\n",
			New: "\t\ts.live.Store(nil) // no process runs\n\t\tif s.life.Err() == nil || s.life.Err() != nil {\n",
		},
		{
			Name: "crash-forgets", Invariant: durable, File: server, Plan: tests + "TestCrashThatIsTheEnd",
			Doc: "how far PostgreSQL recovered after a crash is not compared with what it had written",
			Old: "e.startCluster(s.life, data, e.commits.reached())", New: "e.startCluster(s.life, data, nil)",
		},
		{
			Name: "crash-tells", Invariant: durable, File: modeFile, Plan: tests + "TestCrashWithACommitOnItsWay",
			Doc: "what a crash has brought back is reported before it is durable",
			Old: "\t\tm.sight.visible = m.log.lastAdded()\n", New: "\t\tm.sight.visible = 0\n",
		},
		{
			Name: "no-flush-at-close", Invariant: durable, File: modeFile, Plan: tests + "TestAsynchronousCommits",
			Doc: "commits with synchronous_commit=off stay in PostgreSQL's buffers at an orderly end",
			Old: "\tif !m.changed() {\n\t\treturn nil\n\t}\n\treturn m.e.checkpoint(ctx)\n", New: "\treturn nil\n",
		},
		{
			Name: "forgets-who-left", Invariant: durable, File: modeFile, Plan: tests + "TestCleanEndKeepsWhatIsInBuffers",
			Doc: "an orderly end misses commits with synchronous_commit=off from sessions that have ended",
			Old: "\tm.toldCommit = max(m.toldCommit, p.Committed())\n", New: "",
		},
		{
			Name: "forgets-who-runs", Invariant: durable, File: modeFile, Plan: tests + "TestCleanEndKeepsWhatIsInBuffers",
			Doc: "an orderly end misses commits in the middle of a procedure",
			Old: "\t\t\tlast = max(last, p.Committed())\n", New: "\t\t\t_ = p\n",
		},
		{
			Name: "walwriter-unshipped", Invariant: durable, File: flushFile, Plan: tests + "TestAsynchronousCommits",
			Doc: "what PostgreSQL's walwriter has written is shipped only at the next commit",
			Old: "\t\tif unawaited {\n\t\t\tf.later(walWriterDelay)\n\t\t}\n", New: "",
		},
		{
			Name: "throttled-to-the-end", Invariant: promise, File: "core/engine/budget.go", Plan: tests + "TestCommitsWaitForALayer",
			Doc: "commits that wait for a layer are not woken when it is there, but only when everything after it is done, too",
			Old: "\tb.bytes.Add(-bytes)\n\tb.eased.tell()\n", New: "\tb.bytes.Add(-bytes)\n",
		},
		{
			Name: "old-log-stays", Invariant: host, File: sizeFile, Plan: tests + "TestOldLogLeavesMemory",
			Doc: "no checkpoint is requested: the whole log of a long transaction stays in memory",
			Old: "\t\tc.RequestCheckpoint()\n", New: "",
		},
		{
			Name: "two-signals-are-two", Invariant: promise, File: "cloud/pgserve/main.go", Plan: "./cloud/pgserve -run TestASignalSentTwice",
			Doc: "SIGTERM that comes twice at once, as from timeout(1), ends the server before what was acknowledged is durable",
			Old: "\t\tignoreRepeats(signals)\n", New: "",
		},
		{
			Name: "closed-before-the-end", Invariant: promise, File: "core/engine/engine.go", Plan: tests + "TestCloseWaitsForAnAbandon",
			Doc: "Close returns while another call still ends PostgreSQL",
			Old: "\t\treturn e.awaitEnd(ctx)\n", New: "\t\treturn nil\n",
		},
	}
}
