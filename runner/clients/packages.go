package clients

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"blobpglite/runner/npm"
	"blobpglite/runner/service"
)

//go:embed programs
var programs embed.FS

// npm installs packages for a trial.
func (e *Env) npm(ctx context.Context, packages ...string) (string, error) {
	return npm.Install(ctx, e.Cache, e.Progress, packages...)
}

// program writes embedded programs into the trial's folder, and returns the path of the first.
func (e *Env) program(names ...string) (string, error) {
	for _, name := range names {
		b, err := programs.ReadFile("programs/" + name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(e.Folder, name), b, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(e.Folder, names[0]), nil
}

// goProgram builds a program that is a module of its own below programs/, whose go.mod and go.sum pin everything. ErrMissing if its modules
// are not available.
func (e *Env) goProgram(ctx context.Context, name string) (string, error) {
	if err := missing("go", "the Go toolchain"); err != nil {
		return "", err
	}
	folder := filepath.Join(e.Folder, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	// The files carry another name in this repository, where they would be a module within a module.
	for from, to := range map[string]string{"main.go.txt": "main.go", "go.mod.txt": "go.mod", "go.sum.txt": "go.sum"} {
		b, err := programs.ReadFile("programs/" + name + "/" + from)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(folder, to), b, 0o600); err != nil {
			return "", err
		}
	}
	// Only the modules of packages that are used are downloaded.
	e.Progress("downloading Go modules, for "+name, 0, 0)
	if out, err := inModule(ctx, folder, "list", "-deps", ".").CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("what %s is built of is %w: %w: %s", name, ErrMissing, err, tail(string(out)))
	}
	e.Progress("go build, for "+name, 0, 0)
	program := filepath.Join(folder, "trial")
	if out, err := inModule(ctx, folder, "build", "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, tail(string(out)))
	}
	return program, nil
}

// inModule is the go tool in another module.
func inModule(ctx context.Context, folder string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	service.OwnGroup(cmd)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	return cmd
}
