package main

// bug is an entry of the track record: a fault that this project or a similar system
// really had, and what fails here if it comes back.
type bug struct {
	// what went wrong, in the past tense.
	what string
	// where it was seen; ours: in this project.
	where string
	// by says what found it.
	by string
	// holds is what must hold instead.
	holds string
	// folder and test name the test that reproduces it, or probe names a probe.
	folder, test, probe string
}

// bugs returns the track record. A test checks that every named test exists.
func bugs() []bug {
	return []bug{
		{
			what:  "A snapshot included recycled WAL segments and was larger than the database",
			where: "the TypeScript original", by: "its live experiments", holds: "a layer is never larger than the data it holds", probe: "e2.1",
		},
		{
			what:  "A restore kept several copies of the database in memory and ran out",
			where: "the TypeScript original", by: "its live experiments", holds: "the peak of a restore is the database and a bounded buffer",
			folder: "core/base", test: "TestRestoreFitsInMemory", probe: "e2.1",
		},
		{
			what:  "A crash between an object and its index made every retry fail",
			where: "the TypeScript original", by: "its live experiments", holds: "a name that exists with the same content is ours, and the write continues",
			folder: "core/base", test: "TestPointsAreFiredAndObeyed",
		},
		{
			what:  "A conditional write went through, its reply was lost, and the retry's 412 was taken for a rival's win",
			where: "Litestream's leaser, Apache Hudi #14373, two Google Cloud clients", by: "user reports", holds: "the write id is read back before anyone gives up",
			folder: "core/manifest", test: "TestUpdateResolvesLostReplies",
		},
		{
			what:  "Losers of a race on one new name were told 429, not 412",
			where: "delta-rs #2451, lance #2272", by: "user reports", holds: "after a 429, the outcome of a conditional write is looked up",
			folder: "core/manifest", test: "TestUpdateResolvesLostReplies",
		},
		{
			what:  "A restore completed on damaged files and lost data silently",
			where: "WAL-G #63", by: "a user report", holds: "every frame carries its checksum, and damage is an error that names the frame",
			folder: "core/base", test: "TestDamageIsFound",
		},
		{
			what:  "The store ignored or bent the precondition of a write",
			where: "the S3 endpoint of Cloud Storage (ClickHouse #115266), fake-gcs-server", by: "a ClickHouse user report; the emulator: e0.9", holds: "the front corrects each known deviation; a test reports when a newer emulator no longer has it",
			folder: "faults/gcsfront", test: "TestEmulatorLies",
		},
		{
			what:  "During a revision switch the new instance failed immediately: the lease was held",
			where: "the TypeScript original", by: "its live experiments", holds: "an opening waits for the lease, politely, up to its limit",
			folder: "core/lease", test: "TestWaitsUntilItRunsOut",
		},
		{
			what:  "A takeover touched only the lease, so the old writer got in one last commit",
			where: "the TypeScript original", by: "its live experiments", holds: "the fence goes into the log before anything is restored",
			folder: "core/takeover", test: "TestLives",
		},
		{
			what:  "The manifest was read, then the lease awaited: the predecessor's flush in between was invisible",
			where: "the TypeScript original", by: "its live experiments", holds: "what is appended between the reading and the fence is restored",
			folder: "core/takeover", test: "TestLastCommitIsSeen",
		},
		{
			what:  "WAL growth was measured by file sizes, but segments are preallocated",
			where: "the TypeScript original", by: "its live experiments", holds: "the file layer reports what grew, as byte ranges",
			folder: "core/engine", test: "TestSegmentsAreStraddled",
		},
		{
			what:  "Idempotent start-up DDL with no WAL growth made full snapshots",
			where: "the TypeScript original", by: "its live experiments", holds: "nothing new in the log: nothing is uploaded",
			folder: "core/engine", test: "TestReadsAskNothingOfTheBucket",
		},
		{
			what:  "Restored WAL files ended in mid-page and the last commit was lost",
			where: "the TypeScript original", by: "its live experiments", holds: "restored segments have their full size",
			folder: "core/engine", test: "TestLogRoundTrip",
		},
		{
			what:  "A write in sleep mode was lost in a revision switch: the successor fenced before the old instance's flush at SIGTERM",
			where: "the TypeScript original", by: "its live experiments", holds: "the successor waits for the lease, which is released after the flush; the bound of the loss is measured",
			folder: "core/takeover", test: "TestLastCommitIsSeen", probe: "e4.2",
		},
		{
			what:  "An instance that ended with an error code on purpose made the platform answer 429",
			where: "the TypeScript original", by: "its live experiments", holds: "a requested end exits with 0",
			folder: "cloud/pgserve", test: "TestLives", probe: "e4.2",
		},
		{
			what:  "The flush position that PostgreSQL reported was 24 bytes beyond the last replayable record",
			where: "the TypeScript original", by: "its live experiments", holds: "no positions are computed: what was written to the files is what is shipped",
			folder: "core/engine", test: "TestLogDeathAtEveryPoint", probe: "e2b.1",
		},
		{
			what:  "Two generations of a deployment were both primary for a moment",
			where: "LiteFS #370", by: "a user report", holds: "at most one writer at any moment of a revision switch, checked from the log",
			folder: "core/takeover", test: "TestRivalOpeners", probe: "e4.3",
		},
		{
			what:  "A data directory that two processes had opened was beyond repair",
			where: "PGlite #709", by: "a user report", holds: "the files are in a process's own memory, and the log decides who writes: the other process is refused",
			folder: "core/engine", test: "TestLogZombieIsFenced", probe: "e1z.1",
		},
		{
			what:  "Two writers ran under one fencing token, read before the wait",
			where: "the TypeScript original", by: "its live experiments", holds: "the epoch comes from the log at the moment of fencing",
			folder: "core/takeover", test: "TestRivalOpeners",
		},
		{
			what:  "GC deleted the name that a stalled writer was about to create; its create succeeded and was lost",
			where: "SlateDB #352, #1622", by: "user reports", holds: "fences are never deleted, and the manifest is read again after a fence",
			folder: "core/takeover", test: "TestFenceInADeadZone",
		},
		{
			what:  "The lock was deleted on release, so its generation started over",
			where: "Litestream", by: "reading its code", holds: "a release is a swap",
			folder: "core/lease", test: "TestReleaseIsASwapAndFreesAtOnce",
		},
		{
			what:  "A loser's upload overwrote the winner's object of the same number",
			where: "the TypeScript original", by: "its live experiments", holds: "every name is written once, by create-if-absent",
			probe: "e1.3",
		},
		{
			what:  "A booted cluster was behind the manifest's position; later writes were dropped, though acknowledged",
			where: "the TypeScript original", by: "its live experiments", holds: "ordered bytes and a chain of hashes; what cannot be placed is an error",
			folder: "core/wal", test: "TestReadNamesTheDamagedRecord", probe: "e1.7",
		},
		{
			what:  "An unknown outcome was treated as failed, and the committed file deleted in clean-up",
			where: "ClickHouse #112096", by: "a user report", holds: "nothing is cleaned up on unknown; the client gets 08007",
			folder: "core/pgwire", test: "TestUnknownOutcome", probe: "e1.7",
		},
		{
			what:  "Names of prepared statements of two pooled clients collided",
			where: "PGlite's socket server with sqlx, Diesel, pgx", by: "users of these drivers", holds: "each client has a process of its own",
			folder: "core/pgwire", test: "TestSessionsAreApart", probe: "clients.1",
		},
		{
			what:  "Listings were nearly all of the bill; idle instances made hundreds of calls an hour",
			where: "Litestream #234, #1171", by: "user reports", holds: "operations are counted; an idle database makes none",
			probe: "e2c.6",
		},
		{
			what:  "An append that met another writer's record was reported as never in the log, although it had been there and was collected",
			where: ours, by: "the explorer", holds: "after a lost reply such a conflict is an unknown outcome",
			folder: "core/wal", test: "TestFencedAfterATryWithoutAnAnswer",
		},
		{
			what:  "A strict read took a free name as proof that no writer had fenced, while an append of its own was under way",
			where: ours, by: "the explorer", holds: "it looks twice unless nothing is in flight",
			folder: "core/wal", test: "TestUnfencedBehindACollectedRecord",
		},
		{
			what:  "A zombie's collection reported a sound database as damaged",
			where: ours, by: "the explorer", holds: "what a newer writer has collected is not damage: fenced",
			folder: "core/gc", test: "TestOvertakenCollectionIsNoDamage",
		},
		{
			what:  "An opening that could not read the manifest again reported the log as damaged",
			where: ours, by: "the explorer", holds: "without an answer the error is the store's",
			folder: "core/takeover", test: "TestUnsureIsNoDamage",
		},
		{
			what:  "Two openers on a slow machine stopped each other: one fenced after its lease had gone to the other, which then gave up",
			where: ours, by: "e4b.5", holds: "no fence without an unexpired lease; the holder of the lease starts over",
			folder: "core/takeover", test: "TestSleeperDoesNotStopTheHolder", probe: "e4b.5",
		},
		{
			what:  "An opener fenced after a record that was collected and whose name a dead fence had taken: the log looked broken forever",
			where: ours, by: "a review of the code", holds: "a fence may be the first record after the layer, whatever it refers to",
			folder: "core/wal", test: "TestReadAcceptsAFenceBehindACollectedRecord",
		},
		{
			what:  "The first collection of each writer listed every fence ever created: one more page for every thousand cold starts",
			where: ours, by: "e5.4", holds: "a collection looks at the recent part of the log, and at all of it once in 64 epochs",
			probe: "e5.4",
		},
		{
			what:  "Requests abandoned when an instance ended were carried out and billed, but not counted",
			where: ours, by: "e5.2", holds: "a request is counted when it is sent; the store's count and the product's are exactly equal",
			probe: "e5.2",
		},
		{
			what:  "If each life of an instance was too short for a layer of its own, nothing was ever collected",
			where: ours, by: "the work on e5.2's bill", holds: "one orderly end in 16 collects; a layer is taken at the end if it costs less than reading the log once more",
			folder: "core/engine", test: "TestShortLivesAreCollected",
		},
		{
			what:  "An orderly end flushed before running statements had finished: in durability sleep their answers were sent, and their writes lost",
			where: ours, by: "e4b.4", holds: "answers sent while the engine ends wait in every durability mode, and the end checks again",
			folder: "core/engine", test: "TestAnswersWhileItEnds",
		},
		{
			what:  "The Cloud Run emulator did not kill an instance that had no process yet, so waiting for its end never returned",
			where: ours, by: "226 hours of e5.1", holds: "a signal for an instance without a process is delivered as soon as it has one",
			folder: "cloud/runemu/platform", test: "TestCrashBeforeItRuns",
		},
		{
			what:  "An instance told to go after its idle time renewed its lease to end its own sessions",
			where: ours, by: "e5.2", holds: "the end of a session needs no lease",
			probe: "e5.2",
		},
		{
			what:  "A database above 96 MB that was loaded and then slept waited for twenty catalog pages, one after the other, before each first row",
			where: ours, by: "e3.3", holds: "an opening requests the catalogs together with the boot set",
			folder: "core/engine", test: "TestFirstRowsOfWhatWasLoaded",
		},
		{
			what:  "The longer a replay had taken, the longer the next one was allowed to take: the layer that would have stopped this was never due",
			where: ours, by: "e3.3", holds: "when a layer is due depends on how long reading it takes, not on PostgreSQL's start",
			probe: "e3.3",
		},
		{
			what:  "An orderly end collected after an unanswered publication: the manifest's swap, applied late, named a layer that had been deleted by then",
			where: ours, by: "a review of the code", holds: "after an undecided swap nothing is collected until the next one is decided",
			folder: "core/engine", test: "TestCollectionBehindALateSwap",
		},
		{
			what:  "A replica of a database with a tablespace, which can only be a folder of the data directory, was ended by PostgreSQL at each start",
			where: ours, by: "a review of the code", holds: "recovery that follows the log accepts tablespaces that are folders",
			folder: "core/pglite", test: "TestStandbyTablespace",
		},
		{
			what:  "A promotion ended the replica before it had the lease: no reads were possible until it expired, and none at all while the bucket was silent",
			where: ours, by: "a review of the code", holds: "the writer is opened alongside the replica, which continues if that fails",
			folder: "cloud/pgserve", test: "TestFailedPromotion",
		},
		{
			what:  "After one base backup by a machine whose clock was years behind, the next one gave up all earlier states, whatever the retention",
			where: ours, by: "a review of the code", holds: "a time before an earlier base backup's is not believed",
			folder: "core/manifest", test: "TestPublishBehindAClockBehind",
		},
	}
}

// ours says that a fault was seen in this project.
const ours = "this project"

// trackRecord renders the bugs.
func trackRecord(s selection) string {
	var rows [][]string
	for _, b := range bugs() {
		commit, command := reproduced(s, b)
		rows = append(rows, []string{b.what, b.where, b.by, b.holds, commit, command})
	}
	return table([]string{"fault", "seen in", "found by", "what holds here", "last reproduced at", "command"}, rows)
}
