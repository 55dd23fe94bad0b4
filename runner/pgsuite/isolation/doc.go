// Package isolation runs the specifications of PostgreSQL's isolation tests: several sessions whose steps are run in given
// orders, or in every order, and what each step printed, or that it waits for a lock. What is written is byte for byte what
// PostgreSQL's own program, isolationtester, writes, so that its recorded outputs say whether a server behaves.
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
// Behind a step's name in a permutation, in parentheses, is what its completion waits for: * (it counts as waiting when it
// was sent), another step's name, or another step's name with "notices" and how many of them. Whether a step waits for a
// lock that another session has, pg_isolation_test_session_is_blocked is asked every 10 ms over the control connection.
//
// Two things are otherwise. A session that waits is given another 10 ms for its notices: on a busy machine the answer that it
// waits, which comes over another connection, may be faster. And the line of the statement with a caret below it is left out,
// which libpq adds to the text of a notice, or of an error of setup or teardown, that has a position; no recorded output of
// PostgreSQL's holds one.
package isolation

import "errors"

// ErrSpec is the error of a text that is no specification; it says what isolationtester says.
var ErrSpec = errors.New("not a specification")

// ErrEnded is the error of a run that could not go on. What was written says why, as isolationtester does.
var ErrEnded = errors.New("the test could not go on")
