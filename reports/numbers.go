package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// README.md has a few numbers in sentences. Each sentence is a template; what is in braces comes from the lines of a probe:
//
//	{e2c.2 commit_ms}                 the median of a metric
//	{e3.7 cold_ms size=100MB}         of the line with that parameter
//	{sql.1 bulk_insert_ratio max}     its maximum; also min, p99
//	{sql.1 verdict}                   the line's verdict
//	{e2b rounds}, {e2b fired}         rounds, and faults that struck, of all current lines of a scenario
//	{e2b lines}                       how many lines that are, and
//	{e2b broken}                      how many checks and expectations did not hold in them
//
// A sentence for which a line is missing is left out, and the text says so.
var placeholder = regexp.MustCompile(`\{([a-z0-9.]+) (\w+)(?: (\w+=\S+?))?(?: (min|max|p99))?\}`)

// inNumbers holds the sentences of "In numbers".
func inNumbers() []string {
	return []string{
		"**[A commit](results/index.html#p-e2c.2)** takes {e2c.2 commit_ms} with one client; a bare write to the store takes {e2c.2 put_ms}.",
		"**[Many clients](results/index.html#p-e2c.3)** share records: 64 of them reach {e2c.3 commits_per_s} commits a second.",
		"**[pgbench](results/index.html#p-clients.2)** (TPC-B): {clients.2 tps_model_per_s} transactions a second with 10 clients, {clients.11 tps_model_per_s} [with 64](results/index.html#p-clients.11).",
		"**[A cold start](results/index.html#p-e3.7)**, from no process to the first row over HTTP, takes {e3.7 cold_ms size=0B} with an empty database, {e3.7 cold_ms size=100MB} with 100 MB, {e3.7 cold_ms size=500MB} with 500 MB.",
		"**[SELECT 1](results/index.html#p-clients.3)** over the loopback takes {clients.3 select1_us}; [a connection](results/index.html#p-clients.15) takes {clients.15 connect_ms} to open and {clients.15 session_bytes} of memory.",
		"**[Size](results/index.html#p-e6.7)** hardly matters when pages are read on demand (`-cache`; the default depends on the instance's memory): the first row takes {e6.7 growth_ratio large=500MB} times as long with 500 MB as with 10 MB, and {e6.7 growth_ratio large=5GB} times with 5 GB.",
		"**[Memory](results/index.html#p-e3.5)**: 500 MB of rows are served within {e3.5 tier_bytes size=500MB}; [5 GB](results/index.html#p-e6.10) were loaded and served with at most {e6.10 load_peak_bytes} resident.",
		"**[Against PGlite on Node](results/index.html#p-sql.1)**, the same SQL: a bulk INSERT takes {sql.1 bulk_insert_ratio} times as long, a scan {sql.1 scan_ratio}, a sort {sql.1 sort_ratio}, a start {sql.1 start_ratio}; verdict of that run, against its goals: {sql.1 verdict}.",
		"**[A month](results/index.html#p-e5.2)** of 1,000 writes and 48 cold starts a day costs ${e5.2 month_usd durability=strict,clients=3} at list price from three clients that share records, ${e5.2 month_usd durability=strict,clients=1} from one, and ${e5.2 month_usd durability=interval,clients=1} with `-durability interval`; at rest, storage only.",
	}
}

// evidenceRows holds the rows of "How do you know?": the question, what was done, and the outcome.
func evidenceRows() [][]string {
	return [][]string{
		{"Is what was acknowledged durable?", "{e2b fired} SIGKILLs, power cuts and outages, at every fault point ([e2b](results/index.html#x-e2b))", "{e2b broken} violations in {e2b rounds} rounds"},
		{"Are there ever two writers?", "{e1.6 distinct_count} different schedules of the protocol's real code, judged after each step ([e1.6](results/index.html#p-e1.6))", "{e1.6 broken} violations"},
		{"Can a writer that was taken over still commit?", "zombies, stopped anywhere and woken again ([e1z](results/index.html#x-e1z)), and hand-overs under load ([e4b](results/index.html#x-e4b))", "{e1z broken} violations in {e1z rounds} rounds ([e1z](results/index.html#x-e1z)), {e4b broken} in {e4b rounds} ([e4b](results/index.html#x-e4b))"},
		{"And with everything at once?", "{chaos rounds} episodes of kills, rivals, stalls and faults, {chaos fired} faults ([chaos](results/index.html#x-chaos))", "{chaos broken} violations"},
		{"And for days?", "{e5.1 virtual_hours_count hours=720} hours of a small application's traffic: {e5.1 kill_count hours=720} kills, {e5.1 switch_count hours=720} revisions, {e5.1 store_fault_count hours=720} faults of the store ([e5.1](results/index.html#p-e5.1))", "{e5.1 broken hours=720} violations; {e5.1 acknowledged_count hours=720} writes, all there"},
		{"Is it PostgreSQL?", "PostgreSQL's own regression tests: {suite.1 files_count} files here and on a native server ([suite](results/index.html#x-suite))", "{suite.1 same_count} print the same"},
		{"Would you notice a bug?", "the code broken on purpose, one place at a time ([e1.7](results/index.html#p-e1.7), [mutants](results/index.html#x-mutants))", "{e1.7 caught_count} caught by the explorer, {mutants.1 caught_count} by chaos, {mutants.2 caught_count} by unit tests"},
	}
}

