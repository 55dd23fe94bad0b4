package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"blobpglite/core/store"
	"blobpglite/faults/gcsfront"
)

// FailureFolder is where the files of a failure of this run go: a folder for each cell and seed.
func (r *Run) FailureFolder(seed uint64) (dir, rel string) {
	name := r.Cell.Probe
	if r.Cell.Label != "" {
		name += "-" + plain(r.Cell.Label)
	}
	rel = filepath.Join("failures", fmt.Sprintf("%s-%d", name, seed))
	return filepath.Join(r.Results, rel), rel
}

// plain is a text as a part of a file's name.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".=_", c) {
			return c
		}
		return '-'
	}, text)
}

// On says which emulated bucket the run uses from now on. If a check fails, LeftInBucket reports what that bucket holds at the end, and
// later buckets do not take its place.
func (r *Run) On(front *gcsfront.Front) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bucket == nil || len(r.failed) == 0 {
		r.bucket = front
	}
}

// swept records what a place held that is about to be emptied, if a check has failed and nothing was recorded before.
func (r *Run) swept(ctx context.Context, st store.Store) {
	if !r.Failed() || len(r.listing) > 0 {
		return
	}
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			r.listing = append(r.listing, "and more: "+err.Error())
			return
		}
		r.listing = append(r.listing, fmt.Sprintf("%12d  %s", a.Size, a.Key))
	}
}

// LeftInBucket lists the bucket of the run's own on which a check failed, or else the last one, one object per line. Empty: the run had
// none.
func (r *Run) LeftInBucket() ([]string, error) {
	if r.bucket == nil {
		return r.listing, nil
	}
	objects, err := r.bucket.Stored()
	lines := r.listing
	for _, o := range objects {
		lines = append(lines, fmt.Sprintf("%12d  %s/%s", o.Bytes, o.Bucket, o.Key))
	}
	return lines, err
}
