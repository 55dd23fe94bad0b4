// Package interleave runs the programs of two clients of one server in every order, to a bound, and compares what each is
// told with what PostgreSQL itself tells: state of one client that reaches another is a difference.
//
//	plan := interleave.Plan{Seed: 1, Core: 3, All: 2, Samples: 5000, Longest: 8}
//	want := interleave.Run(ctx, native, plan.Schedules(), each)   // transcripts, of PostgreSQL
//	got := interleave.Run(ctx, ours, plan.Schedules(), each)
//	for _, d := range interleave.Compare(want, got) { ... }
//
// # Schedules
//
// A schedule is text: "A:begin A:set B:show A:rollback". Actions are what a client sends at once (Actions lists them), at
// the level of wire messages; both clients use the same names for everything, and texts of their own that hold their
// letter. Every schedule has fresh connections and a fresh table and sequence; at its end each client is asked for all it
// has (settings, statements, cursors, channels, temporary tables, locks, roles, sequences), and the server for what the
// clients have left. So a program need not look for a leak itself.
//
// Two schedules are taken for one if they differ only in the clients' letters, or in the order of neighbours that have
// nothing to do with each other even in a server that mixes up its clients: the table of actions says what each of them
// reads and writes, as if all of it were shared.
//
// # Waiting
//
// Nothing sleeps and nothing is polled. A lock wait is told by the server itself, on the client's own connection: the
// connections ask for log_lock_waits with messages of level log, so "process A still waiting for ..." comes after
// deadlock_timeout, when the deadlock check is over. That notice is the answer to the action, until the lock is there; a
// third connection is asked, after each action, who waits still. A client that waits keeps its further actions back, as a
// program would, but for vanishing and cancelling. No answer within Limit without such a wait is a difference by itself.
//
// # Answers
//
// An answer is the messages up to ReadyForQuery, in words, whole but for what cannot be the same twice: process numbers
// become the client's letter, object and transaction numbers and times become _, cancel keys and the files and lines of
// PostgreSQL's source are left out, and so is the server's minor version. Notifications are named in front of the answer
// that they came with, for their order to it is not promised; parameters that are told one after the other are in the order
// of their names. A parameter that is told again with the same value is counted only: PGlite's PostgreSQL does not keep in
// mind what it has told, and the protocol lets it.
//
// # Recorded answers
//
// testdata/postgresql18.zst holds the transcripts of a native PostgreSQL 18 for a plan: what a run of this package against
// it printed, nothing else. It is made anew, when actions are added or changed, by
//
//	go run ./runner -scenario clients -probe clients.4 -set source=FOLDER -set server=native -set record=runner/interleave/testdata/postgresql18.zst
//
// where FOLDER is PostgreSQL's source, unpacked; it runs two native servers, which must not differ (they did not in 14,531
// schedules, beside a machine's other load). A test compares the file's schedules with the plan's.
package interleave