// numbers renders the sentences.
func numbers(s selection) string {
	var b strings.Builder
	missing := 0
	var lines []record.Record
	for _, sentence := range inNumbers() {
		text, from, ok := fillIn(s, sentence)
		if !ok {
			missing++
			continue
		}
		lines = append(lines, from...)
		fmt.Fprintf(&b, "- %s\n", text)
	}
	if missing == len(inNumbers()) {
		return noRun
	}
	fmt.Fprintf(&b, "\n%s", sources(lines))
	if missing > 0 {
		fmt.Fprintf(&b, " %d more are not measured yet.", missing)
	}
	return b.String() + "\n"
}

// sources says where the numbers come from: possibly several machines, stores and days.
func sources(lines []record.Record) string {
	var machines, stores, targets, days []string
	for _, r := range lines {
		machines = append(machines, fmt.Sprintf("%s (%d)", r.Env.Machine, r.Env.CPUs))
		stores, targets, days = append(stores, r.Env.Store), append(targets, targetName(r.Env.Target)), append(days, date(r))
	}
	when := slices.Min(days)
	if last := slices.Max(days); last != when {
		when += " to " + last
	}
	return fmt.Sprintf("Medians. Machines (CPUs): %s. Store: %s. Target: %s. Days: %s.", distinct(machines), distinct(stores), distinct(targets), when)
}

// distinct lists each word once, in order.
func distinct(words []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(words))), ", ")
}

// evidence renders the rows.
func evidence(s selection) string {
	var rows [][]string
	for _, row := range evidenceRows() {
		text, _, ok := fillIn(s, strings.Join(row, "\x00"))
		if !ok {
			text = row[0] + "\x00" + noRun + "\x00-"
		}
		rows = append(rows, strings.Split(text, "\x00"))
	}
	return table([]string{"question", "what was done", "result"}, rows)
}

// fillIn puts the numbers into a template, and returns the lines that they come from.
func fillIn(s selection, template string) (text string, from []record.Record, ok bool) {
	ok = true
	text = placeholder.ReplaceAllStringFunc(template, func(found string) string {
		m := placeholder.FindStringSubmatch(found)
		value, lines, there := lookUp(s, m[1], m[2], m[3], m[4])
		ok = ok && there
		from = append(from, lines...)
		return value
	})
	return text, from, ok
}

// linesOf returns the lines of a probe, or of a whole scenario, that have the parameters.
func linesOf(s selection, name, param string) (of []record.Record) {
	for _, r := range s.current {
		if (r.Probe == name || r.Scenario == name) && r.Verdict != record.Broken && r.Env.Target != "cloudrun" && hasParam(r, param) {
			of = append(of, r)
		}
	}
	return of
}

// lineOfProbe returns the one of them that counts.
func lineOfProbe(s selection, name, param string) (record.Record, bool) {
	of := linesOf(s, name, param)
	if len(of) == 0 {
		return record.Record{}, false
	}
	return onePerKey(oneMachine(of), func(r record.Record) string { return r.Probe })[0], true
}

// lookUp returns what a placeholder stands for.
func lookUp(s selection, name, what, param, which string) (string, []record.Record, bool) {
	of := linesOf(s, name, param)
	if len(of) == 0 {
		return "", nil, false
	}
	if total, ok := sum(of, what); ok {
		return total, nil, true
	}
	r, _ := lineOfProbe(s, name, param)
	if what == "verdict" {
		return r.Verdict.String(), nil, true
	}
	m, ok := metric(r, what)
	if !ok {
		return "", nil, false
	}
	value := map[string]float64{"": m.P50, "min": m.Min, "max": m.Max, "p99": m.P99}[which]
	return amount(value, m.Unit), []record.Record{r}, true
}

// hasParam reports whether a line has the parameters, given as comma-separated name=value; empty: every line has.
func hasParam(r record.Record, params string) bool {
	for _, param := range strings.Split(params, ",") {
		if name, value, ok := strings.Cut(param, "="); ok && fmt.Sprint(r.Params[name]) != value {
			return false
		}
	}
	return true
}

// sum adds up a count over the most thorough lines of each probe.
func sum(of []record.Record, what string) (string, bool) {
	if !slices.Contains([]string{"rounds", "fired", "lines", "broken"}, what) {
		return "", false
	}
	best := map[string]int{}
	for _, r := range of {
		if rank, ok := best[r.Probe]; !ok || profileRank(r.Profile) < rank {
			best[r.Probe] = profileRank(r.Profile)
		}
	}
	total := int64(0)
	for _, r := range of {
		if profileRank(r.Profile) != best[r.Probe] {
			continue
		}
		switch what {
		case "rounds":
			total += int64(r.Rounds)
		case "broken":
			total += int64(violations(r))
		case "lines":
			total++
		case "fired":
			for _, f := range r.Faults {
				total += f.Fired
			}
		}
	}
	return amount(float64(total), "count"), true
}

// amount writes a quantity for a sentence.
func amount(v float64, unit string) string {
	switch {
	case unit == "usd":
		return fmt.Sprintf("%.2f", v)
	case unit == "count" || unit == "per_s":
		return thousands(v)
	}
	return quantity(v, unit)
}

// thousands writes a whole number with commas.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
