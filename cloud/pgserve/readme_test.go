package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestReadme runs the commands that README.md tells people to type at a service, and compares the answers: the statements at psql's prompt,
// and each line that begins with curl.
func TestReadme(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl on this machine")
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const prompt, command = "    postgres=# ", "    $ curl "
	c := start(t, "-store", "mem")
	lines := strings.Split(string(text), "\n")
	statements, calls := 0, 0
	for i, line := range lines {
		if sql, ok := strings.CutPrefix(line, prompt); ok {
			statements++
			c.query(t, sql)
		}
		if !strings.HasPrefix(line, command) {
			continue
		}
		calls++
		if !strings.Contains(line, "127.0.0.1:8080") {
			t.Errorf("line %d does not ask the address that pgserve listens on: %s", i+1, line)
			continue
		}
		shell := strings.ReplaceAll(strings.TrimPrefix(line, "    $ "), "127.0.0.1:8080", c.http)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", shell).CombinedOutput()
		if want := strings.TrimSpace(lines[i+1]); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("line %d: %s\n%s, %v\nwant %s", i+1, shell, out, err, want)
		}
	}
	if statements < 2 || calls < 1 {
		t.Errorf("%d statements and %d calls found in README.md", statements, calls)
	}
}
