package main

import (
	"context"
	"testing"
	"time"
)

// TestPoliteSteps: what only computes, and the children of its commands, leave the processors to the others.
func TestPoliteSteps(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The 19th field is the niceness, of a child that is begun anew for each look: this one's is set right behind its start.
	const look = `until [ "$(cut -d' ' -f19 /proc/self/stat)" -ge 10 ]; do :; done`
	code, out := runSteps(ctx, &checker{root: "."}, []step{{name: "polite", polite: true, run: command("sh", "-c", look)}})
	if code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
}
