package step

import (
	"slices"

	"blobpglite/runner/check"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

type scenarioFault = scenario.Fault

// seamHTTP is where a document's rules meet requests to the bucket.
const seamHTTP = "http"

// Names of the checks of experiments with child processes.
const (
	checkBank         = "bank"
	checkLinearizable = "linearizable"
	checkDenseLog     = "dense-log"
	checkWriteOnce    = "write-once"
)

func faultChecks() []scenario.Named {
	return []scenario.Named{
		{Name: checkBank, Doc: "the sum holds in every read and in every restored state, and the balances are those that the transfers make"},
		{Name: checkLinearizable, Doc: "some order of the register and bank operations explains what every client saw"},
		{Name: checkDenseLog, Doc: "the log is dense and chained, epochs never fall, and what the manifest names is complete"},
		{Name: checkWriteOnce, Doc: "no record was created twice, and no fence was deleted"},
	}
}

// judge records a judgement. One that looked at nothing has not held.
func (r *Run) judge(name string, res check.Result) bool {
	if res.Wrong != "" || res.Looked > 0 {
		r.check(name, res.Wrong)
	}
	return res.Wrong == ""
}

// struck counts a rule's strikes.
func (r *Run) struck(rule string, n int64) {
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

func (r *Run) addOps(o record.Ops) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Ops = r.Ops.Add(o)
}
