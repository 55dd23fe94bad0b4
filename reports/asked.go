package main

import (
	"strings"
)

// asked is a question that readers have about a probe, and where the page answers it.
type asked struct {
	Question, Answer string
	To               string // an anchor of the page; empty: no run answers it yet
	shows            string // what the section contains, for the test
}

// tenQuestions are rendered on the page. An answer is a template of numbers.go; the anchor is that of a probe (p-) or of an experiment (x-).
func tenQuestions(s selection, b board) []asked {
	list := []asked{
		{Question: "What exactly was claimed, and did it hold?", Answer: "{e2b.1 verdict}: the claim is next to the verdict, with the checks that judged it below.", To: "p-e2b.1", shows: "checks hold"},
		{Question: "How often was it tried, and how likely could a failure still be?", Answer: "{e1z.2 rounds} times here. Without a failure in n rounds, failures are rarer than 3 in n, with 95 % confidence.", To: "p-e1z.2", shows: "failures are rarer than"},
		{Question: "Did anything go wrong while it was tried?", Answer: "{chaos.1 fired} faults struck here. A probe of faults in which none strikes is vacuous, and counts as a failure.", To: "p-chaos.1", shows: "faults struck"},
		{Question: "Where and when did it run, and how do I repeat it?", Answer: "Machine, commit and time are under each variant's name; the command includes its seed, and has a button to copy it.", To: "p-e5.1", shows: "-seed "},
		{Question: "Is this the best of several variants?", Answer: "All are shown: ${e5.2 month_usd durability=strict,clients=3} a month from three clients, ${e5.2 month_usd durability=strict,clients=1} from one.", To: "p-e5.2", shows: "clients=1"},
		{Question: "Is the median all there is, or is there a tail?", Answer: "Median and p99 are next to each other: {e2c.2 commit_ms} and {e2c.2 commit_ms p99} for a commit; with 20 values or more, so is the distribution.", To: "p-e2c.2", shows: "<svg class=d "},
		{Question: "Has it become faster or slower?", Answer: "The last column plots the median over commits, where the same cell ran on the same machine at least three times.", To: withTrend(s, b), shows: "<svg class=t "},
		{Question: "What does not hold, and what was seen?", Answer: "Such probes come first on the board, and what was seen is above what was measured.", To: failing(b), shows: `class="fail"`},
		{Question: "Would it notice if the code were wrong?", Answer: "{e1.7 caught_count} of {e1.7 mutants_count} ways in which the protocol was broken on purpose were caught by the explorer.", To: "p-e1.7", shows: "mutant"},
		{Question: "What would have changed the design, and what was decided?", Answer: "Each experiment says so before its probes; the answers are under Decisions.", To: "x-e1", shows: "What would change the design"},
	}
	for i := range list {
		text, _, ok := fillIn(s, list[i].Answer)
		if list[i].Answer = text; !ok || !b.hasAnchor(list[i].To) {
			list[i].Answer, list[i].To = "No run recorded yet.", ""
		}
	}
	return list
}

// hasAnchor reports whether the page has the section of a probe or of an experiment.
func (b board) hasAnchor(to string) bool {
	kind, id, _ := strings.Cut(to, "-")
	for _, x := range b.experiments {
		if kind == "x" && x.ID == id {
			return true
		}
		for _, p := range x.Probes {
			if kind == "p" && p.ID == id {
				return true
			}
		}
	}
	return false
}

// withTrend returns the first probe for which the page follows something over commits.
func withTrend(s selection, b board) string {
	for _, p := range b.probes {
		for _, r := range p.Lines {
			for _, m := range r.Metrics {
				if m.N > 0 && trendOf(s, r, m.Name) != nil {
					return "p-" + p.ID
				}
			}
		}
	}
	return ""
}

// failing returns the first probe that does not hold.
func failing(b board) string {
	for _, p := range b.probes {
		if !p.Verdict.Holds() {
			return "p-" + p.ID
		}
	}
	return ""
}
