package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"blobpglite/core/store/file"
)

// outsideVariable tells a process of these tests where to write, and in which folder its database is.
const outsideVariable = "BLOBPGLITE_TEST_OUTSIDE"

// outsideFunction is one of PostgreSQL's own functions, which writes a byte where its last argument says, declared as taking a number. Only
// a superuser can create it.
const outsideFunction = `CREATE FUNCTION put(box, box, int) RETURNS int LANGUAGE internal AS 'gist_box_same'`

// put writes a byte at an address.
func put(at int64) string {
	return fmt.Sprintf("SELECT put('((0,0),(1,1))', '((0,0),(1,1))', %d)", int32(at))
}

// outsideAddresses are of no memory: it grows to 2 GiB less a page.
var outsideAddresses = map[string]int64{"behind the memory": 1<<31 - 1, "the last of 32 bits": 1<<32 - 1}

// inFolder is a database in a folder.
func inFolder(t *testing.T, folder string, change ...func(*Options)) *Engine {
	t.Helper()
	st, err := file.Open(t.Context(), file.Options{Dir: folder, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return open(t, st, append(change, inLog)...)
}

// TestAWriteOutside: when PostgreSQL's code writes outside its memory, the process ends there, and what it had acknowledged is there when
// the database is opened again. Where the code has checks, it is a crash of PostgreSQL: the same process keeps serving.
func TestAWriteOutside(t *testing.T) {
	if folder := os.Getenv(outsideVariable); folder != "" {
		writeOutside(t, folder)
		return
	}
	if err := runtime.Checked(); err != nil {
		t.Fatalf("there is no code without checks: %v", err)
	}
	for name, at := range outsideAddresses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			stdout, stderr, err := outsideChild(t, folder, "BLOBPGLITE_CHECKED=", at)
			// 2, or more where Go's runtime, which knows nothing of compiled code, fails at telling where it was.
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() < 2 {
				t.Errorf("the process ended with %v, want exit status 2 or more\n%s", err, stdout)
			}
			// Which of the two depends on where the heap has the stack of compiled code: see TestOutsideIsAFault of core/pglite/internal/lean.
			if !strings.Contains(stderr, "fatal error: fault\n[signal SIGSEGV") && !strings.Contains(stderr, "fatal error: runtime: split stack overflow") {
				t.Errorf("it does not say that memory was accessed which there is not:\n%.600s", stderr)
			}
			if stdout != "acknowledged\n" {
				t.Fatalf("it said\n%s\nwant that the row was acknowledged, and no more", stdout)
			}
			wantRow(t, folder)
		})
		t.Run(name+", checked", func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			stdout, stderr, err := outsideChild(t, folder, "BLOBPGLITE_CHECKED=1", at)
			if err != nil {
				t.Fatalf("the process ended with %v\n%s\n%s", err, stdout, stderr)
			}
			if want := "acknowledged\nconn closed\nthen there is 1 row\n"; !strings.HasPrefix(stdout, want) {
				t.Errorf("it said\n%s\nwant\n%s", stdout, want)
			}
			if want := "out of bounds memory access"; !strings.Contains(stderr, want) {
				t.Errorf("its log does not have %q:\n%s", want, stderr)
			}
			wantRow(t, folder)
		})
	}
}

// wantRow opens a database again and looks for the acknowledged row.
func wantRow(t *testing.T, folder string) {
	t.Helper()
	e := inFolder(t, folder)
	if got := must(t, e, "SELECT string_agg(text, ',') FROM note"); got != "kept" {
		t.Errorf("opened again it has %q", got)
	}
}

// outsideChild runs the test in a process of its own.
func outsideChild(t *testing.T, folder, env string, at int64) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAWriteOutside$")
	cmd.Env = append(os.Environ(), outsideVariable+"="+fmt.Sprint(at)+":"+folder, env)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// writeOutside acknowledges a row and writes outside; if the process survives that, it reports the error, and what is stored.
func writeOutside(t *testing.T, where string) {
	var at int64
	number, folder, _ := strings.Cut(where, ":")
	if _, err := fmt.Sscan(number, &at); err != nil {
		t.Fatal(err)
	}
	e := inFolder(t, folder, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)) })
	c := client(t, e)
	do(t, c, "CREATE TABLE note (text text)")
	do(t, c, outsideFunction)
	if got := do(t, c, "SELECT put('((0,0),(1,1))', '((0,0),(1,1))', 0)"); got != "0" {
		t.Fatalf("a byte put at 0: %s", got) // unused, and within
	}
	do(t, c, "INSERT INTO note VALUES ('kept')")
	fmt.Println("acknowledged")
	_, err := try(t.Context(), c, put(at))
	fmt.Println(err)
	fmt.Printf("then there is %s row\n", do(t, client(t, e), "SELECT count(*) FROM note"))
	if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}
