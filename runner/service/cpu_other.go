//go:build !linux

package service

import (
	"errors"
	"time"
)

var errLinuxOnly = errors.New("only Linux tells what a process uses, and keeps it on one processor")

// OnOneCPU works on Linux only: here it returns an error.
func OnOneCPU(func() error) error { return errLinuxOnly }

// Used is the processor time of a process, and its resident memory, now and at most.
type Used struct {
	CPU                      time.Duration
	ResidentBytes, PeakBytes int64
}

// Used works on Linux only: here it returns an error.
func (s *Service) Used() (Used, error) { return Used{}, errLinuxOnly }
