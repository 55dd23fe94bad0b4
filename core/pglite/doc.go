// Package pglite runs PostgreSQL inside the process: PGlite's WebAssembly build of it, hosted by wazero, without cgo and
// without a file on disk.
//
//	rt, err := pglite.NewRuntime(ctx, pglite.Options{})                 // compiled code, from the cache
//	data, err := rt.Template(ctx, memfs.Options{})                      // a fresh data directory
//	in, err := rt.Start(ctx, pglite.InstanceOptions{Data: data})        // one PostgreSQL, one session
//	err = in.Exec(ctx, wireMessages, client)                            // or Serve(ctx, conn), or Query(ctx, sql)
//	err = in.Close(ctx)
//	err = rt.Dump(ctx, pglite.DumpOptions{Conn: conn, Out: file})       // pg_dump, a client of any PostgreSQL 18
//
// What is made of what:
//
//	npm package ──► internal/assets ──► pglite.wasm, initdb.wasm, pglite.data, extensions   (user's cache, hash-checked)
//	pglite.wasm ──► internal/wasmbin ──► rewritten module ──► wazero ──► Runtime            (compiled once a machine)
//	initdb      ──► template data directory ──► started once ──► Image ──► new databases in milliseconds
//
// One goroutine owns an instance at a time; Cancel and Kill may be called from any. The guest runs in the caller's
// goroutine and blocks it, also while it waits for the client in the middle of COPY.
//
// The guest's system calls go to the host: files to a memfs tree (its hooks are where durability begins: PostgreSQL
// syncs its log once a commit, before the answer leaves), time and randomness to what the options give.
//
// Survives: SQL errors, cancelled statements, running out of memory (53200) or of stack (54001), a client that goes
// away in the middle of a message. Does not survive: a trap of the guest, exit by a FATAL error; the instance is then
// dead (ErrDead) and another one has to be started from the files. One trap is within reach of any client: JSON text nested
// half a million deep overflows the compiled code's stack, which PostgreSQL's own check of its depth does not see.
//
// Not there, because the guest has one thread and no timers: background writer, checkpointer, autovacuum (say CHECKPOINT,
// VACUUM and ANALYZE yourself), parallel query, statement_timeout (see InstanceOptions.StatementTimeout), replication,
// encodings other than UTF8. The user in the start-up packet is not checked: the session is the superuser's.
package pglite
