package mutant

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// The files of core/store/file that mutants break.
const (
	fileOpen  = "core/store/file/file.go"
	fileState = "core/store/file/state.go"
	fileWrite = "core/store/file/write.go"
)

// FileMutants are broken variants of core/store/file that its tests have to catch. Plan is the test's name.
func FileMutants() []Mutant {
	return []Mutant{
		{
			Name: "no-file-sync", Invariant: durable, File: fileWrite, Plan: "TestPowerCuts", Doc: "an object gets its name before its content is on the disk",
			Old: "\tif err := p.f.Sync(); err != nil {\n\t\treturn err\n\t}\n\tgive :=", New: "\tgive :=",
		},
		{
			Name: "no-folder-sync", Invariant: durable, File: fileState, Plan: "TestPowerCuts", Doc: "a write is acknowledged before its name is on the disk",
			Old: "\tif err := h.s.disk.SyncDir(objectsDir); err != nil {\n\t\treturn err\n\t}\n", New: "",
		},
		{
			Name: "no-reservation-sync", Invariant: once, File: fileState, Plan: "TestPowerCuts", Doc: "generations are used that are given out again after a power cut",
			Old: "\t\tif err := h.f.Sync(); err != nil {\n\t\t\treturn 0, err\n\t\t}\n", New: "",
		},
		{
			Name: "generations-again", Invariant: once, File: fileOpen, Plan: "TestPowerCuts", Doc: "after a power cut generations continue wherever the state file happens to be",
			Old: "\t\tst.next = max(st.next, st.reserved)\n", New: "",
		},
		{
			Name: "read-before-durable", Invariant: durable, File: fileState, Plan: "TestDeathThenPowerCut", Doc: "a name is visible that a dead process had not made durable",
			Old: "if unsettled = h.unsettled; unsettled {", New: "if h.unsettled && unsettled {",
		},
		{
			Name: "no-lock-between-processes", Invariant: byOne, File: fileState, Plan: "TestConformanceBetweenProcesses", Doc: "two processes swap at the same time",
			Old: "return file.Lock(exclusive)", New: "return file.Lock(false)",
		},
	}
}

// FailsTest runs a mutant's test with the mutant in it, and says whether the test failed. It needs the go command. Errors: ErrStale, the
// compiler's.
func (m Mutant) FailsTest(ctx context.Context, root, dir, pkg string) (failed bool, said string, err error) {
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return false, "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-count=1", "-overlay", overlay, "-run", "^"+m.Plan+"$", pkg)
	cmd.Dir = root
	out, err := groupOutput(cmd)
	var exit *exec.ExitError
	const failure = 1 // exit code of go test: a test failed, or the build did
	switch {
	case err == nil:
		return false, string(out), nil
	case !errors.As(err, &exit) || exit.ExitCode() != failure:
		return false, "", fmt.Errorf("mutant %s: run %s: %w: %s", m.Name, m.Plan, err, out)
	}
	return true, string(out), nil
}
