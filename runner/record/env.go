package record

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// Env is where and with what a run took place.
type Env struct {
	// Machine is the processor's model as the system reports it, with system and architecture: "linux/amd64 AMD EPYC 7B13".
	Machine string `json:"machine"`
	CPUs    int    `json:"cpus"`
	// Region is the cloud region, or "local".
	Region string `json:"region"`
	Go     string `json:"go"`
	// Wazero and GCSSDK are module versions as linked into the running binary.
	Wazero string `json:"wazero"`
	GCSSDK string `json:"gcs_sdk"`
	// Store is mem, fake-gcs or gcs; Target is local, twin (the Cloud Run emulator) or cloudrun.
	Store  string `json:"store"`
	Target string `json:"target"`
	// PGliteSHA256 is the hash of the Postgres image that ran.
	PGliteSHA256 string `json:"pglite_sha256"`
}

// EnvOptions are the parts of Env that cannot be looked up.
type EnvOptions struct {
	Region       string // empty: "local"
	Store        string
	Target       string
	PGliteSHA256 string
}

// CollectEnv describes this machine and this binary.
func CollectEnv(o EnvOptions) Env {
	env := Env{
		Machine: machine(), CPUs: runtime.NumCPU(), Region: o.Region, Go: runtime.Version(),
		Store: o.Store, Target: o.Target, PGliteSHA256: o.PGliteSHA256,
	}
	if env.Region == "" {
		env.Region = "local"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return env
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		switch dep.Path {
		case "github.com/tetratelabs/wazero":
			env.Wazero = dep.Version
		case "cloud.google.com/go/storage":
			env.GCSSDK = dep.Version
		}
	}
	return env
}

// MachineClass is the part of Env that makes times comparable; it goes into the hash of a cell.
func (e Env) MachineClass() string {
	return fmt.Sprintf("%s x%d %s", e.Machine, e.CPUs, e.Region)
}

func machine() string {
	name := runtime.GOOS + "/" + runtime.GOARCH
	if model := cpuModel(); model != "" {
		name += " " + model
	}
	return name
}

// cpuModel is the processor's name, or empty where the system does not report it.
func cpuModel() string {
	switch runtime.GOOS {
	case "linux":
		text, err := os.ReadFile("/proc/cpuinfo")
		if err != nil {
			return ""
		}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.Join(strings.Fields(value), " ")
			}
		}
	case "darwin":
		out, err := exec.Command("sysctl", "-n", "machdep.cpu.brand_string").Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	return ""
}

// Source is the tree that a run was built from.
type Source struct {
	// Commit is the full hash, or empty where there is none.
	Commit string
	// Dirty says that the tree differs from the commit, or that git could not say.
	Dirty bool
	// Why says in a sentence what made the tree dirty.
	Why string
}

// rendered are the paths that may differ without making the tree dirty: the runs themselves append results, and the two documents are
// rendered from them. Nothing under these names is compiled or read by a run.
func rendered() []string { return []string{"results/", "STATUS.md", "README.md"} }

// CollectSource queries git about the tree at dir. Untracked files count as changes, but not ignored ones and the rendered paths (results/,
// STATUS.md, README.md). Without git or without a commit the source is dirty.
func CollectSource(ctx context.Context, dir string) Source {
	commit, err := git(ctx, dir, "rev-parse", "--verify", "HEAD")
	if err != nil {
		return Source{Dirty: true, Why: "git knows no commit here: " + err.Error()}
	}
	source := Source{Commit: strings.TrimSpace(commit)}
	top, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return Source{Commit: source.Commit, Dirty: true, Why: err.Error()}
	}
	status, err := git(ctx, strings.TrimRight(top, "\r\n"), "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal")
	if err != nil {
		return Source{Commit: source.Commit, Dirty: true, Why: err.Error()}
	}
	for entry := range strings.SplitSeq(status, "\x00") {
		if path := changedPath(entry); path != "" && !isRendered(path) {
			source.Dirty, source.Why = true, "changed since the commit: "+path
			break
		}
	}
	return source
}

// changedPath takes the path out of "XY path"; empty for the end of the list.
func changedPath(entry string) string {
	if len(entry) < 4 {
		return ""
	}
	return entry[3:]
}

func isRendered(path string) bool {
	for _, name := range rendered() {
		if path == name || strings.HasSuffix(name, "/") && strings.HasPrefix(path, name) {
			return true
		}
	}
	return false
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}
