package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Child is another program's server, which runs until its command's context ends.
type Child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	last  string // the last lines of its output, once it has ended
	err   error  // of the process, once ended is closed
}

// Serve starts a command whose context is ctx, and returns when it has printed a line that contains text. It reads standard output and
// error to their end.
func Serve(ctx context.Context, cmd *exec.Cmd, text string) (*Child, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c, ready := &Child{cmd: cmd, ended: make(chan struct{})}, make(chan struct{})
	go func() {
		c.last = follow(out, text, ready)
		c.err = cmd.Wait()
		close(c.ended)
	}()
	select {
	case <-ready:
		return c, nil
	case <-c.ended:
		return nil, errors.Join(fmt.Errorf("it has ended, and its last words were: %s", c.last), c.err, ctx.Err())
	}
}

// follow reads to the end, closes ready at the first line that holds the text, and returns the last lines.
func follow(out io.Reader, text string, ready chan<- struct{}) string {
	const kept = 10
	var last []string
	open := false
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if line != "" {
			last = append(last[max(0, len(last)-kept+1):], line)
		}
		if !open && strings.Contains(line, text) {
			open = true
			close(ready)
		}
		if err != nil {
			return strings.TrimSpace(strings.Join(last, ""))
		}
	}
}

// Signal sends a signal.
func (c *Child) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }

// Wait returns when the process has ended, and everything that it started and that holds its output open.
func (c *Child) Wait() { <-c.ended }
