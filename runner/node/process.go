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
	"os/signal"
	"runtime/debug"
	"sync"

	"blobpglite/core/pglite"
)

// Options of a node.
type Options struct {
	// Progress hears about long operations. Nil: nobody.
	Progress func(step string, done, total int64)
	// Runtime is used by a local node; nil: one of its own.
	Runtime *pglite.Runtime
}

// childVariable marks a process as a child.
const childVariable = "BLOBPGLITE_NODE"

// IsChild says whether this process was started by Spawn. Then main has to call Child and nothing else.
func IsChild() bool { return os.Getenv(childVariable) != "" }

// gcPercent keeps a child's heap close to what lives in it: a database's chunks hold no pointers, so collecting is
// cheap, and memory is what an instance pays for.
const gcPercent = 20

// Child serves the runner over standard input and output until the input ends.
func Child() int {
	signal.Ignore(os.Interrupt) // a terminal sends it to all of its processes; the runner decides
	debug.SetGCPercent(gcPercent)
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	send := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(m)
	}
	s := newSession(Options{Progress: func(name string, done, total int64) {
		send(message{Progress: &step{name, done, total}})
	}})
	requests := make(chan message)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		in.Buffer(nil, maxLine)
		for in.Scan() {
			var m message
			if err := json.Unmarshal(in.Bytes(), &m); err != nil {
				fmt.Fprintf(os.Stderr, "node: read a request: %v\n", err)
				os.Exit(2)
			}
			requests <- m
		}
		os.Exit(0) // the runner has gone, whatever is being done here
	}()
	for m := range requests {
		result, err := s.do(context.Background(), m.Op, m.Args)
		answer := message{ID: m.ID, Error: asError(err)}
		if err == nil && result != nil {
			if answer.Result, err = json.Marshal(result); err != nil {
				answer.Error = asError(err)
			}
		}
		send(answer)
	}
	return 0
}

// process is a node in a child process.
type process struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	options  Options
	answers  chan message
	ended    chan struct{} // closed when the child has ended and was waited for
	waitErr  error
	requests int64
	killOnce sync.Once
}

// Spawn starts a child process. It is killed when ctx ends.
func Spawn(ctx context.Context, o Options) (Node, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
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
	p := &process{cmd: cmd, in: in, options: o, answers: make(chan message, 1), ended: make(chan struct{})}
	go p.read(out)
	return p, nil
}

// read takes the child's lines until it ends.
func (p *process) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			m = message{ID: -1, Error: &Error{Text: fmt.Sprintf("read a node's answer: %v", err)}}
		}
		if m.Progress != nil {
			p.options.Progress(m.Progress.Step, m.Progress.Done, m.Progress.Total)
			continue
		}
		p.answers <- m
	}
	p.waitErr = p.cmd.Wait()
	close(p.ended)
}

func (p *process) Do(ctx context.Context, op Op, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("ask a node to %s: %w", op, err)
	}
	p.requests++
	line, err := json.Marshal(message{ID: p.requests, Op: op, Args: raw})
	if err != nil {
		return fmt.Errorf("ask a node to %s: %w", op, err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ask a node to %s: %w", op, err)
	}
	select {
	case m := <-p.answers:
		switch {
		case m.Error != nil:
			return m.Error
		case m.ID != p.requests:
			return fmt.Errorf("ask a node to %s: it answered request %d instead of %d", op, m.ID, p.requests)
		case result == nil || m.Result == nil:
			return nil
		}
		if err := json.Unmarshal(m.Result, result); err != nil {
			return fmt.Errorf("read a node's answer to %s: %w", op, err)
		}
		return nil
	case <-p.ended:
		return fmt.Errorf("ask a node to %s: its process ended: %w", op, errors.Join(p.waitErr, errEnded))
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errEnded = errors.New("no answer was given")

// Kill sends SIGKILL and waits for the end.
func (p *process) Kill() {
	p.killOnce.Do(func() {
		_ = p.in.Close()
		_ = p.cmd.Process.Kill()
		for {
			select {
			case <-p.answers:
			case <-p.ended:
				return
			}
		}
	})
}

func (p *process) Fresh() bool { return true }

// local is a node in this process.
type local struct{ s *session }

// Local makes a node in this process: for a store that is in memory here.
func Local(o Options) Node { return &local{newSession(o)} }

func (l *local) Do(ctx context.Context, op Op, args, result any) error {
	var got any
	var err error
	if a, ok := args.(OpenArgs); ok && op == Open { // its store cannot go through JSON
		got, err = l.s.open(ctx, a)
	} else {
		var raw []byte
		if raw, err = json.Marshal(args); err != nil {
			return fmt.Errorf("ask a node to %s: %w", op, err)
		}
		got, err = l.s.do(ctx, op, raw)
	}
	if err != nil {
		return asError(err)
	}
	if result == nil || got == nil {
		return nil
	}
	raw, err := json.Marshal(got)
	if err != nil {
		return fmt.Errorf("read a node's answer to %s: %w", op, err)
	}
	return json.Unmarshal(raw, result)
}

func (l *local) Kill() {
	if l.s.engine != nil {
		l.s.engine.Abandon()
		l.s.engine = nil
	}
}

func (l *local) Fresh() bool { return false }
