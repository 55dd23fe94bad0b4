// Package service builds pgserve and runs it as child processes, as in a deployment.
//
//	program, err := service.Build(ctx, folder)
//	s, err := service.Start(ctx, program, service.Options{Args: []string{"-bucket", "gs://b/p", "-endpoint", url}})
//	conn, err := pgx.Connect(ctx, s.URL())
//	s.Kill()                                   // SIGKILL
//	exit, err := s.Stop(ctx)                   // SIGTERM, and how it ended
//
// A child is killed when the context of Start ends, or when the runner does, however that ends. The last part of its log, one JSON line per
// entry, is kept in memory.
package service

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"blobpglite/runner/node"
)

// maxLog is how much of a child's log is kept.
const maxLog = 256 << 10

// ErrRoot: the program refuses to run as root, and this system cannot run it as another user.
var ErrRoot = errors.New("this is root, as whom it refuses to run: run as an ordinary user")

// Build compiles pgserve into a folder. It needs the go tool and the repository.
func Build(ctx context.Context, folder string) (string, error) {
	program := filepath.Join(folder, "pgserve")
	out, err := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", program, "blobpglite/cloud/pgserve").CombinedOutput() // no debug info
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w: %s", err, out)
	}
	return program, nil
}

// FreePort returns a port of the loopback interface that is free now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Options of Start.
type Options struct {
	Args []string // flags, in addition to the addresses
	// Port of the PostgreSQL listener, for a child that replaces another one; 0: a free one.
	Port int
	Env  []string // in addition to this process's
	// OneCPU keeps it on one processor.
	OneCPU bool
}

// Service is a running pgserve.
type Service struct {
	Port, HTTPPort int
	cmd            *exec.Cmd
	ended          chan struct{}
	err            error // of the process, when it has ended

	mu  sync.Mutex
	log []byte
}

// portTries is how often to retry a start whose free port was taken by the time pgserve listens.
const portTries = 3

// Start runs pgserve and returns when it listens.
func Start(ctx context.Context, program string, o Options) (s *Service, err error) {
	for range portTries {
		if s, err = start(ctx, program, o); err == nil || !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			break
		}
	}
	return s, err
}

func start(ctx context.Context, program string, o Options) (*Service, error) {
	s := &Service{Port: o.Port, ended: make(chan struct{})}
	var err error
	if s.Port == 0 {
		if s.Port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	if s.HTTPPort, err = FreePort(); err != nil {
		return nil, err
	}
	args := append([]string{"-listen", fmt.Sprintf("127.0.0.1:%d", s.Port), "-http", fmt.Sprintf("127.0.0.1:%d", s.HTTPPort)}, o.Args...)
	s.cmd = exec.CommandContext(ctx, program, args...)
	s.cmd.Env = append(environment(), o.Env...)
	node.DieWithParent(s.cmd)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start pgserve: %w", err)
	}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start pgserve: %w", err)
	}
	begin := s.cmd.Start
	if o.OneCPU {
		begin = func() error { return OnOneCPU(s.cmd.Start) }
	}
	if err := begin(); err != nil {
		return nil, fmt.Errorf("start pgserve: %w", err)
	}
	ready := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { s.keep(log) })
	reading.Go(func() { watch(out, ready) })
	go func() {
		reading.Wait()
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	select {
	case <-ready:
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("pgserve has ended at once: %w: %s", errors.Join(s.err, ctx.Err()), s.Log())
	}
}

// environment is this process's, without what would change the child's behaviour.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PGSERVE_") && !strings.HasPrefix(e, "PORT=") {
			env = append(env, e)
		}
	}
	return env
}

// watch reads the child's output: the last listener that it opens is HTTP's.
func watch(out io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(out)
	open := false
	for lines.Scan() {
		if !open && strings.HasPrefix(lines.Text(), "http ") {
			open = true
			close(ready)
		}
	}
}

// keep keeps the last part of the log.
func (s *Service) keep(log io.Reader) {
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		s.mu.Lock()
		s.log = append(s.log, line...)
		if len(s.log) > 2*maxLog {
			s.log = bytes.Clone(s.log[len(s.log)-maxLog:])
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Log returns the last part of the child's log.
func (s *Service) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.log)
}

// URL is the URL for PostgreSQL's clients, as the superuser.
func (s *Service) URL() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
}

// HTTP is the address of the HTTP service.
func (s *Service) HTTP() string { return fmt.Sprintf("http://127.0.0.1:%d", s.HTTPPort) }

// PID is the process's.
func (s *Service) PID() int { return s.cmd.Process.Pid }

// Kill ends the process like a crash, and waits until it has ended.
func (s *Service) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// Signal sends a signal.
func (s *Service) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// Stop sends SIGTERM and waits for the end of the process. The exit code is -1 if it was killed.
func (s *Service) Stop(ctx context.Context) (code int, err error) {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("stop pgserve: %w", err)
	}
	select {
	case <-s.ended:
		return s.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		s.Kill()
		return s.cmd.ProcessState.ExitCode(), fmt.Errorf("stop pgserve: %w", ctx.Err())
	}
}

// Ended is closed when the process has gone.
func (s *Service) Ended() <-chan struct{} { return s.ended }
