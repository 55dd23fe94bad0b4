// Package procfault does to child processes what machines and platforms do to them: stop, continue, kill, terminate.
//
//	var children procfault.Children
//	children.Add(cmd.Process)
//	err := children.Do(pid, procfault.Stop)     // frozen, as by a suspended machine
//	err = children.Do(pid, procfault.Continue)
//	children.Remove(pid)                        // once it has been waited for
//
// Only added processes can be reached: any other process id, such as one that the system has reused since, is rejected.
package procfault

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// ErrNotOurs: the process was not added, or has ended. Nothing was done.
var ErrNotOurs = errors.New("not a running child of ours")

// Action is a signal.
type Action string

// The actions.
const (
	Stop      Action = "stop"      // SIGSTOP: cannot be caught
	Continue  Action = "continue"  // SIGCONT
	Kill      Action = "kill"      // SIGKILL: no deferred function runs
	Terminate Action = "terminate" // SIGTERM: please end
)

func (a Action) signal() (syscall.Signal, error) {
	switch a {
	case Stop:
		return syscall.SIGSTOP, nil
	case Continue:
		return syscall.SIGCONT, nil
	case Kill:
		return syscall.SIGKILL, nil
	case Terminate:
		return syscall.SIGTERM, nil
	}
	return 0, fmt.Errorf("action %q: want one of stop, continue, kill, terminate", a)
}

// Children is a set of processes that may be signalled. The zero value is empty; it is safe for concurrent use.
type Children struct {
	mu    sync.Mutex
	procs map[int]*os.Process
	done  map[Action]int64
}

// Add makes a process reachable. It must be a child of this process that has not been waited for yet.
func (c *Children) Add(p *os.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.procs == nil {
		c.procs, c.done = map[int]*os.Process{}, map[Action]int64{}
	}
	c.procs[p.Pid] = p
}

// Remove must be called when a process has been waited for.
func (c *Children) Remove(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.procs, pid)
}

// Do sends a signal. Errors: ErrNotOurs, the system's.
func (c *Children) Do(pid int, a Action) error {
	s, err := a.signal()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.procs[pid]
	if !ok {
		return fmt.Errorf("%s process %d: %w", a, pid, ErrNotOurs)
	}
	if err := p.Signal(s); errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s process %d: %w: it has ended", a, pid, ErrNotOurs)
	} else if err != nil {
		return fmt.Errorf("%s process %d: %w", a, pid, err)
	}
	c.done[a]++
	return nil
}

// Fired is how often an action was done.
func (c *Children) Fired(a Action) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[a]
}
