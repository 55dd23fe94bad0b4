package service

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// child is a shell that runs a script until ctx ends.
func child(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	OwnGroup(cmd)
	return cmd
}

// TestServe: it is available as soon as it says so, on either output and after any length of line, and ends with its context.
func TestServe(t *testing.T) {
	for _, script := range []string{
		"echo early; echo it is ready; exec sleep 1000", "echo it is ready >&2; exec sleep 1000",
		"head -c 300000 /dev/zero | tr '\\0' x; echo; echo it is ready; exec sleep 1000",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := Serve(ctx, child(ctx, script), "is ready")
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		cancel()
		c.Wait()
	}
}

// TestServeThatEnds: the error contains its last words, even where it ends as if all were well.
func TestServeThatEnds(t *testing.T) {
	for script, want := range map[string]string{
		"echo the port is taken >&2; exit 3": "exit status 3", "echo the port is taken": "the port is taken",
	} {
		_, err := Serve(t.Context(), child(t.Context(), script), "is ready")
		if err == nil || !strings.Contains(err.Error(), "the port is taken") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
			t.Errorf("%s: %v", script, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Serve(ctx, child(ctx, "exec sleep 1000"), "is ready"); err == nil {
		t.Error("no error where it was told to end")
	}
}
