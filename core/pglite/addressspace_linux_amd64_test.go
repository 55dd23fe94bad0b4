package pglite

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// limitedVariable makes a child process of these tests limit its address space.
const limitedVariable = "BLOBPGLITE_TEST_LIMITED"

// ownProcess runs the test in a process of its own and reports its outcome.
func ownProcess(t *testing.T) (child bool) {
	t.Helper()
	if os.Getenv(limitedVariable) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), limitedVariable+"=1")
	if said, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(said), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, said)
	}
	return false
}

// limitAddressSpace sets what ulimit -v sets; zero: no limit.
func limitAddressSpace(t *testing.T, bytes uint64) {
	t.Helper()
	var now unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_AS, &now)
	if now.Cur = bytes; bytes == 0 {
		now.Cur = now.Max
	}
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_AS, &now)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// addressSpaceUsed returns how much is mapped and reserved.
func addressSpaceUsed(t *testing.T) (bytes uint64) {
	t.Helper()
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "VmSize: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	t.Fatal("/proc/self/status has no VmSize")
	return 0
}

// TestTooLittleAddressSpace: under a limit that leaves no room for clients, not even with bounds checks, nothing is loaded, and the error
// says what to do.
func TestTooLittleAddressSpace(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	limitAddressSpace(t, leastAddressSpace-1)
	_, err := NewRuntime(t.Context(), Options{})
	if want := `there is too little address space: it is limited to 12884901887 bytes (ulimit -v), and PostgreSQL with two clients needs 12884901888, ` +
		`2147483648 for each process: start it under "ulimit -v unlimited"`; !errors.Is(err, ErrAddressSpace) || err.Error() != want {
		t.Errorf("%v, want\n%s", err, want)
	}
	limitAddressSpace(t, leastAddressSpace)
	if err := enoughAddressSpace(); err != nil {
		t.Error(err)
	}
}

// TestLeastAddressSpace: with the smallest accepted limit, PostgreSQL starts and has room for two clients.
func TestLeastAddressSpace(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	limitAddressSpace(t, leastAddressSpace)
	if err := testRuntime(t).Checked(); err == nil {
		t.Error("it runs without bounds checks")
	}
	c := startCluster(t, ClusterOptions{})
	for range 2 {
		if got := value(t, dial(t, c), "SELECT 6 * 7"); got != "42" {
			t.Errorf("a client got %s", got)
		}
	}
}

// TestAddressSpaceRunsOut: a client for whose process there is no room is told why, and what to do; others are not affected, and once there
// is room, the client gets in.
func TestAddressSpaceRunsOut(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	c := startCluster(t, ClusterOptions{})
	conn := dial(t, c)
	limit := addressSpaceUsed(t) + 4<<30
	limitAddressSpace(t, limit)
	for range 3 {
		_, err := c.Connect(t.Context(), ConnectOptions{Trusted: true})
		if want := fmt.Sprintf("start a process (client backend): there is too little address space: a process of PostgreSQL reserves 10737549312 bytes: cannot allocate memory; "+
			"all have %d bytes (ulimit -v): start it under \"ulimit -v unlimited\", or allow fewer clients", limit); !errors.Is(err, ErrAddressSpace) || err.Error() != want {
			t.Fatalf("%v, want\n%s", err, want)
		}
		if got := value(t, conn, "SELECT 6 * 7"); got != "42" {
			t.Errorf("who was connected got %s", got)
		}
	}
	limitAddressSpace(t, 0)
	if got := value(t, dial(t, c), "SELECT 6 * 7"); got != "42" {
		t.Errorf("with room again a client got %s", got)
	}
}
