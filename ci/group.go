package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// stopGrace is how long a group of processes may take to end after an interrupt.
const stopGrace = 10 * time.Second

// politeness is the niceness of steps that only compute.
const politeness = 10

// runGroup runs cmd as the head of a process group of its own, so that `go run` and
// `go test` end together with the programs that they started. The terminal's
// interrupt reaches only this process, which passes it on.
func (c *checker) runGroup(ctx context.Context, cmd *exec.Cmd) error {
	defer c.count(cmd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A grandchild that keeps the pipes open must not block Wait.
	cmd.WaitDelay = stopGrace
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if c.polite { // a group that has ended, or that is nicer already, needs nothing
		_ = syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, politeness)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	signalGroup(cmd, syscall.SIGINT)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		signalGroup(cmd, syscall.SIGKILL)
		<-done
	}
	// For processes that ignored the interrupt although the group's head has ended.
	signalGroup(cmd, syscall.SIGKILL)
	return fmt.Errorf("run %s: %w", cmd.Path, ctx.Err())
}

// signalGroup signals every process of the group; if none is left, that is not an error.
func signalGroup(cmd *exec.Cmd, sig syscall.Signal) {
	if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		fmt.Fprintf(cmd.Stderr, "ci: signal the group of %s: %v\n", cmd.Path, err)
	}
}
