//go:build !linux

package pointfault

import "golang.org/x/sys/unix"

// killSelf does not return.
func killSelf() error {
	if err := unix.Kill(unix.Getpid(), unix.SIGKILL); err != nil {
		return err
	}
	select {}
}

// stopSelf stops the process. Any thread may take the signal here, so the caller may run on for a moment.
func stopSelf() error { return unix.Kill(unix.Getpid(), unix.SIGSTOP) }
