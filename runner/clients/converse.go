package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"blobpglite/runner/service"
)

// converse runs a program of programs/, which prints, one per line,
//
//	KILL                  kill the server; it then waits for a line
//	AT 3 10 jobs          its progress
//	FOUND {"acked": 50}   at the end: an Outcome
func (e *Env) converse(ctx context.Context, cmd *exec.Cmd) (got Outcome, err error) {
	service.OwnGroup(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return got, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return got, err
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return got, err
	}
	found := false
	lines := bufio.NewScanner(out)
	const longest = 1 << 20
	lines.Buffer(nil, longest)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == "KILL":
			err = e.crash(ctx, in)
		case strings.HasPrefix(line, "AT "):
			e.at(line)
		case strings.HasPrefix(line, "FOUND "):
			if err = json.Unmarshal([]byte(line[len("FOUND "):]), &got); err != nil {
				err = fmt.Errorf("its output %.100q: %w", line, err)
			}
			found = true
		default:
			errs.WriteString(line + "\n")
		}
		if err != nil {
			_ = cmd.Cancel()
		}
	}
	_ = in.Close()
	err = errors.Join(err, lines.Err(), cmd.Wait(), ctx.Err())
	if err == nil && !found {
		err = errors.New("it ended without saying what it found")
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, tail(errs.String()))
	}
	return got, err
}

// crash has the server killed, and reports when it is back.
func (e *Env) crash(ctx context.Context, in io.Writer) error {
	if err := e.Crash(ctx); err != nil {
		return err
	}
	_, err := io.WriteString(in, "KILLED\n")
	return err
}

// at shows how far a program is.
func (e *Env) at(line string) {
	var done, total int64
	what := ""
	if n, _ := fmt.Sscanf(line, "AT %d %d %s", &done, &total, &what); n == 3 {
		e.Progress(what, done, total)
	}
}

// node runs a program of Node with the harness, with packages of npm.
func node(program string, packages ...string) func(context.Context, *Env) (Outcome, error) {
	return func(ctx context.Context, e *Env) (Outcome, error) {
		folder, err := e.npm(ctx, packages...)
		if err != nil {
			return Outcome{}, err
		}
		file, err := e.program(program, "harness.mjs")
		if err != nil {
			return Outcome{}, err
		}
		return e.converse(ctx, exec.CommandContext(ctx, "node", file, folder, e.URL))
	}
}
