package gotests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/bench/benchtest"
	"blobpglite/runner/record"
)

// module makes a module of one package with a test file, and changes to its folder.
func module(t *testing.T, test string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module tried\n\ngo 1.26\n", "a/a.go": "package a\n", "a/a_test.go": "package a\n\n" + test, "b/b.go": "package b\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

const goTestStep = "gotest: {packages: [./...], count: $rounds}"

func TestGoTestCounts(t *testing.T) {
	for _, c := range []struct {
		name, test string
		want       record.Verdict
		says       string
	}{
		{"passes", "import \"testing\"\n\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) {}) }\n", record.Pass, ""},
		{"fails", "import \"testing\"\n\nfunc TestA(t *testing.T) { t.Error(\"seven is not eight\") }\n", record.Fail, "seven is not eight"},
		{"panics", "import \"testing\"\n\nfunc TestA(t *testing.T) { panic(\"at the disco\") }\n", record.Fail, "at the disco"},
		{"does not build", "import \"testing\"\n\nfunc TestA(t *testing.T) { nonsense() }\n", record.Fail, "nonsense"},
		{"exits", "import (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestMain(m *testing.M) { os.Exit(3) }\n\nfunc TestA(t *testing.T) {}\n", record.Fail, "tried/a"},
		{"has none", "", record.Vacuous, "no test was run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			module(t, c.test)
			verdict, checks := benchtest.Try(t, Verbs(), Checks(), mem.New(mem.Options{}), goTestStep, 1, checkTests)
			if text := fmt.Sprint(checks); verdict != c.want || !strings.Contains(text, c.says) {
				t.Errorf("%v, want %v and %q: %s", verdict, c.want, c.says, text)
			}
		})
	}
}

func TestGoTestIsVacuousWithoutTheTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if verdict, checks := benchtest.Try(t, Verbs(), Checks(), mem.New(mem.Options{}), goTestStep, 1, checkTests); verdict != record.Vacuous {
		t.Errorf("%v, %v", verdict, checks)
	}
}

func TestGoTestIsVacuousOutsideOfAModule(t *testing.T) {
	t.Chdir(t.TempDir())
	if verdict, checks := benchtest.Try(t, Verbs(), Checks(), mem.New(mem.Options{}), goTestStep, 1, checkTests); verdict != record.Vacuous {
		t.Errorf("%v, %v", verdict, checks)
	}
}

// TestGoTestEndsWithItsContext: a test that never ends holds a connection open; an interrupt ends its process too.
func TestGoTestEndsWithItsContext(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	module(t, fmt.Sprintf(`import (
	"net"
	"testing"
)

func TestA(t *testing.T) {
	c, err := net.Dial("tcp", %q)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {}
}
`, listener.Addr().String()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		c := &testCount{r: &bench.Run{Metrics: record.NewMetrics(), Progress: func(string, int64, int64) {}}, outputs: map[string][]string{}}
		ended <- c.run(ctx, "go", ".", []string{"test", "-json", "./a"})
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the test goes on")
	}
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}
