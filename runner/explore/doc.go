// Package explore walks the interleavings of the bucket protocol, on its real code (core/takeover, wal, lease, manifest, gc) over a bucket
// in memory, and judges the bucket after every step.
//
//	report, err := explore.Explore(ctx, explore.Options{Schedules: 50000, Seed: 1})
//	for _, v := range report.Violations {
//		fmt.Println(v)                                          // one step per line
//		again, err := explore.Replay(v.Plan, v.Schedule)        // the same violation
//	}
//
// A plan says which processes there are and what each does: open, append, compact, collect, read, read a page late, release, verify,
// restore an earlier state. A process has one thread, and another one while it compacts or reads during its appends. A thread is a
// coroutine that runs real code until that code calls the store; there it waits until the walk lets it continue. So exactly one thread runs
// at a time, and a run is its schedule: the list of choices, each a thread and what happens to its call.
//
//	do        it is done                      slow    it is done, and takes longer than leases and deadlines last
//	lost      it is done, the reply is lost   refuse  429, or no answer to a read; nothing is done
//	delay     no reply; the write is on its way, and lands as a choice of its own, or is dropped at the end
//	crash     the process dies before the call; its next life begins, if the plan gives one
//	die       it is done, and the process dies before it gets the reply
//
// Each process has its own clock, which moves only when the process sleeps, rests or is slow. A sleep is not a choice of its own: a thread
// that has slept waits at its next call for as long as the walk likes. That allows more than real clocks would (they may differ by
// anything, and run at any speed), which is what the protocol promises to survive.
//
// Every id is counted, nothing is read from the machine's clock, and the randomness of a walk comes from its seed: a schedule replays
// exactly.
//
// # What is judged
//
// The judge sees every write that the bucket accepts and what each process acknowledges, restores and reports. It reads records, manifests,
// leases and layers by itself and keeps the log as it was first written. After each step, a restore from the bucket, computed by the judge,
// must yield exactly that log. At the end of each schedule a new process really opens, restores, appends and verifies. The invariants are
// those of the protocol; see Invariant.
//
// # The walks
//
// The exhaustive walk goes depth first through all schedules with a bounded number of faults, re-executing the prefix. It skips schedules
// that differ from another one only in the order of independent steps, using sleep sets (Godefroid). Two steps are independent if they
// belong to different processes and
//
//   - neither is a fault: faults share a budget, so one may make another impossible;
//   - they do not both write, unless one writes the lease and the other does not: the judge looks at manifest, layers and records together,
//     so it sees the order of any two writes of them, but not of reads;
//   - if one writes, the other reads another key, and no list that contains the key.
//
// Swapping such neighbours gives both the same results and leaves the same bucket, and neither can enable or disable the other. It also
// shows the judge the same: what it holds against the bucket changes only with writes, whose order is kept, and what it holds against a
// process (what was restored, acknowledged, refused) is compared with records at names that no longer change by then. (A strict read is the
// exception: what was acknowledged before it began depends on an order that is not kept, so only the random walk judges those in full.)
// Sleep sets alone leave out paths, not states: every reachable state is still reached and judged, some of them in runs that are given up
// halfway because everything that could follow was already run; those are not counted as schedules. The bound counts faults, which swapping
// does not change; a bound on preemptions would not have that property, so there is none.
//
// Beyond it goes the random walk: priorities with a few change points (PCT), which stall a thread for long, alternate with plain random
// choices that prefer to switch before writes. Faults stay within the plan's budget.
//
// It does not cover records in parts, parallel requests of one process, and what the engine does around the protocol.
package explore
