package main

// bug is one entry of the track record: a fault that this project or a system of
// its kind really had, and what fails here if it comes back.
type bug struct {
	// what went wrong, in the past tense.
	what string
	// where it was seen.
	where string
	// holds is what must be so instead.
	holds string
	// folder and test name the test that reproduces it; or probe names a probe.
	folder, test, probe string
}

// bugs is the track record. A test checks that every test named exists.
func bugs() []bug {
	return []bug{
		{
			what:  "A snapshot took recycled WAL segments along and was larger than the database",
			where: "the TypeScript original", holds: "a layer is never larger than the data that it holds", probe: "e2.1",
		},
		{
			what:  "A restore kept several copies of the database in memory and ran out",
			where: "the TypeScript original", holds: "the peak of a restore is the database and a bounded buffer",
			folder: "core/base", test: "TestRestoreFitsInMemory", probe: "e2.1",
		},
		{
			what:  "A crash between an object and its index made every retry fail",
			where: "the TypeScript original", holds: "a name that exists with the same content is ours, and the write goes on",
			folder: "core/base", test: "TestPointsAreFiredAndObeyed",
		},
		{
			what:  "A conditional write went through, its reply was lost, and the retry's 412 was taken for a rival's win",
			where: "Litestream's leaser, Apache Hudi #14373, two Google Cloud clients", holds: "the write id is read back before anyone gives up",
			folder: "core/manifest", test: "TestUpdateResolvesLostReplies",
		},
		{
			what:  "Losers of a race on one new name were told 429, not 412",
			where: "delta-rs #2451, lance #2272", holds: "429 on a conditional write means: look",
			folder: "core/manifest", test: "TestUpdateResolvesLostReplies",
		},
		{
			what:  "A restore completed on damaged files and lost data without a word",
			where: "WAL-G #63", holds: "every frame carries its checksum, and damage is an error that names the frame",
			folder: "core/base", test: "TestDamageIsFound",
		},
		{
			what:  "The store ignored or bent the precondition of a write",
			where: "the S3 endpoint of Cloud Storage (ClickHouse #115266), fake-gcs-server", holds: "the front mends each known lie; a test tells when a newer emulator does",
			folder: "faults/gcsfront", test: "TestEmulatorLies",
		},
		{
			what:  "During a revision switch the new instance failed at once: the lease was held",
			where: "the TypeScript original", holds: "an opening waits for the lease, politely, up to its limit",
			folder: "core/lease", test: "TestWaitsUntilItRunsOut",
		},
		{
			what:  "A takeover touched only the lease, so the old writer won one last commit",
			where: "the TypeScript original", holds: "the fence goes into the log before anything is restored",
			folder: "core/takeover", test: "TestLives",
		},
		{
			what:  "The manifest was read, then the lease awaited: the predecessor's flush in between was invisible",
			where: "the TypeScript original", holds: "what is appended between reading and fence is restored",
			folder: "core/takeover", test: "TestLastCommitIsSeen",
		},
		{
			what:  "WAL growth was looked for in file sizes, but segments are preallocated",
			where: "the TypeScript original", holds: "byte ranges, from the file layer",
			folder: "core/engine", test: "TestSegmentsAreStraddled",
		},
		{
			what:  "Idempotent start-up DDL with no WAL growth made full snapshots",
			where: "the TypeScript original", holds: "nothing new in the log: nothing is uploaded",
			folder: "core/engine", test: "TestReadsAskNothingOfTheBucket",
		},
		{
			what:  "Restored WAL files ended in mid-page and the last commit was lost",
			where: "the TypeScript original", holds: "restored segments have their full size",
			folder: "core/engine", test: "TestLogRoundTrip",
		},
		{
			what:  "Two writers ran under one fencing token, read before the wait",
			where: "the TypeScript original", holds: "the epoch comes from the log at the moment of fencing",
			folder: "core/takeover", test: "TestRivalOpeners",
		},
		{
			what:  "GC deleted the name that a stalled writer was about to create; its create succeeded and was lost",
			where: "SlateDB #352, #1622", holds: "fences are never deleted, and the manifest is read again after a fence",
			folder: "core/takeover", test: "TestFenceInADeadZone",
		},
		{
			what:  "The lock was deleted on release, so its generation started again",
			where: "Litestream", holds: "a release is a swap",
			folder: "core/lease", test: "TestReleaseIsASwapAndFreesAtOnce",
		},
		{
			what:  "An opener fenced behind a record that was collected and whose name a dead fence had taken: the log looked broken for ever",
			where: "this project", holds: "a fence may be the first record behind the layer whatever it names",
			folder: "core/wal", test: "TestReadAcceptsAFenceBehindACollectedRecord",
		},
	}
}

// trackRecord renders the bugs.
func trackRecord() string {
	var rows [][]string
	for _, b := range bugs() {
		reproduced := ""
		if b.test != "" {
			reproduced = "`" + b.folder + "` " + b.test
		}
		if b.probe != "" {
			if reproduced != "" {
				reproduced += ", "
			}
			reproduced += "probe " + b.probe
		}
		rows = append(rows, []string{b.what, b.where, b.holds, reproduced})
	}
	return table([]string{"fault", "seen in", "what holds here", "reproduced by"}, rows)
}
