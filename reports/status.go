package main

import (
	"fmt"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// today summarizes the current state in four lines.
func today(s selection, b board) string {
	v := pageView{Probes: len(b.probes)}
	rounds, faults := int64(0), int64(0)
	for _, p := range b.probes {
		v.count(p)
		for _, r := range p.Lines {
			rounds += int64(r.Rounds)
			for _, f := range r.Faults {
				faults += f.Fired
			}
		}
	}
	if v.Probes == 0 {
		return noRun
	}
	lines := []string{
		sentence(v, b),
		fmt.Sprintf("Behind this: %s rounds, %s faults that struck.", grouped(rounds), grouped(faults)),
	}
	if r, ok := soakOfMostHours(s); ok {
		n := func(name string) string { return count(r, name) }
		lines = append(lines, fmt.Sprintf("The longest soak: %s hours of the service's own time, %s writes, %s kills, %s revisions, %s faults of the store: %s.",
			n("virtual_hours_count"), n("acknowledged_count"), n("kill_count"), n("switch_count"), n("store_fault_count"), r.Verdict))
	}
	if r, ok := monthLine(s, "strict"); ok {
		m, _ := metric(r, "month_usd")
		lines = append(lines, fmt.Sprintf("A month of the small application in `strict`: %s at list price; the store's and the product's counts of its requests %s.", figure(m.P50, "usd"), equalWord(r)))
	}
	return "- " + strings.Join(lines, "\n- ") + "\n"
}

// soakOfMostHours returns the soak with the most hours; of several, the newest.
func soakOfMostHours(s selection) (longest record.Record, ok bool) {
	most := 0.0
	for _, r := range s.current {
		if r.Probe != "e5.1" || r.Env.Target == cloudRun || r.Verdict != record.Pass && r.Verdict != record.Fail {
			continue
		}
		if m, there := metric(r, "virtual_hours_count"); there && (m.Max > most || m.Max == most && r.Started.After(longest.Started)) {
			longest, most, ok = r, m.Max, true
		}
	}
	return longest, ok
}

// count writes a metric's largest value, for people.
func count(r record.Record, name string) string {
	m, ok := metric(r, name)
	if !ok {
		return "?"
	}
	return figure(m.Max, m.Unit)
}

func equalWord(r record.Record) string {
	for _, c := range r.Checks {
		if c.Name == "reconciled" && c.Verdict == record.Pass {
			return "are exactly equal"
		}
	}
	return "differ"
}

// byQuestion renders a row for each experiment, under its question.
func byQuestion(b board) string {
	if len(b.experiments) == 0 {
		return noRun
	}
	var rows [][]string
	for _, q := range questions() {
		for _, name := range q.scenarios {
			i := slices.IndexFunc(b.experiments, func(x experimentView) bool { return x.ID == name })
			if i < 0 {
				continue
			}
			x := b.experiments[i]
			verdict, rounds, worst, worstRounds := record.Recorded, int64(0), "-", 0
			for _, p := range x.Probes {
				verdict = verdict.Worse(p.Verdict)
				for _, r := range p.Lines {
					rounds += int64(r.Rounds)
					if bound := upperBound(r); bound != "-" && (worstRounds == 0 || r.Rounds < worstRounds) {
						worst, worstRounds = bound, r.Rounds
					}
				}
			}
			rows = append(rows, []string{q.text, fmt.Sprintf("[%s](results/index.html#x-%s)", x.ID, x.ID), oneLine(x.Question), "**" + verdict.String() + "**", grouped(rounds), worst})
		}
	}
	return table([]string{"", "experiment", "question", "verdict", "rounds", "worst upper bound"}, rows)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// failedAndFound renders the probes that do not hold, with what was seen, and the faults that this project has found in itself.
func failedAndFound(b board) string {
	var rows [][]string
	for _, p := range b.probes {
		for _, r := range p.Lines {
			for _, c := range r.Checks {
				if c.Verdict != record.Pass {
					detail := c.Detail
					if len(detail) > 200 {
						detail = strings.ToValidUTF8(detail[:200], "") + "…"
					}
					rows = append(rows, []string{p.ID, r.Claim, paramsText(r), "`" + c.Name + "`: " + detail, "`" + shortCommit(r.Commit) + "`", date(r)})
				}
			}
		}
	}
	text := "Nothing fails.\n"
	if len(rows) > 0 {
		text = table([]string{"probe", "claim", "params", "what was seen", "commit", "date"}, rows)
	}
	rows = nil
	for _, f := range bugs() {
		if f.where == ours {
			rows = append(rows, []string{f.what, f.by, f.holds})
		}
	}
	return text + "\nFound in our own code by these experiments, and fixed:\n\n" + table([]string{"fault", "found by", "what holds now"}, rows)
}

// everyProbe renders a row for each probe: the newest lines of its most thorough profile, combined.
func everyProbe(s selection, b board) string {
	if len(b.probes) == 0 {
		return noRun
	}
	var rows [][]string
	for _, p := range b.probes {
		rounds, fired, wrong := 0, int64(0), 0
		commits, bound, last := map[string]bool{}, "-", p.Lines[0]
		var hashes []string
		for _, r := range p.Lines {
			rounds += r.Rounds
			wrong += violations(r)
			for _, f := range r.Faults {
				fired += f.Fired
			}
			if c := shortCommit(r.Commit); !commits[c] {
				commits[c] = true
				hashes = append(hashes, "`"+c+"`")
			}
			if r.Started.After(last.Started) {
				last = r
			}
		}
		if len(p.Lines) == 1 {
			bound = upperBound(p.Lines[0])
		}
		rows = append(rows, []string{
			p.ID, p.Claim, paramLists(p.Lines), last.Profile, targetName(last.Env.Target) + ", " + last.Env.Store, "**" + p.Verdict.String() + "**", fmt.Sprint(rounds), fmt.Sprint(fired), fmt.Sprint(wrong), bound,
			strings.Join(hashes[:min(len(hashes), 3)], " "), date(last),
		})
	}
	text := table([]string{"probe", "claim", "params", "profile", "target", "verdict", "rounds", "faults fired", "violations", "upper bound", "commit", "date"}, rows)
	if s.unclean > 0 || s.retracted > 0 {
		text += fmt.Sprintf("\nLines left out: %d from an unclean tree, %d retracted.\n", s.unclean, s.retracted)
	}
	return text
}

// reproduced says where and when a fault of the track record was last tried, and how to try it again.
func reproduced(s selection, b bug) (commit, command string) {
	if b.probe != "" {
		scenario, _, _ := strings.Cut(b.probe, ".")
		commit, command = "-", fmt.Sprintf("`go run ./runner -scenario %s -probe %s`", scenario, b.probe)
		if r, ok := newestOf(s, b.probe); ok {
			commit = "`" + shortCommit(r.Commit) + "`"
		}
	}
	if b.test != "" {
		test := fmt.Sprintf("`go test ./%s -run %s`", b.folder, b.test)
		if command == "" {
			return "at every push", test
		}
		command = test + ", " + command
	}
	return commit, command
}
