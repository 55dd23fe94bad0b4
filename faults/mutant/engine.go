package mutant

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// The engine's files that mutants break.
const (
	walShipFile = "core/engine/walship.go"
	modeFile    = "core/engine/mode_log.go"
	answersFile = "core/engine/mode_log_answers.go"
	startFile   = "core/pglite/start.go"
)

// EngineMutants are broken variants that need the whole engine, with PostgreSQL and processes that die: the runner has to catch them. Plan
// is the scenario's probe that does.
func EngineMutants() []Mutant {
	return []Mutant{
		{
			Name: "restore-before-acquire", Invariant: durable, File: modeFile, Plan: "e4b.1",
			Doc: "what the predecessor committed while its successor waited for the lease is not restored",
			Old: "\topened, err := takeover.Open(ctx, takeover.Options{\n",
			New: "\tearly := e.o.Clock.Now()\n\topened, err := func(ctx context.Context, o takeover.Options) (*takeover.Opened, error) {\n" +
				"\t\topened, err := takeover.Open(ctx, o)\n\t\tfor i := 0; err == nil && i < len(opened.Records); i++ {\n" +
				"\t\t\tif opened.Records[i].Time.After(early) {\n\t\t\t\topened.Records = opened.Records[:i]\n\t\t\t}\n\t\t}\n" +
				"\t\treturn opened, err\n\t}(ctx, takeover.Options{\n",
		},
		{
			Name: "no-fence", Invariant: fenced, File: takeoverFile, Plan: "e1z.1",
			Doc: "a successor appends without a fence, in the epoch after its predecessor's",
			Old: "\tif err := op.fence(ctx, log, seen.Manifest); err != nil {\n\t\treturn err\n\t}\n\tm, err := op.confirm(ctx, log, seen)\n",
			New: "\tm := seen.Manifest\n\tif tail.Seq == 0 {\n\t\t_, err = log.Fence(ctx)\n\t}\n",
		},
		{
			Name: "same-epoch-reacquire", Invariant: byOne, File: takeoverFile, Plan: "e4b.5",
			Doc: "an opener takes the epoch it finds instead of the next one",
			Old: "Epoch: max(tail.Epoch, seen.Epoch) + 1, DatabaseID", New: "Epoch: max(tail.Epoch, seen.Epoch, 1), DatabaseID",
		},
		{
			Name: "truncate-wal-page", Invariant: durable, File: walShipFile, Plan: "e2b.5",
			Doc: "a restored segment of PostgreSQL's log ends where the last record ended, in the middle of a page",
			Old: "if f.Stat().Size < segmentBytes {", New: "if f.Stat().Size < 0 {",
		},
		{
			Name: "ship-recycled-wal", Invariant: replay, File: startFile, Plan: "e2b.7",
			Doc: "segments that PostgreSQL's log keeps for later are included in a layer",
			Old: `"wal_recycle": "off"`, New: `"wal_recycle": "on", "min_wal_size": "200MB", "max_wal_size": "300MB"`,
		},
		{
			Name: "ack-before-put", Invariant: durable, File: answersFile, Plan: "e2b.1",
			Doc: "an answer leaves while the record is on its way",
			Old: "\tif m.log.isDurable(number) {\n\t\treturn nil\n\t}\n\treturn func",
			New: "\tif !m.log.isDurable(number) {\n\t\tm.background.Go(func() { _ = m.log.wait(m.ctx, number) })\n\t}\n\tif m.log != nil {\n\t\treturn nil\n\t}\n\treturn func",
		},
		{
			Name: "serve-after-fenced", Invariant: fenced, File: modeFile, Plan: "e1z.1",
			Doc: "a request does not check whether the lease is still held: a writer that was taken over answers reads",
			Old: "if err := m.opened.Lease.Ensure(ctx); err != nil {", New: "if err := m.opened.Lease.Ensure(ctx); err != nil && m.log == nil {",
		},
		{
			Name: "no-flush-at-the-end", Invariant: durable, File: modeFile, Plan: "e4b.4",
			Doc: "SIGTERM releases the lease without flushing the rest",
			Old: "if runs && m.log.isDurable(m.log.lastAwaited()) && last <= m.durable.Load() {", New: "if runs || m.log == nil {",
		},
		{
			Name: "delete-fence", Invariant: once, File: gcFile, Plan: "e2b.2",
			Doc: "a collection deletes fences",
			Old: "\tif fence {\n", New: "\tif fence && c.o.Epoch == 0 {\n",
		},
		{
			Name: "gc-one-too-many", Invariant: restorable, File: gcFile, Plan: "e2b.2",
			Doc: "a collection deletes the record at wal_start",
			Old: "if seq >= c.m.WalStart || !b.do", New: "if seq > c.m.WalStart || !b.do",
		},
		forgetFenceGrowth(),
		{
			Name: "unknown-is-failed", Invariant: durable, File: modeFile, Plan: "e2b.6",
			Doc: "a commit with an unknown outcome is reported as fenced, as if it had never happened",
			Old: "\tat, err := m.opened.Log.Append(ctx, ops)\n",
			New: "\tat, err := m.opened.Log.Append(ctx, ops)\n\tif errors.Is(err, store.ErrUnknown) {\n\t\terr = wal.ErrFenced\n\t}\n",
		},
	}
}

// forgetFenceGrowth is one of EngineMutants, and also of SoakMutants.
func forgetFenceGrowth() Mutant {
	return Mutant{
		Name: "forget-fence-growth", Invariant: idle, File: gcFile, Plan: "e5.4",
		Doc: "each collection goes through all existing fences, of which every cold start leaves one",
		Old: "c.o.Epoch%fullEvery != 0", New: "c.o.Epoch == 0",
	}
}

// runner is the program that EngineMutants are built into.
const runner = "./runner"

// BuildRunner builds the runner with the mutant in it, and returns the program's path.
func (m Mutant) BuildRunner(ctx context.Context, root, dir string) (string, error) {
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, m.Name+"-runner.exe")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-overlay", overlay, "-o", program, runner)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mutant %s: %w: %s", m.Name, err, bytes.TrimSpace(out))
	}
	return program, nil
}
