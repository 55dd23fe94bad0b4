package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"blobpglite/core/pglite"
	"blobpglite/faults/procfault"
)

// Options of a node.
type Options struct {
	// Progress is called during long operations. Nil: not called.
	Progress func(step string, done, total int64)
	// Event is called for fault rules that are about to strike, in the goroutine that reads from the child. Nil: not called.
	Event func(Event)
	// Runtime is for a local node; nil: it loads its own.
	Runtime *pglite.Runtime
}

// Process is a node in a child process. It is safe for concurrent use.
type Process struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	options  Options
	children procfault.Children
	ended    chan struct{} // closed when the child has ended and was waited for
	exit     Exit

	writing sync.Mutex

	mu       sync.Mutex
	requests int64
	waiting  map[int64]chan message
}

// Spawn starts a child process, which is killed when ctx ends.
func Spawn(ctx context.Context, o Options) (*Process, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Event == nil {
		o.Event = func(Event) {}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	DieWithParent(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	p := &Process{cmd: cmd, in: in, options: o, ended: make(chan struct{}), waiting: map[int64]chan message{}}
	p.children.Add(cmd.Process)
	go p.read(out)
	return p, nil
}

// read takes the child's lines until it ends. A truncated last line means that the child was killed while writing it.
func (p *Process) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	var broken error
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			broken = fmt.Errorf("read a node's answer: %w", err)
			continue
		}
		switch {
		case m.Progress != nil:
			p.options.Progress(m.Progress.Step, m.Progress.Done, m.Progress.Total)
		case m.Event != nil:
			p.options.Event(*m.Event)
		default:
			p.answer(m)
		}
	}
	if lines.Err() != nil {
		broken = lines.Err()
		_ = p.cmd.Process.Kill() // it would block on the pipe, which is no longer read
	}
	err := p.cmd.Wait()
	p.children.Remove(p.cmd.Process.Pid)
	p.exit = exitOf(p.cmd.ProcessState, errors.Join(err, broken))
	close(p.ended)
}

func (p *Process) answer(m message) {
	p.mu.Lock()
	waiter := p.waiting[m.ID]
	delete(p.waiting, m.ID)
	p.mu.Unlock()
	if waiter != nil {
		waiter <- m
	}
}

// EndedError is the error of a request that was not answered because the process ended. Whether it took place is not known.
type EndedError struct {
	Op   Op
	Exit Exit
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("ask a node to %s: its process ended (%s) and gave no answer", e.Op, e.Exit)
}

// Do does an operation in the child and waits for its result. Errors: *Error, *EndedError, the context's: in that case the operation
// continues in the child.
func (p *Process) Do(ctx context.Context, op Op, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("ask a node to %s: %w", op, err)
	}
	answer := make(chan message, 1)
	p.mu.Lock()
	p.requests++
	id := p.requests
	p.waiting[id] = answer
	p.mu.Unlock()
	line, err := json.Marshal(message{ID: id, Op: op, Args: raw})
	if err != nil {
		return fmt.Errorf("ask a node to %s: %w", op, err)
	}
	p.writing.Lock()
	_, err = p.in.Write(append(line, '\n'))
	p.writing.Unlock()
	if err != nil {
		<-p.ended // the pipe breaks when the other end has gone
	}
	select {
	case m := <-answer:
		return m.into(op, result)
	case <-p.ended:
		select {
		case m := <-answer: // the last thing it said
			return m.into(op, result)
		default:
			return &EndedError{Op: op, Exit: p.exit}
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m message) into(op Op, result any) error {
	switch {
	case m.Error != nil:
		return m.Error
	case result == nil || m.Result == nil:
		return nil
	}
	if err := json.Unmarshal(m.Result, result); err != nil {
		return fmt.Errorf("read a node's answer to %s: %w", op, err)
	}
	return nil
}

// Signal stops, continues, kills or terminates the child. Errors: procfault.ErrNotOurs: it has ended.
func (p *Process) Signal(a procfault.Action) error { return p.children.Do(p.cmd.Process.Pid, a) }

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Wait waits for the end of the child.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.ended:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for the end of process %d: %w", p.cmd.Process.Pid, ctx.Err())
	}
}

// Ended is closed when the child has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill sends SIGKILL, which also ends a stopped process, and waits for the end.
func (p *Process) Kill() {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Fresh reports that this is a process of its own.
func (p *Process) Fresh() bool { return true }

// Reason says why a process ended.
type Reason string

// The reasons.
const (
	ExitClean      Reason = "clean"       // its input ended
	ExitTerminated Reason = "terminated"  // SIGTERM: everything is durable, the lease released
	ExitKilled     Reason = "killed"      // SIGKILL
	ExitFenced     Reason = "fenced"      // another writer has the database
	ExitUnknown    Reason = "unknown"     // the outcome of a commit was not known
	ExitPoisoned   Reason = "poisoned"    // the engine served nothing more for another reason
	ExitNotFlushed Reason = "not-flushed" // SIGTERM, and something could not be made durable
	ExitCrashed    Reason = "crashed"     // anything else: a fault of the program
)

// codes are the exit codes of a child. They begin where neither Go nor a shell has any.
func codes() map[Reason]int {
	return map[Reason]int{ExitClean: 0, ExitTerminated: 40, ExitFenced: 41, ExitUnknown: 42, ExitPoisoned: 43, ExitNotFlushed: 44}
}

// Exit is how a process ended.
type Exit struct {
	Reason Reason
	Code   int // -1: by a signal
	Err    error
}

func (e Exit) String() string {
	if e.Reason == ExitCrashed {
		return fmt.Sprintf("crashed, code %d: %v", e.Code, e.Err)
	}
	return string(e.Reason)
}

func exitOf(s *os.ProcessState, err error) Exit {
	e := Exit{Reason: ExitCrashed, Code: s.ExitCode(), Err: err}
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() && w.Signal() == syscall.SIGKILL {
		e.Reason = ExitKilled
	}
	for reason, code := range codes() {
		if code == e.Code {
			e.Reason = reason
		}
	}
	return e
}
