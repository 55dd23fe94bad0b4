// Package explore walks the interleavings of the bucket protocol, on its real code (core/takeover, wal, lease,
// manifest, gc) over a bucket in memory, and judges the bucket after every step.
//
//	report, err := explore.Explore(ctx, explore.Options{Schedules: 50000, Seed: 1})
//	for _, v := range report.Violations {
//		fmt.Println(v)                                          // a step a line
//		again, err := explore.Replay(v.Plan, v.Schedule)        // the same violation
//	}
//
// A plan says which processes there are and what each does: open, append, compact, collect, read, read a page late, release,
// verify, restore an earlier state. A process has one thread, and another one while it compacts or reads during its appends. A
// thread is a coroutine that runs real code until that code calls the store; there it waits until the walk lets it go on. So
// exactly one thread runs at a time, and a run is its schedule: the list of choices, each a thread and what happens to its call.
//
//	do        it is done                      slow    it is done, and takes longer than leases and deadlines last
//	lost      it is done, the reply is lost   refuse  429, or no answer to a read; nothing is done
//	delay     no reply; the write is on its way, and lands as a choice of its own, or is dropped at the end
//	crash     the process dies before the call; its next life begins, if the plan gives one
//	die       it is done, and the process dies before it gets the reply
//
// Each process has its own clock, which moves only when the process sleeps, rests or is slow. A sleep is no choice of its own: a
// thread that has slept waits at its next call for as long as the walk likes. That allows more than real clocks would (they may
// differ by anything, and run at any speed), which is what the protocol promises to survive.
//
// Every id is counted, nothing is read from the machine's clock, and what is random in a walk comes from its seed: a
// schedule replays exactly.
//
// # What is judged
//
// The judge sees every write that the bucket accepts and what each process acknowledges, restores and reports. It reads
// records, manifests, leases and layers by itself and keeps the log as it was first written. After each step a restore from
// the bucket, computed by the judge, must give exactly that log. At the end of each schedule a new process really opens,
// restores, appends and verifies. The invariants are those of the protocol; see Invariant.
//
// # The walks
//
// The exhaustive walk goes depth first through all schedules with at most so many faults, re-executing the prefix. It
// leaves out schedules that differ from another one only in the order of independent steps, by sleep sets (Godefroid).
// Two steps are independent if they belong to different processes and
//
//   - neither is a fault: faults share a budget, so that one may make another impossible;
//   - they do not write both, unless one writes the lease and the other does not: the judge looks at manifest, layers and
//     records together, so the order of any two writes of them is visible to it, but reads are not;
//   - if one writes, the other reads another key, and no list that the key is in.
//
// Swapping neighbours of that kind gives both the same results and leaves the same bucket, and neither can enable or
// disable the other. It also shows the judge the same: what it holds against the bucket changes with writes only,
// whose order is kept, and what it holds against a process (what was restored, acknowledged, refused) is compared with
// records at names that no longer change by then. (A strict read is the exception: what was acknowledged before it
// began depends on an order that is not kept, so only the random walk judges those in full.) Sleep sets alone leave
// out ways, not places: every state that can come about is still reached and judged, some of them in runs that are
// given up half way, as all that could follow was run already; those are not counted as schedules. The bound counts
// faults, which swapping does not change; a bound on preemptions would not have that property, so there is none.
//
// Beyond it goes the random walk: priorities with a few change points (PCT), which stall a thread for long, in turn
// with plain random choices that like to switch before writes. Faults come within the plan's budget.
//
// What it does not cover: records in parts, requests in parallel of one process, and what the engine does around the
// protocol.
package explore
