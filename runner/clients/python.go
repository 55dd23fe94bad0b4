package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// python runs a program of Python that needs a module, with the package of Debian that has it.
func python(program, module, from string) func(context.Context, *Env) (Outcome, error) {
	return func(ctx context.Context, e *Env) (Outcome, error) {
		// There may be several Pythons; the module belongs to one of them.
		python := ""
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			candidate := filepath.Join(dir, "python3")
			if python == "" && exec.CommandContext(ctx, candidate, "-c", "import "+module).Run() == nil {
				python = candidate
			}
		}
		if python == "" {
			return Outcome{}, fmt.Errorf("%s (Debian: %s) is %w", module, from, ErrMissing)
		}
		file, err := e.program(program)
		if err != nil {
			return Outcome{}, err
		}
		return e.converse(ctx, exec.CommandContext(ctx, python, file, e.URL))
	}
}

func pythonTrials() []Trial {
	return []Trial{{
		Name: "psycopg", Doc: "psycopg 3: more than 1,000 statements with its own threshold for preparing, pipelines, COPY, cursors, notifications",
		run: python("py_psycopg.py", "psycopg", "python3-psycopg"),
	}}
}
