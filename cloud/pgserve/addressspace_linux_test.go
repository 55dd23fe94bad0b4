package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// startLimited starts pgserve under ulimit -v.
func startLimited(t *testing.T, gib int) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startBy(t, "sh", "-c", fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, gib<<20), self, "-store", "mem")
}

// TestLimitedAddressSpace: under a limit that leaves room, pgserve serves with code that checks bounds, and says so; under one that does
// not, it ends with exit code 1 and says what to do.
func TestLimitedAddressSpace(t *testing.T) {
	t.Parallel()
	t.Run("enough", func(t *testing.T) {
		c := startLimited(t, 24)
		if got := c.query(t, "SELECT 6 * 7"); got != "42" {
			t.Errorf("a client got %s", got)
		}
		if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		<-c.done
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if want := "address space is limited to 25769803776 bytes (ulimit -v)"; !strings.Contains(c.log.String(), want) {
			t.Errorf("its log does not have %q:\n%s", want, c.log)
		}
	})
	t.Run("too little", func(t *testing.T) {
		c := startLimited(t, 4)
		<-c.done
		if code := c.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		want := "pgserve: there is too little address space: it is limited to 4294967296 bytes (ulimit -v), and PostgreSQL with two clients needs 12884901888, " +
			"2147483648 for each process: start it under \"ulimit -v unlimited\"\n"
		if !strings.HasSuffix(c.log.String(), want) {
			t.Errorf("it says\n%s\nwant\n%s", c.log, want)
		}
	})
}
