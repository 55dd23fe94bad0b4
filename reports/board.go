package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"blobpglite/runner/record"
	"blobpglite/runner/registry"
	"blobpglite/runner/scenario"
)

// question is what a reader wants to know, with the experiments that answer it.
type question struct {
	id, text, done string
	scenarios      []string
	// one holds single probes of other experiments.
	probes []string
}

// questions returns the questions in the order of the page and of STATUS.md. The first five are on the first screen.
func questions() []question {
	return []question{
		{id: "durable", text: "Is what was acknowledged durable?", scenarios: []string{"e2b", "e2", "e2c"},
			done: "Processes are killed and power is cut at every point between two writes, and stores lose replies; afterwards everything acknowledged must be there"},
		{id: "writers", text: "Can there be two writers, ever?", scenarios: []string{"e1", "e4b", "e0"},
			done: "The protocol's own code is run through its interleavings, and processes take over from each other by the hundreds"},
		{id: "zombies", text: "What does a frozen writer do when it wakes?", scenarios: []string{"e1z", "e4"},
			done: "Writers are frozen at every point, taken over, and woken in the middle of their commit"},
		{id: "anything", text: "And everything at once, for days?", scenarios: []string{"chaos", "e5"},
			done: "Random episodes by seed, and days of traffic with kills, failing stores and clocks that step"},
		{id: "notice", text: "Would you notice?", scenarios: []string{"mutants", "unit-local"}, probes: []string{"e1.7", "e5.5"},
			done: "The code is broken on purpose, one mutant at a time, and each must be caught"},
		{id: "speed", text: "How fast, how large, at what price?", scenarios: []string{"e3", "e5b", "e6", "e2d"},
			done: "Cold starts, commits, databases larger than memory, and readers next to the writer, measured with a model of the service's latency"},
		{id: "programs", text: "Do real programs work with it, even at the edges?", scenarios: []string{"clients", "edges"},
			done: "Drivers, tools and frameworks as people use them, and all kinds of odd requests to a server"},
		{id: "postgres", text: "Is it PostgreSQL?", scenarios: []string{"suite", "sql"},
			done: "PostgreSQL's own regression and isolation tests, and the same statements against Node PGlite and a native server"},
	}
}

// probeView is a probe as people see it: its newest lines of the most thorough profile.
type probeView struct {
	ID, Claim string
	Verdict   record.Verdict
	Real      bool // one of its lines comes from a real bucket
	Lines     []record.Record
}

// Class is the style of its cell.
func (p probeView) Class() string {
	switch {
	case !p.Verdict.Holds():
		return "bad"
	case p.Real:
		return "real"
	}
	return "emulated"
}

// experimentView is a scenario with its document's prose.
type experimentView struct {
	ID, Title, Question, Kill, Decides string
	Probes                             []probeView
}

// board holds everything, by question.
type board struct {
	questions   []questionView
	experiments []experimentView
	metricDocs  map[string]string // by metric, and by probe/metric
	probes      []probeView
}

type questionView struct {
	ID, Text, Done, Found string
	Probes                []probeView
}

// makeBoard sorts the current lines by question.
func makeBoard(s selection) (board, error) {
	b := board{metricDocs: map[string]string{}}
	if _, err := documents(); err != nil {
		return b, err
	}
	byScenario := map[string][]probeView{}
	for _, p := range probesOf(s) {
		b.probes = append(b.probes, p)
		name := p.Lines[0].Scenario
		byScenario[name] = append(byScenario[name], p)
	}
	if err := b.documents(byScenario); err != nil {
		return b, err
	}
	for _, q := range questions() {
		v := questionView{ID: q.id, Text: q.text, Done: q.done}
		for _, name := range q.scenarios {
			for _, p := range byScenario[name] {
				if !takenElsewhere(q, p.ID) {
					v.Probes = append(v.Probes, p)
				}
			}
		}
		for _, id := range q.probes {
			if i := slices.IndexFunc(b.probes, func(p probeView) bool { return p.ID == id }); i >= 0 {
				v.Probes = append(v.Probes, b.probes[i])
			}
		}
		slices.SortStableFunc(v.Probes, func(x, y probeView) int { return cmp.Compare(order(x), order(y)) })
		v.Found = found(v.Probes)
		b.questions = append(b.questions, v)
	}
	return b, nil
}

// takenElsewhere reports whether another question names the probe itself.
func takenElsewhere(q question, probe string) bool {
	for _, other := range questions() {
		if other.id != q.id && slices.Contains(other.probes, probe) {
			return true
		}
	}
	return false
}

