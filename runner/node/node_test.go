package node

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"blobpglite/core/store/mem"
	"blobpglite/faults/gcsfront"
)

func TestMain(m *testing.M) {
	if IsChild() {
		os.Exit(Child())
	}
	// The bucket SDK's metrics library starts a goroutine when it is linked in.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

func spawn(t *testing.T, o Options) *Process {
	t.Helper()
	n, err := Spawn(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	return n
}

func do(t *testing.T, n Node, op Op, args, result any) {
	t.Helper()
	if err := n.Do(t.Context(), op, args, result); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
}

// TestRoundTripThroughProcesses: one process loads and is killed, another one finds everything.
func TestRoundTripThroughProcesses(t *testing.T) {
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{"bucket"}})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	args := OpenArgs{Store: StoreSpec{Bucket: "bucket", Prefix: "p", Endpoint: endpoint}, Create: true, Mode: "snapshot"}

	writer := spawn(t, Options{})
	do(t, writer, Open, args, nil)
	var loaded LoadResult
	do(t, writer, Load, LoadArgs{Bytes: 1_000_000, Seed: 3}, &loaded)
	if loaded.Commit.StoredBytes == 0 || loaded.DatabaseBytes < 1_000_000 {
		t.Errorf("loaded %+v", loaded)
	}
	writer.Kill()
	if err := writer.Do(t.Context(), Verify, nil, nil); err == nil {
		t.Error("a killed node answered")
	}

	reader := spawn(t, Options{})
	args.Create = false
	var opened OpenResult
	do(t, reader, Open, args, &opened)
	var found VerifyResult
	do(t, reader, Verify, VerifyArgs{Bytes: 1_000_000, Seed: 3}, &found)
	if found.Wrong != "" || found.Rows == 0 {
		t.Errorf("found %+v", found)
	}
	do(t, reader, Verify, VerifyArgs{Bytes: 2_000_000, Seed: 3}, &found)
	if found.Wrong == "" {
		t.Error("half of the rows passed for all of them")
	}
	var memory MemoryResult
	do(t, reader, Memory, nil, &memory)
	if memory.PeakBytes < 10<<20 {
		t.Errorf("peak memory %d", memory.PeakBytes)
	}
	do(t, reader, Close, nil, nil)
}

func TestErrorsOfOperations(t *testing.T) {
	for name, n := range map[string]Node{"process": spawn(t, Options{}), "local": Local(Options{})} {
		var failed *Error
		if err := n.Do(t.Context(), Commit, nil, nil); !errors.As(err, &failed) || !strings.Contains(failed.Text, "no database is open") {
			t.Errorf("%s: a commit of nothing: %v", name, err)
		}
		if err := n.Do(t.Context(), "dance", nil, nil); !errors.As(err, &failed) {
			t.Errorf("%s: an unknown operation: %v", name, err)
		}
	}
}

func TestMissingDatabaseHasItsCode(t *testing.T) {
	n := Local(Options{})
	err := n.Do(t.Context(), Open, OpenArgs{Store: StoreSpec{Prefix: "p", Memory: mem.New(mem.Options{})}}, nil)
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != CodeNoDatabase {
		t.Errorf("got %v", err)
	}
}

// TestChildEndsWithItsInput: a child whose runner is gone ends, in the middle of whatever it does.
func TestChildEndsWithItsInput(t *testing.T) {
	n := spawn(t, Options{})
	if err := n.in.Close(); err != nil {
		t.Fatal(err)
	}
	<-n.ended
}

func TestChildEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n, err := Spawn(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-n.ended
	n.Kill()
}
