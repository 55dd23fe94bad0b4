package blobpglite_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// outside is a program of another module.
const outside = `package main

import (
	"context"
	"fmt"
	"log"

	"blobpglite"
)

func main() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	var text string
	if err := db.SQL().QueryRowContext(ctx, "SELECT 'from ' || $1::text", "outside").Scan(&text); err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	if err := db.Close(ctx); err != nil {
		log.Fatal(err)
	}
}
`

// TestAnotherModule: another module can use this one as README says, with nothing fetched beyond what this module already has.
func TestAnotherModule(t *testing.T) {
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, body := range map[string]string{
		"go.mod":  "module outside\n\ngo 1.26.0\n\nrequire blobpglite v0.0.0\n\nreplace blobpglite => " + root + "\n",
		"go.sum":  string(sums),
		"main.go": outside,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "from outside\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}
