package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory measures the memory of a process, counting shared pages once.
type Memory struct {
	How   string // in words
	read  func() (int64, error)
	close func() error
}

// Bytes is how many bytes it has now.
func (m *Memory) Bytes() (int64, error) { return m.read() }

// Close ends the measurement. The process must have ended.
func (m *Memory) Close() error { return m.close() }

// Memory begins to measure the memory of the process: with a control group of its own, if one can be made, which counts what is allocated
// from now on, as a container's does; otherwise from the pages it has mapped, each divided by the number of its mappings.
func (s *Service) Memory() *Memory {
	if m, err := s.grouped(); err == nil {
		return m
	}
	return &Memory{
		How: "pages that are mapped, divided by how often they are: no control group can be made here",
		read: func() (int64, error) {
			return numberIn(fmt.Sprintf("/proc/%d/smaps_rollup", s.PID()), "Pss:", 1024)
		},
		close: func() error { return nil },
	}
}

// grouped puts the process into a control group of its own, below this process's.
func (s *Service) grouped() (*Memory, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[1] != "memory" && parts[1] != "" {
			continue
		}
		root, usage := "/sys/fs/cgroup", "memory.current"
		if parts[1] == "memory" {
			root, usage = "/sys/fs/cgroup/memory", "memory.usage_in_bytes"
		}
		for _, parent := range []string{filepath.Join(root, parts[2]), root} { // in a container the path may not be the mounted one
			if m, err := s.group(filepath.Join(parent, fmt.Sprintf("blobpglite-%d", s.PID())), usage); err == nil {
				return m, nil
			}
		}
	}
	return nil, errors.New("no control group of memory can be made here")
}

func (s *Service) group(folder, usage string) (*Memory, error) {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(folder, usage)
	_, err := os.Stat(file)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(s.PID())), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(folder))
	}
	return &Memory{
		How: "a control group of its own",
		read: func() (int64, error) {
			b, err := os.ReadFile(file)
			if err != nil {
				return 0, err
			}
			return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		},
		close: func() error { return os.Remove(folder) },
	}, nil
}

// numberIn returns the number after a word at the beginning of a line.
func numberIn(file, word string, unit int64) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n * unit, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, word)
}
