// Package interleave runs the programs of two clients of one server in every order, up to a bound, and compares the answers with those of
// PostgreSQL itself: if one client's state reaches the other, there is a difference.
//
//	plan := interleave.Plan{Seed: 1, Core: 3, All: 2, Samples: 5000, Longest: 8}
//	want, err := interleave.Run(ctx, native, plan.Schedules(), interleave.Options{})   // transcripts, of PostgreSQL
//	got, err := interleave.Run(ctx, ours, plan.Schedules(), interleave.Options{})
//	for _, d := range interleave.Compare(want, got) { ... }
//
// # Schedules
//
// A schedule is text: "A:begin A:set B:show A:rollback". An action is what a client sends in one go (Actions lists them), at the level of
// wire messages; both clients use the same names for everything, and texts of their own that contain their letter. Every schedule has new
// connections and a new table and sequence. At its end each client is queried for all its state (settings, statements, cursors, channels,
// temporary tables, locks, roles, sequences), and the server for what the clients have left. So a program need not look for a leak itself.
//
// Two schedules count as one if they differ only in the clients' letters, or in the order of neighbours that do not affect each other even
// in a server that mixes up its clients: the table of actions says what each of them reads and writes, as if all of it were shared.
//
// # Waiting
//
// Nothing sleeps and nothing is polled. The server itself reports a lock wait, on the client's own connection: the connections set
// log_lock_waits, and client_min_messages to log, so "process A still waiting for ..." arrives after deadlock_timeout, when the deadlock
// check is over. That notice is the answer to the action until the lock is granted; after each action, a third connection queries who is
// still waiting. A waiting client holds back its further actions, as a program would, except vanishing and canceling. A missing answer
// within Limit without such a wait is a difference by itself.
//
// # Answers
//
// An answer is the messages up to ReadyForQuery, in words, complete except for what differs from run to run: process numbers become the
// client's letter, object and transaction numbers and times become _; cancel keys, the files and lines of PostgreSQL's source, and the
// server's minor version are left out. Notifications come before the answer they arrived with, because their order is not defined;
// parameters that are reported together are ordered by name. A parameter that is reported again with the same value is only counted:
// PGlite's PostgreSQL does not remember what it has reported, which the protocol allows.
//
// # Recorded answers
//
// testdata/postgresql18.zst holds the transcripts of a native PostgreSQL 18 for a plan: only the output of a run of this package against
// it. When actions are added or changed, remake it with
//
//	go run ./runner -scenario clients -probe clients.4 -set source=FOLDER -set server=native -set record=runner/interleave/testdata/postgresql18.zst
//
// where FOLDER is PostgreSQL's source, unpacked; it runs two native servers, which must not differ (they did not in 14,531 schedules,
// despite a machine's other load). A test compares the file's schedules with the plan's.
package interleave
