package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// onEmulator is a run on an emulated bucket.
func onEmulator(t *testing.T, bucket string) (*Run, *gcsfront.Front, string) {
	t.Helper()
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{bucket}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, stop, err := front.Serve(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	r := &Run{Cell: scenario.Cell{Probe: "p.1"}, Seed: 1, Store: &Store{Kind: "fake-gcs", Bucket: bucket, Endpoint: endpoint, Prefix: "run"}, Metrics: record.NewMetrics()}
	return r, front, endpoint
}

func put(t *testing.T, st store.Store, key string) {
	t.Helper()
	if _, err := st.Put(t.Context(), key, []byte("body"), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
}

// TestAPlaceIsListedBeforeItIsEmptied, if a check has failed by then; the first such place. It is emptied even so.
func TestAPlaceIsListedBeforeItIsEmptied(t *testing.T) {
	t.Parallel()
	r, front, _ := onEmulator(t, "places")
	for i, wrong := range []string{"", "it is lost", ""} {
		p, err := r.OpenPlace(t.Context(), onRun)
		if err != nil {
			t.Fatal(err)
		}
		put(t, p, fmt.Sprint("object-", i))
		r.Check("c", wrong)
		p.Close()
	}
	lines, err := r.LeftInBucket()
	if err != nil || len(lines) != 1 || !strings.HasSuffix(lines[0], "   4  object-1") {
		t.Errorf("%q, %v", lines, err)
	}
	if stored, err := front.Stored(); err != nil || len(stored) != 0 {
		t.Errorf("it was not emptied: %v, %v", stored, err)
	}
}

// TestTheBucketOfTheFailureIsKept: of a run's own buckets, the one on which a check failed is listed, even if others follow it and it is no
// longer served; without a failure, the last one.
func TestTheBucketOfTheFailureIsKept(t *testing.T) {
	t.Parallel()
	for failing, want := range map[int]string{0: "bucket-0", 1: "bucket-1", 9: "bucket-2"} {
		r := &Run{}
		for i := range 3 {
			name := fmt.Sprint("bucket-", i)
			_, front, endpoint := onEmulator(t, name)
			r.On(front)
			p, err := OpenBucketPlace(t.Context(), name, endpoint, "db")
			if err != nil {
				t.Fatal(err)
			}
			put(t, p, "object")
			inner := r.Trial(record.NewMetrics())
			inner.On(front)
			if i == failing {
				inner.Check("c", "it is lost")
			}
			r.Absorb(inner)
		}
		lines, err := r.LeftInBucket()
		if err != nil || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, "  "+want+"/db/object") }) || len(lines) != 1 {
			t.Errorf("the %dth fails: %q, %v, want %s", failing, lines, err, want)
		}
	}
}

// Each cell of a probe has its own folder, with a name that file systems accept.
func TestFailureFolder(t *testing.T) {
	t.Parallel()
	r := &Run{Results: "results", Cell: scenario.Cell{Probe: "e5.6", Label: "spread=true a/b=1.5"}}
	if dir, rel := r.FailureFolder(7); dir != "results/failures/e5.6-spread=true-a-b=1.5-7" || rel != "failures/e5.6-spread=true-a-b=1.5-7" {
		t.Errorf("%s, %s", dir, rel)
	}
	r.Cell.Label = ""
	if dir, _ := r.FailureFolder(7); dir != "results/failures/e5.6-7" {
		t.Error(dir)
	}
}
