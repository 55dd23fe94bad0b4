package step

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// keepFailure leaves what a soak that failed is looked at with: what was wrong, the command that replays it, what happened to the instances,
// what each client was told, and every object below the prefix as it is.
func (s *soak) keepFailure(ctx context.Context, hours, disturb, faults int) error {
	if s.r.Results == "" {
		return nil
	}
	dir, rel := s.r.folder(s.r.Seed)
	ctx = context.WithoutCancel(ctx)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	replay := fmt.Sprintf("go run ./runner -scenario e5 -probe e5.1 -set hours=%d -set disturb=%d -set fault_percent=%d -seed %d\n", hours, disturb, faults, s.r.Seed)
	s.local.mu.Lock()
	events := make([]string, 0, len(s.local.events))
	for _, e := range s.local.events {
		events = append(events, e.String())
	}
	s.local.mu.Unlock()
	told := map[int][]string{}
	for _, c := range s.chains {
		c.mu.Lock()
		told[c.client] = append([]string(nil), c.hashes...)
		c.mu.Unlock()
	}
	acknowledged, err := json.Marshal(told)
	if err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	for name, text := range map[string]string{
		"replay.txt": replay, "wrong.txt": strings.Join(s.r.sortedFailures(), "\n") + "\n", "instances.txt": strings.Join(events, "\n") + "\n", "acknowledged.json": string(acknowledged) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
	}
	if err := s.keepObjects(ctx, filepath.Join(dir, "bucket")); err != nil {
		return err
	}
	s.r.Artifacts = append(s.r.Artifacts, rel)
	s.r.Notes = append(s.r.Notes, rel+" holds what was found, the command that replays it, and the bucket")
	return nil
}

// keepObjects copies the prefix as it is.
func (s *soak) keepObjects(ctx context.Context, dir string) error {
	st, done, err := s.store(ctx)
	if err != nil {
		return err
	}
	defer done()
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
		o, err := st.Get(ctx, a.Key)
		if err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
		path := filepath.Join(dir, filepath.FromSlash(a.Key))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
		if err := os.WriteFile(path, o.Body, 0o644); err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
	}
	return nil
}
