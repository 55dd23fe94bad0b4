package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// OnOneCPU calls start; processes that it starts run on one processor, the last one of this process's.
func OnOneCPU(start func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("ask for this process's processors: %w", err)
	}
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("use one processor: %w", err)
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &all)) }()
	return start()
}

// Used is the processor time of a process, in all its present threads, and its resident memory, now and at most.
type Used struct {
	CPU                      time.Duration
	ResidentBytes, PeakBytes int64
}

// Used reads the figures from the system.
func (s *Service) Used() (u Used, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.PID()))
	if err == nil && len(threads) == 0 {
		err = errors.New("the process is gone, or the system keeps no count")
	}
	for _, file := range threads {
		text, readErr := os.ReadFile(file)
		if errors.Is(readErr, os.ErrNotExist) {
			continue // a thread that has ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, numberErr := strconv.ParseInt(first, 10, 64)
		err = errors.Join(err, readErr, numberErr)
		u.CPU += time.Duration(ns)
	}
	if err == nil {
		u.PeakBytes, err = numberIn(fmt.Sprintf("/proc/%d/status", s.PID()), "VmHWM:", 1024)
	}
	if err == nil {
		u.ResidentBytes, err = numberIn(fmt.Sprintf("/proc/%d/status", s.PID()), "VmRSS:", 1024)
	}
	if err != nil {
		return u, fmt.Errorf("count what pgserve uses: %w", err)
	}
	return u, nil
}
