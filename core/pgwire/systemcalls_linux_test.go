package pgwire

import (
	"bufio"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pricedVariable makes a process of these tests a server whose system calls are counted.
const pricedVariable = "BLOBPGLITE_TEST_PRICED"

// kernelCost is what the kernel has counted for a process: calls that read and write, including those that found nothing; and how often one
// of its threads went to sleep, in a poll or on a futex.
type kernelCost struct{ reads, writes, sleeps int64 }

func kernelCostOf(t *testing.T, pid int) (c kernelCost) {
	t.Helper()
	number := func(file, name string) (n int64) {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			return 0 // a thread that has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				if _, err := fmt.Sscan(value, &n); err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
		t.Fatalf("%s has no %s", file, name)
		return 0
	}
	c.reads, c.writes = number(fmt.Sprintf("/proc/%d/io", pid), "syscr"), number(fmt.Sprintf("/proc/%d/io", pid), "syscw")
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("%d has %d threads, %v", pid, len(threads), err)
	}
	for _, file := range threads {
		c.sleeps += number(file, "voluntary_ctxt_switches")
	}
	return c
}

// startPriced is openPriced in a process of its own.
func startPriced(t *testing.T) (addr string, pid int) {
	t.Helper()
	cmd := osexec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), pricedVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	t.Cleanup(func() {
		_ = in.Close()
		said, _ := io.ReadAll(lines)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, said)
		}
	})
	if addr, err = lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr), cmd.Process.Pid
}

// TestSystemCalls: for a statement, the process reads at most twice, the first time in vain, and writes once. A read-only statement wakes
// no other thread: a thread sleeps until the client sends the next one. A commit wakes the goroutines that append its record and that
// answer, now and then by a write.
func TestSystemCalls(t *testing.T) {
	if os.Getenv(pricedVariable) != "" {
		fmt.Println(openPriced(t).addr)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	addr, pid := startPriced(t)
	conn, _ := (&testServer{t: t, addr: addr}).raw()
	client := prepare(t, conn)
	for _, c := range priceCases(t) {
		const tries, n = 5, 1000
		ok := false
		for try := 0; try < tries && !ok; try++ {
			client.calls(c.requests, n/4)
			before := kernelCostOf(t, pid)
			client.calls(c.requests, n)
			after := kernelCostOf(t, pid)
			each := func(v int64) float64 { return float64(v) / float64(n*len(c.requests)) }
			reads, writes, sleeps := each(after.reads-before.reads), each(after.writes-before.writes), each(after.sleeps-before.sleeps)
			t.Logf("%s, %d: %.3f reads, %.3f writes, %.2f sleeps", c.name, try, reads, writes, sleeps)
			ok = reads <= 2.2 && writes <= 1.2 && sleeps <= c.sleeps
		}
		if !ok {
			t.Errorf("%s takes more than 2 reads, 1 write or %.1f sleeps", c.name, c.sleeps)
		}
	}
}
