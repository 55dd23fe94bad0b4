// Package wal is the commit log: numbered records in the bucket, each created once, each referring to the one before it.
//
//	log, err := wal.NewLog(st, tail, wal.Options{Epoch: 7, DatabaseID: id, Writer: "host-3"})
//	at, err := log.Append(ctx, ops)                       // nil: durable. Otherwise see Append
//	tail, err = wal.Read(ctx, st, wal.ReadOptions{From: start, DatabaseID: id}, func(r wal.Record) error { … })
//
// A commit is one create-if-absent of the next name: one round trip, with a new name each time, so no rate limit per name applies, and at
// each name at most one write ever succeeds. A fence is a record of a higher epoch without operations. It stops the writer of a lower epoch
// for good, because it has exactly that writer's next name.
//
// The object wal/<seq, 20 digits>, with little-endian integers:
//
//	 0  4  "BPWR"
//	 4  1  format, 1
//	 5  1  kind: 1 data, 2 fence
//	 6  1  flags: 1 the body is compressed (zstd), 2 the body is in parts
//	 7  1  0
//	 8  8  seq
//	16  8  epoch
//	24  8  the writer's time, nanoseconds since 1970; for people
//	32 32  SHA-256 of the whole previous record; for the first record, of the database's id
//	64  1+ length and text of the database's id
//	    1+ length and text of the writer's name
//	    1+ length and text of the write id
//	    4  length of the body, uncompressed
//	    4  length of the body, as stored
//	       body
//	-4  4  CRC32C of everything before
//
// The body is a sequence of operations, lengths and offsets as varints:
//
//	kind 1 byte | path: length, text | offset | data: length, bytes
//
// A record above MaxRecordBytes has its body in the objects part/<epoch>-<write id>/<n, 6 digits>, uploaded before the record that names
// them. In place of the body it has: count u32, then for each part the length u32 and the SHA-256.
//
// It survives a lost reply and a repeated request (the write id tells whose record is there), a writer that was taken over and wakes up
// again, and a damaged, missing, swapped or foreign record (Read names it and fails; nothing is skipped). It does not survive the deletion
// of a record at or above the manifest's wal_start.
package wal
