// Package isolation runs the specifications of PostgreSQL's isolation tests: the steps of several sessions are run in given
// orders, or in every order, and it writes what each step printed, or that it waits for a lock. The output is byte for byte that
// of PostgreSQL's own program, isolationtester, so that its recorded outputs show whether a server behaves.
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
//	permutation insert read(*) end           none at all: every interleaving of the sessions' steps
//
// In a permutation, parentheses after a step's name say what its completion waits for: * (it counts as waiting when it was sent),
// another step's name, or another step's name with "notices" and how many of them. Whether a step waits for a lock of another
// session is asked by pg_isolation_test_session_is_blocked, every 10 ms over the control connection.
//
// Two things differ. A session that waits gets another 10 ms for its notices: on a busy machine the answer that it waits, which
// comes over another connection, may be faster. And the line of the statement with a caret below it, which libpq adds to the text
// of a notice, or of an error of setup or teardown, that has a position, is left out; no recorded output of PostgreSQL's has one.
package isolation

import "errors"

// ErrSpec is the error of a text that is no specification; its message is isolationtester's.
var ErrSpec = errors.New("not a specification")

// ErrEnded is the error of a run that could not go on. The output says why, as isolationtester's does.
var ErrEnded = errors.New("the test could not go on")
