//go:build unix && !solaris && !aix

package file

import (
	"errors"
	"syscall"
)

// Lock implements File by flock(2): the lock belongs to the open file, so it also works between users in one process.
func (f osFile) Lock(exclusive bool) (bool, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = syscall.Flock(int(fd), how|syscall.LOCK_NB)
		for errors.Is(failed, syscall.EINTR) {
			failed = syscall.Flock(int(fd), how|syscall.LOCK_NB)
		}
	}); err != nil {
		return false, err
	}
	if errors.Is(failed, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return failed == nil, failed
}