// order puts failed probes first.
func order(p probeView) int {
	return map[string]int{"bad": 0, "emulated": 1, "real": 2}[p.Class()]
}

// found returns the result of a question's probes, as a sentence.
func found(probes []probeView) string {
	if len(probes) == 0 {
		return "No run recorded yet."
	}
	held, recorded, rounds, faults := 0, 0, 0, int64(0)
	var bad []string
	for _, p := range probes {
		switch p.Verdict {
		case record.Pass:
			held++
		case record.Recorded:
			recorded++
		default:
			bad = append(bad, p.ID+": "+p.Verdict.String())
		}
		for _, r := range p.Lines {
			rounds += r.Rounds
			for _, f := range r.Faults {
				faults += f.Fired
			}
		}
	}
	text := fmt.Sprintf("%d of %d probes hold%s, %s rounds", held, len(probes), alsoRecorded(recorded), grouped(int64(rounds)))
	if faults > 0 {
		text += fmt.Sprintf(", %s faults struck", grouped(faults))
	}
	if len(bad) > 0 {
		text += "; not: " + strings.Join(bad, ", ")
	}
	return text + "."
}

// alsoRecorded mentions probes without expectations, which only record what they measure.
func alsoRecorded(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return ", 1 is only recorded"
	}
	return fmt.Sprintf(", %d are only recorded", n)
}

func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// probesOf groups the current lines by probe: for each cell, the newest of its most thorough profile.
func probesOf(s selection) []probeView {
	var all []probeView
	seen := map[string]bool{}
	for _, r := range s.current { // by probe, then by profile, the most thorough first, the newest of a cell first
		if seen[cellKey(r)] {
			continue
		}
		seen[cellKey(r)] = true
		r.Claim = claimOf(r)
		i := slices.IndexFunc(all, func(p probeView) bool { return p.ID == r.Probe })
		if i < 0 {
			all = append(all, probeView{ID: r.Probe, Claim: r.Claim, Verdict: r.Verdict})
			i = len(all) - 1
		}
		p := &all[i]
		p.Lines = append(p.Lines, r)
		p.Verdict = p.Verdict.Worse(r.Verdict)
		p.Real = p.Real || r.Env.Store == "gcs" && r.Env.Target != scenario.TargetEmulator || r.Env.Target == cloudRun
		if p.Claim != r.Claim {
			p.Claim = commonClaim(p.Claim, r.Claim)
		}
	}
	return all
}

// commonClaim returns what two claims have in common, word by word; the rest differs between cells.
func commonClaim(a, b string) string {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return a
	}
	for i := range x {
		if x[i] != y[i] {
			x[i] = "…"
		}
	}
	return strings.Join(x, " ")
}

// documents adds the prose of the scenarios, and the documentation of their metrics.
func (b *board) documents(byScenario map[string][]probeView) error {
	language := registry.Language()
	for _, v := range language.Verbs {
		for _, m := range v.Metrics {
			if b.metricDocs[m.Name] == "" {
				b.metricDocs[m.Name] = m.Doc
			}
		}
	}
	docs, err := loaded()
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(byScenario)) {
		x := experimentView{ID: id, Title: id, Probes: byScenario[id]}
		if doc := docs[id]; doc != nil { // otherwise the document no longer exists
			x.Title, x.Question, x.Kill, x.Decides = doc.Title, doc.Question, doc.Kill, doc.Decides
			b.ofVerbs(doc, language)
		}
		b.experiments = append(b.experiments, x)
	}
	return nil
}

// ofVerbs adds the documentation of each probe's metrics, by the verbs of its steps.
func (b *board) ofVerbs(doc *scenario.Scenario, language scenario.Registry) {
	for _, p := range doc.Probes {
		for _, used := range p.Steps {
			for _, v := range language.Verbs {
				if v.Name != used.Verb {
					continue
				}
				for _, m := range v.Metrics {
					b.metricDocs[p.ID+"/"+m.Name] = m.Doc
				}
			}
		}
	}
}

// metricName returns a metric's name for people, without the suffix for its unit.
func (b board) metricName(probe, name string) string {
	if doc := cmp.Or(b.metricDocs[probe+"/"+name], b.metricDocs[name]); doc != "" {
		return doc
	}
	words := name
	for _, suffix := range []string{"_ms", "_us", "_bytes", "_ratio", "_per_s", "_count", "_usd"} {
		words = strings.TrimSuffix(words, suffix)
	}
	return strings.ReplaceAll(words, "_", " ")
}
