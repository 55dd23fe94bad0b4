package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"blobpglite/runner/check"
	"blobpglite/runner/node"
	"blobpglite/runner/record"
)

// SeamHTTP is the seam at which a document's fault rules apply to requests to the bucket.
const SeamHTTP = "http"

// Judged records a judgement, and reports whether it held. One that looked at nothing did not.
func (r *Run) Judged(name string, res check.Result) bool {
	if res.Wrong != "" || res.Looked > 0 {
		r.Check(name, res.Wrong)
	}
	return res.Wrong == ""
}

// Struck adds n to the count of a rule's strikes.
func (r *Run) Struck(rule string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.Faults, func(f record.Fault) bool { return f.Rule == rule })
	if i < 0 {
		r.Faults = append(r.Faults, record.Fault{Rule: rule})
		i = len(r.Faults) - 1
	}
	r.Faults[i].Fired += n
}

func (r *Run) firedCounts() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[string]int64{}
	for _, f := range r.Faults {
		counts[f.Rule] += f.Fired
	}
	return counts
}

// AddOps adds operations on a bucket of the verb's own to the run's.
func (r *Run) AddOps(o record.Ops) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Ops = r.Ops.Add(o)
}

// Blame turns an error of the database, or a missing answer within the limit, into a failed check and returns nil; it returns an error of
// the harness.
func (r *Run) Blame(check, what string, err error) error {
	var failed *node.Error
	var ended *node.EndedError
	if errors.As(err, &failed) || errors.As(err, &ended) || errors.Is(err, context.DeadlineExceeded) {
		r.Check(check, fmt.Sprintf("%s: %v", what, err))
		return nil
	}
	return err
}
