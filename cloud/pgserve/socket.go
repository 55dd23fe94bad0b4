package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// listenSocket listens on a Unix socket. A killed process leaves its socket behind, which keeps others from listening there. It is removed
// if it is a socket and nothing listens on it. The folder is locked during that, so that of two processes that start at the same time the
// second one sees the first one's socket.
func listenSocket(path string) (_ net.Listener, err error) {
	if strings.HasPrefix(path, "@") { // one of Linux's abstract names, which end with their process
		return net.Listen("unix", path)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }() // this unlocks it
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("listen on the socket %s: lock its folder: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket that nothing listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file of that name exists, and is not a socket: remove it, or choose another name")
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		return errors.Join(errors.New("another process listens on it: stop that process, or choose another name"), conn.Close())
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("find out whether a process listens on it: %w", err)
	}
	return os.Remove(path)
}
