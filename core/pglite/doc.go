// Package pglite runs PostgreSQL inside this process: PGlite's WebAssembly build, hosted by wazero, without cgo, with the data
// directory in memory.
//
//	rt, err := pglite.NewRuntime(ctx, pglite.Options{})                   // compiled code, from the cache
//	data, err := rt.Template(ctx, memfs.Options{})                        // a fresh data directory
//	c, err := rt.StartCluster(ctx, pglite.ClusterOptions{Data: data})     // PostgreSQL, recovered
//	conn, err := c.Connect(ctx, pglite.ConnectOptions{Remote: addr})      // a process for one client: protocol bytes in, answers out
//	err = c.Shutdown(ctx)                                                 // or Kill, as a crash
//	err = rt.Dump(ctx, pglite.DumpOptions{Conn: socket, Out: file})       // pg_dump, a client of any PostgreSQL 18
//
// What is made from what:
//
//	npm package ──► internal/assets ──► pglite.wasm, initdb.wasm, pglite.data, extensions   (user's cache, hash-checked)
//	pglite.wasm ──► internal/wasmbin ──► patched, rewritten module ──► wazero ──► internal/postlink ──► compiled code   (once a machine)
//	            ──► its outline, without code ──► internal/codecache, with that code ──► Runtime   (each process)
//	pglite.data, extensions ──► internal/image ──► the installation, read file by file
//	initdb                  ──► internal/image ──► template data directory, likewise ──► new databases
//
// # Processes
//
// PGlite's binary still holds all of PostgreSQL: its backends, checkpointer, walwriter, startup process, autovacuum. What it lacks is a
// kernel and a postmaster. A Cluster is both:
//
//	PostgreSQL's main ──► shared memory is made ──► InitProcess: a postmaster would fork here ──► the image, and the end of main
//	image (copy-on-write) + shared memory (one file, mapped by all) + a number ──► a process: an instance on a goroutine of its own
//
// The host delivers signals, timers and wake-ups, waits in poll, starts autovacuum's workers when PostgreSQL asks for them, rereads the
// configuration at SIGHUP, and ends all processes when one of them fails, as a postmaster does. internal/layout knows the functions and
// variables needed for this, and finds them in a binary without symbol names.
//
// One process runs at a time, under one lock ("the lock" in this package). A process gives it up where it waits (for its client, a row, a
// latch, a sleep). If others have waited and it has run for some milliseconds, it also gives it up where PostgreSQL can be interrupted, but
// never while it holds a lightweight lock, because a process that waits for one polls every millisecond. Hooks of the files are called
// under the lock, so they must not wait for anything slow. A process that needs bytes of a file that are away (see package memfs, and
// ClusterOptions.Source) gives the lock up wherever it is, as if it waited for a disk.
//
// Compiled WebAssembly cannot be stopped from outside: Go's garbage collector would wait for a long computation, and all other goroutines
// for the collector. So on Linux on amd64, a thread that Go's scheduler does not know of makes a long-running process call the host. On
// other systems a goroutine does that; while the collector waits, it waits too, until the statement calls the host or ends.
//
// The guest's system calls go to the host: files to a memfs tree (its hooks are where durability begins: PostgreSQL syncs its log once per
// commit, before the answer leaves), time and randomness to the sources in the options.
//
// A cluster survives SQL errors, canceled statements, running out of memory (53200) or of stack (54001), clients that go away in the
// middle of a message, and many more clients than there are processors. A trap of the guest, a PANIC or a killed process ends the cluster
// (Done, Err): start another one on the same files, which are as after a crash. Any client can cause one kind of trap: JSON text nested
// half a million levels deep overflows the compiled code's stack, which PostgreSQL's own depth check does not see.
//
// A cluster may be a hot standby instead (ClusterOptions.Standby): recovery continues in its process, fed by the host through the files of
// pg_wal, and clients are read-only (standby.go). Two custom settings, blobpglite.position and blobpglite.wait_for, show and await places
// in the log (position.go).
//
// Not supported: parallel query and other background workers, the replication protocol, the background writer, TLS (which the listener
// does), encodings other than UTF8.
package pglite
