package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// keepFailure leaves what is needed to examine a failed soak, in addition to what every run leaves (runner/failure.go): what happened to
// the instances, what each client was told, and every object below the prefix as it is.
func (s *soak) keepFailure(ctx context.Context) error {
	if s.Run.Results == "" {
		return nil
	}
	dir, rel := s.Run.FailureFolder(s.Run.Seed)
	ctx = context.WithoutCancel(ctx)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep a failure: %w", err)
	}
	var events []string
	if s.Emulated != nil {
		for _, e := range s.Emulated.History() {
			events = append(events, e.String())
		}
	}
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
		"instances.txt": strings.Join(events, "\n") + "\n", "acknowledged.json": string(acknowledged) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("keep a failure: %w", err)
		}
	}
	if err := s.keepObjects(ctx, filepath.Join(dir, "bucket")); err != nil {
		return err
	}
	s.Run.Artifacts = append(s.Run.Artifacts, rel)
	s.Run.Notes = append(s.Run.Notes, rel+" holds the clients' history, what happened to the instances, and the bucket")
	return nil
}

// keepObjects copies the prefix as it is.
func (s *soak) keepObjects(ctx context.Context, dir string) error {
	st, done, err := s.Store(ctx)
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
