package main

import (
	"context"
	"testing"
	"time"
)

// TestPoliteSteps: a step that only computes, and the children of its commands, yield the processors to the others.
func TestPoliteSteps(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The 19th field is the niceness. Each look starts a new child, because this one's niceness is set right after its start.
	const look = `until [ "$(cut -d' ' -f19 /proc/self/stat)" -ge 10 ]; do :; done`
	code, out := runSteps(ctx, &checker{root: "."}, []step{{name: "polite", polite: true, run: command("sh", "-c", look)}})
	if code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
}
