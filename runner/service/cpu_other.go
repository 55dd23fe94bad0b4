//go:build !linux

package service

import (
	"errors"
	"time"
)

var errLinuxOnly = errors.New("only Linux tells what a process uses, and keeps it on one processor")

// OnOneCPU is for Linux.
func OnOneCPU(func() error) error { return errLinuxOnly }

// Used is what a process has taken of processors, and what it has in memory.
type Used struct {
	CPU           time.Duration
	ResidentBytes int64
}

// Used is for Linux.
func (s *Service) Used() (Used, error) { return Used{}, errLinuxOnly }
