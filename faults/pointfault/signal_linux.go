package pointfault

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// killSelf does not return: a fatal signal is pending for every thread when the call ends.
func killSelf() error {
	if err := unix.Kill(unix.Getpid(), unix.SIGKILL); err != nil {
		return err
	}
	select {}
}

// stopSelf returns when the process has been continued. The signal goes to the calling thread, so that it is taken before the call ends: if
// sent to the process, any thread could take it, and this one would run on for a moment.
func stopSelf() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
