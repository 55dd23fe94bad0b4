package mutant

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNothingIsLeftOfAGroup: a child that outlives the command is ended with it. The pipe that the child holds shows it.
func TestNothingIsLeftOfAGroup(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo here; exit 3")
	cmd.ExtraFiles = []*os.File{w}
	out, err := groupOutput(cmd)
	_ = w.Close()
	if err == nil || err.Error() != "exit status 3" || strings.TrimSpace(string(out)) != "here" {
		t.Errorf("the command's own end: %v, %q", err, out)
	}
	if _, err := io.ReadAll(r); err != nil { // to the end: the other end is closed
		t.Error(err)
	}
}
