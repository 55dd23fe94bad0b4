package clients

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"blobpglite/runner/service"
)

// goTrials are clients in Go that this module does not depend on: each is a module of its own, built when it is tried.
func goTrials() []Trial {
	return []Trial{
		{Name: "goose", Doc: "three processes migrate at once, with goose's session lock: one does it, each step once", run: tryGoose},
		{Name: "river", Doc: "two clients of River, with notifications and a leader, run each transaction's jobs once", run: tryRiver},
	}
}

func tryRiver(ctx context.Context, e *Env) (Outcome, error) {
	program, err := e.goProgram(ctx, "river")
	if err != nil {
		return Outcome{}, err
	}
	return e.converse(ctx, exec.CommandContext(ctx, program, e.URL))
}

// tryGoose has three processes migrate at the same time.
func tryGoose(ctx context.Context, e *Env) (Outcome, error) {
	program, err := e.goProgram(ctx, "goose")
	if err != nil {
		return Outcome{}, err
	}
	const atOnce = 3
	e.Progress("goose, three concurrently", 0, 0)
	said, errs := make([]string, atOnce), make(chan error, atOnce)
	for i := range said {
		go func() {
			cmd := exec.CommandContext(ctx, program, e.URL)
			service.OwnGroup(cmd)
			out, err := cmd.CombinedOutput()
			said[i] = strings.TrimSpace(string(out))
			if err != nil {
				err = fmt.Errorf("goose: %w: %s", err, tail(said[i]))
			}
			errs <- err
		}()
	}
	var all error
	for range said {
		all = errors.Join(all, <-errs)
	}
	if all != nil {
		return Outcome{}, all
	}
	slices.Sort(said)
	if want := []string{"applied 0 version 3", "applied 0 version 3", "applied 3 version 3"}; !slices.Equal(said, want) {
		return Outcome{}, fmt.Errorf("the three said %q, want %q", said, want)
	}
	return Outcome{}, e.one(ctx, "SELECT string_agg(step::text, ',' ORDER BY step) || ' ' || steps() FROM applied", "1,3 2")
}
