// Package isolation runs the specifications of PostgreSQL's isolation tests: it runs the steps of several sessions in given orders, or in
// every order, and writes what each step printed, or that it waits for a lock. The output is byte for byte that of PostgreSQL's own
// program, isolationtester, so its recorded outputs show whether a server behaves.
//
//	spec, err := isolation.Parse(text)
//	err = spec.Run(ctx, isolation.Options{Config: config, Clock: clock.System()}, out)
//
// A specification:
//
//	setup { CREATE TABLE t (n int); }        any number, each sent as one query by the control connection
//	teardown { DROP TABLE t; }
//	session s1                               a connection of its own
//	setup { BEGIN; }
//	step insert { INSERT INTO t VALUES (1); }
//	step end { COMMIT; }
//	session "s 2"
//	step read { SELECT * FROM t; }
//	permutation insert read(*) end           without any: every interleaving of the sessions' steps
//
// In a permutation, parentheses after a step's name say what its completion waits for: * (it counts as waiting when it was sent), another
// step's name, or another step's name with "notices" and how many of them. Whether a step waits for another session's lock is queried with
// pg_isolation_test_session_is_blocked, every 10 ms over the control connection.
//
// There are two differences. A waiting session gets another 10 ms for its notices: on a busy machine the answer that it waits, which
// arrives over another connection, may be faster. And the line of the statement with a caret below it, which libpq adds to the text of a
// notice, or of an error of setup or teardown, that has a position, is left out; none of PostgreSQL's recorded outputs has one.
package isolation

import "errors"

// ErrSpec is the error for a text that is not a specification; its message is isolationtester's.
var ErrSpec = errors.New("not a specification")

// ErrEnded is the error of a run that could not continue. The output says why, as isolationtester's does.
var ErrEnded = errors.New("the test could not go on")
