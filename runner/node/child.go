package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"blobpglite/core/engine"
	"blobpglite/faults/pointfault"
)

// childVariable marks a process as a child.
const childVariable = "BLOBPGLITE_NODE"

// IsChild says whether this process was started by Spawn. If so, main must call Child, and do nothing else.
func IsChild() bool { return os.Getenv(childVariable) != "" }

// gcPercent keeps a child's heap close to what lives in it: a database's chunks hold no pointers, so collecting is cheap, and memory is
// what an instance pays for.
const gcPercent = 20

// drainTime is how long a child that is about to end waits for answers under way.
const drainTime = 2 * time.Second

// child is the process that serves a runner.
type child struct {
	s       *session
	mu      sync.Mutex // of the output
	out     *json.Encoder
	working sync.WaitGroup // requests being done
	ending  sync.Once
	ctx     context.Context // ends with SIGTERM: a waiting opening gives up
	cancel  context.CancelFunc
}

// Child serves the runner over standard input and output until the input ends, SIGTERM arrives, or an engine opened with ExitWhenPoisoned
// is poisoned. It returns the exit code.
func Child() int {
	signal.Ignore(os.Interrupt) // a terminal sends it to all of its processes; the runner decides
	debug.SetGCPercent(gcPercent)
	c := &child{out: json.NewEncoder(os.Stdout)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	defer c.cancel()
	c.s = newSession(Options{Progress: func(name string, done, total int64) {
		c.send(message{Progress: &step{name, done, total}})
	}})
	// The encoder writes straight to the pipe: what was sent stays readable when this process is gone.
	c.s.report = func(e pointfault.Event) { c.send(message{Event: &Event{e}}) }
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		c.terminate()
	}()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		var m message
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			fmt.Fprintf(os.Stderr, "node: read a request: %v\n", err)
			return 2
		}
		c.working.Add(1)
		go c.serve(m)
	}
	return codes()[ExitClean] // the runner has gone, whatever is being done here
}

func (c *child) send(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(m)
}

// serve does one request and answers it.
func (c *child) serve(m message) {
	ctx := context.Background()
	if m.Op == Open {
		ctx = c.ctx
	}
	result, err := c.s.do(ctx, m.Op, m.Args)
	answer := message{ID: m.ID, Error: asError(err)}
	if err == nil && result != nil {
		if answer.Result, err = json.Marshal(result); err != nil {
			answer.Error = asError(err)
		}
	}
	c.send(answer)
	c.working.Done()
	if reason, poisoned := c.s.poisoned(); poisoned {
		c.end(reason)
	}
}

// end ends the process when the answers under way have been given.
func (c *child) end(r Reason) {
	c.ending.Do(func() {
		c.drain()
		os.Exit(codes()[r])
	})
}

func (c *child) drain() {
	done := make(chan struct{})
	go func() {
		c.working.Wait()
		close(done)
	}()
	t := c.s.system.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C():
	}
}

// terminate handles SIGTERM: everything becomes durable, the lease is released, the process ends.
func (c *child) terminate() {
	c.ending.Do(func() {
		c.cancel()
		reason := ExitTerminated
		if e := c.s.current(); e != nil {
			if err := e.Close(context.Background()); err != nil {
				fmt.Fprintf(os.Stderr, "node: SIGTERM: %v\n", err)
				reason = ExitNotFlushed
			}
			if why := e.Err(); why != nil {
				reason = reasonOf(why)
			}
		}
		c.drain()
		os.Exit(codes()[reason])
	})
}

// reasonOf is why a poisoned engine's process ends.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, engine.ErrUnknown):
		return ExitUnknown
	case errors.Is(err, engine.ErrFenced):
		return ExitFenced
	}
	return ExitPoisoned
}
