package mutants

import (
	"fmt"
	"os"
	"strings"

	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// Metrics returns the metrics of a hunt for mutants; unit is what is counted until one is caught.
func Metrics(all []mutant.Mutant, unit string) []scenario.MetricDoc {
	docs := bench.MetricDocs("mutants_count", "mutants tried", "caught_count", "mutants caught", "until_caught_count", unit+" until a mutant was caught")
	for _, m := range all {
		docs = append(docs, scenario.MetricDoc{Name: mutantMetric(m.Name), Doc: unit + " until it was caught: " + m.Doc})
	}
	return docs
}

// Hunted records the result for a mutant: which check caught it (empty: none), after how many schedules or rounds. It returns 1 if it was
// caught, otherwise 0.
func Hunted(r *bench.Run, m mutant.Mutant, by string, after int, detail string) int {
	c := record.Check{Name: fmt.Sprintf("mutant %s is caught", m.Name), Verdict: record.Fail, Detail: m.Doc + ": " + detail}
	if by == "" {
		r.Found(c)
		return 0
	}
	c.Name, c.Verdict = fmt.Sprintf("mutant %s caught by %s", m.Name, by), record.Pass
	r.Found(c)
	r.Metrics.Value(mutantMetric(m.Name), float64(after))
	r.Metrics.Value("until_caught_count", float64(after))
	return 1
}

// huntFolder is a folder for mutants, and the root of the sources that they break. Call done.
func huntFolder() (root, dir string, done func(), err error) {
	if root, err = mutant.Root("."); err != nil {
		return "", "", nil, err
	}
	dir, err = os.MkdirTemp("", "mutants-")
	return root, dir, func() { _ = os.RemoveAll(dir) }, err
}

func mutantMetric(name string) string {
	return "mutant_" + strings.ReplaceAll(name, "-", "_") + "_count"
}
