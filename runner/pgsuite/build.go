package pgsuite

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"blobpglite/runner/service"
)

// Native is PostgreSQL, built from its source for this machine.
type Native struct {
	Version string // as "18.6"
	source  string
	folder  string // installed here
}

// configured is how it is built: like PGlite's, as far as that changes the output.
var configured = []string{"--without-llvm", "--without-readline", "--with-icu", "--with-libxml", "--with-zlib"}

var versionLine = regexp.MustCompile(`(?m)^PACKAGE_VERSION='([^']+)'`)

// Build builds the source in a folder of its own below cache, unless that was done before. progress is called with how many files were
// compiled. Error: ErrMissing.
func Build(ctx context.Context, source, cache string, progress func(step string, done, total int64)) (*Native, error) {
	version, script, err := versionOf(source)
	if err != nil {
		return nil, err
	}
	// The commands run in other folders, and find does not enter a folder through a link.
	if source, err = filepath.Abs(source); err == nil {
		source, err = filepath.EvalSymlinks(source)
	}
	if err != nil {
		return nil, fmt.Errorf("build PostgreSQL: %w", err)
	}
	for _, tool := range []string{"cc", "make", "bison", "flex", "perl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s, which builds PostgreSQL, is %w", tool, ErrMissing)
		}
	}
	sum := sha256.Sum256(fmt.Appendf(script, "%v %s", configured, runtime.GOARCH))
	n := &Native{Version: version, source: source}
	n.folder = filepath.Join(cache, "postgresql-"+n.Version+"-"+hex.EncodeToString(sum[:4]))
	done := filepath.Join(n.folder, "built")
	if _, err := os.Stat(done); err == nil {
		return n, nil
	}
	if err := os.RemoveAll(n.folder); err != nil {
		return nil, fmt.Errorf("build PostgreSQL: %w", err)
	}
	if err := n.build(ctx, progress); err != nil {
		return nil, errors.Join(fmt.Errorf("build PostgreSQL %s: %w", n.Version, err), os.RemoveAll(n.folder))
	}
	return n, os.WriteFile(done, nil, 0o600)
}

// versionOf is the version of a source, and the script that configures it.
func versionOf(source string) (version string, script []byte, err error) {
	script, err = os.ReadFile(filepath.Join(source, "configure"))
	if err != nil {
		return "", nil, fmt.Errorf("PostgreSQL's source is %w at %q: %w", ErrMissing, source, err)
	}
	line := versionLine.FindSubmatch(script)
	if line == nil {
		return "", nil, fmt.Errorf("%s/configure is not PostgreSQL's: it names no version", source)
	}
	return string(line[1]), script, nil
}

func (n *Native) build(ctx context.Context, progress func(string, int64, int64)) error {
	work := filepath.Join(n.folder, "build")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	name := "building PostgreSQL " + n.Version
	steps := [][]string{
		append([]string{filepath.Join(n.source, "configure"), "--prefix=" + n.folder}, configured...),
		{"make", fmt.Sprintf("-j%d", runtime.NumCPU())},
		{"make", "install"},
	}
	for _, step := range steps {
		progress(name, 0, 0)
		if err := run(ctx, work, step, func(compiled int64) { progress(name, compiled, 0) }); err != nil {
			return err
		}
	}
	return os.RemoveAll(work)
}

// run runs a command in a process group of its own, which ends with ctx.
func run(ctx context.Context, dir string, line []string, compiled func(int64)) error {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	service.OwnGroup(cmd)
	cmd.Dir = dir
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	var last []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		last = watch(out, compiled)
	}()
	err := cmd.Run()
	in.Close()
	<-read
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(line[0]), errors.Join(err, ctx.Err()), strings.Join(last, "\n"))
	}
	return nil
}

// watch counts the compiler's calls and keeps the last lines.
func watch(out io.Reader, compiled func(int64)) (last []string) {
	const kept = 5
	lines := bufio.NewReader(out)
	n := int64(0)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, " -c ") {
			n++
			compiled(n)
		}
		if line = strings.TrimSpace(line); line != "" {
			last = append(last[max(0, len(last)-kept+1):], line)
		}
		if err != nil {
			return last
		}
	}
}

// Program returns the path of one of its programs, such as psql.
func (n *Native) Program(name string) string { return filepath.Join(n.folder, "bin", name) }

// tests is the folder of the regression suite.
func (n *Native) tests() string { return filepath.Join(n.source, "src", "test", "regress") }
