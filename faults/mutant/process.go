package mutant

// processMutants break the host of PostgreSQL's processes.
func processMutants() []Mutant {
	const (
		tests       = "./core/pglite -run "
		waitFile    = "core/pglite/wait.go"
		clusterFile = "core/pglite/cluster.go"
		processFile = "core/pglite/process.go"
		connFile    = "core/pglite/conn.go"
		forkFile    = "core/pglite/fork.go"
		turnFile    = "core/pglite/turn.go"
		signalsFile = "core/pglite/signals.go"
	)
	return []Mutant{
		{
			Name: "handed-over-at-the-first-beat", Invariant: host, File: waitFile, Plan: tests + "TestFirstBeatIsNoReason",
			Doc: "a small statement interrupted by a beat goes to another goroutine, which costs more than the statement",
			Old: "\tif long {\n\t\tp.handOver()\n",
			New: "\tif p.beats > 0 {\n\t\tp.handOver()\n",
		},
		{
			Name: "others-run-at-the-first-beat", Invariant: host, File: waitFile, Plan: tests + "TestFirstBeatIsNoReason",
			Doc: "a small statement interrupted by a beat gives the lock away in the middle, if another process waits",
			Old: "\tif !long || p.c.lock.waiting.Load() == 0 {\n",
			New: "\tif p.c.lock.waiting.Load() == 0 {\n",
		},
		{
			Name: "a-beat-of-the-run-before", Invariant: host, File: "core/pglite/lock.go", Plan: tests + "TestFirstBeatIsNoReason",
			Doc: "beats are counted across all statements of a client",
			Old: "\t\tp.beats = 0\n",
			New: "",
		},
		{
			Name: "switch-under-a-lock", Invariant: host, File: waitFile, Plan: tests + "TestSwitchesHoldNoLock",
			Doc: "a process lets others run while it holds a lock that they could not wait for",
			Old: "\tif !p.safe() || p.reporting {\n\t\treturn\n\t}\n\tif p.hold != nil &&",
			New: "\tif p.hold != nil &&",
		},
		{
			Name: "two-processes-under-one-pid", Invariant: host, File: clusterFile, Plan: tests + "TestTimeLimitsAndCancel",
			Doc: "process numbers are reused while they are in use",
			Old: "	p.slot, p.pid = slot, c.nextPID\n	c.nextPID++\n",
			New: "	p.slot, p.pid = slot, c.nextPID\n	c.nextPID ^= 1\n",
		},
		{
			Name: "the-others-live-on", Invariant: host, File: clusterFile, Plan: tests + "TestOneDiesAllEnd",
			Doc: "when one process has failed, the others continue with the shared memory it left",
			Old: "	for _, p := range c.Processes() {\n		p.kill()\n	}\n	go func() {",
			New: "	go func() {",
		},
		{
			Name: "failure-taken-for-an-end", Invariant: host, File: processFile, Plan: tests + "TestDeathOfProcesses",
			Doc: "a process that failed is taken for one that has ended",
			Old: "	if err != nil {\n		c.crash(",
			New: "	if err != nil && code > 1 {\n		c.crash(",
		},
		{
			Name: "every-answer-is-the-blocks", Invariant: host, File: connFile, Plan: tests + "TestMarks",
			Doc: "what a process answers within a transaction block is taken for an answer about that block alone",
			Old: "	return current == last || beginsBlock(c.output)",
			New: "\treturn current != 0 || current == last || beginsBlock(c.output)",
		},
		{
			Name: "undone-with-its-client", Invariant: host, File: connFile, Plan: tests + "TestVanishedWhileItWaits",
			Doc: "when a client has gone, its request is given up at the first word sent to it",
			Old: "	case gone && c.lost+len(b) > maxLost:",
			New: "	case gone && c.lost+len(b) > 0:",
		},
		{
			Name: "old-configuration", Invariant: host, File: signalsFile, Plan: tests + "TestRolesAndDatabases",
			Doc: "at SIGHUP the image that processes start from stays as it is",
			Old: "		if err := c.reload(); err != nil {",
			New: "		if err := error(nil); err != nil {",
		},
		{
			Name: "wake-lost-while-lent", Invariant: host, File: turnFile, Plan: tests + "TestWokenWhileItRunsDirectly",
			Doc: "a wake-up is forgotten if it arrives while the client's goroutine runs the process",
			Old: "\t\t\tt.again = true\n",
			New: "",
		},
		{
			Name: "wake-lost-beside-a-hand-over", Invariant: host, File: turnFile, Plan: tests + "TestWakeBesideAHandOver",
			Doc: "a wake-up that arrives during a hand-over is taken for the hand-over",
			Old: "\t\t\twoken, t.again = woken || t.again, false\n",
			New: "\t\t\twoken, t.again = t.again, false\n",
		},
		{
			Name: "rest-without-its-limit", Invariant: host, File: turnFile, Plan: tests + "TestRestIsTimed",
			Doc: "a process that comes to rest on its client's goroutine is not woken when its time is up",
			Old: "	tell := t.state != turnRests || t.left >= 0 || before >= 0\n",
			New: "	tell := t.state != turnRests || before >= 0\n",
		},
		{
			Name: "handed-over-in-silence", Invariant: host, File: turnFile, Plan: tests + "TestHandedOverIsHeard",
			Doc: "what a process has answered before it was handed over is announced only with its next answer",
			Old: "	if p.conn != nil {\n		signalOne(p.conn.heard) // what it has answered so far\n	}\n	p.c.stats.handedOver",
			New: "	p.c.stats.handedOver",
		},
		{
			Name: "held-behind-its-end", Invariant: host, File: waitFile, Plan: tests + "TestHold",
			Doc: "a process whose transaction has failed is held like one that writes",
			Old: "	if p.hold != nil && !p.inTransaction() {\n",
			New: "	if p.hold != nil && p.conn == nil {\n",
		},
		{
			Name: "held-only-once", Invariant: host, File: waitFile, Plan: tests + "TestHoldIsReplaced",
			Doc: "a process that is held again while it is held continues when the first hold is over",
			Old: "	if over && p.hold == hold {\n",
			New: "	if over {\n",
		},
		{
			Name: "no-self-test", Invariant: host, File: forkFile, Plan: tests + "TestSelfTest",
			Doc: "processes are made with whatever table of places there is",
			Old: "	if err := c.rt.selfTest(in, base, size); err != nil {",
			New: "	if err := c.rt.selfTest(in, base, size); errors.Is(err, errKilled) {",
		},
		{
			Name: "no-pins", Invariant: host, File: forkFile, Plan: tests + "TestPinnedSettings",
			Doc: "settings on which durability rests can be changed",
			Old: "	in.pinSettings()\n	in.definePosition()\n",
			New: "	in.definePosition()\n",
		},
		{
			Name: "no-beat", Invariant: host, File: "core/pglite/lock.go", Plan: tests + "TestStatementsLetGoWork",
			Doc: "nothing makes a statement that computes return to the host, and the garbage collector stands still with everything else",
			Old: "\t\tl.aim(p.interruptWord)\n",
			New: "\t\tl.aim(nil)\n",
		},
		{
			Name: "control-file-of-the-template", Invariant: host, File: "core/pglite/prepare.go", Plan: tests + "TestPreparedStart",
			Doc: "a prepared start continues with the template's control file",
			Old: "	copy(img.region[p.at:], control[:pgdata.ControlSize])\n",
			New: "\tcopy(img.region[p.at:], append(p.control[:pgdata.ControlSize:pgdata.ControlSize], control...)[:pgdata.ControlSize])\n",
		},
	}
}
