package main

import (
	"fmt"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// maxCommitMS is the commit time up to which a full snapshot per commit is called
// acceptable. A commit ends with a conditional write to the manifest, and Cloud
// Storage accepts about one write per second to one object name ("Object immutability",
// cloud.google.com/storage/quotas, reviewed 2026-11): up to this time, the
// snapshot limits commits no more than the store already does.
const maxCommitMS = 1000

// decisions lists what the experiments had to decide, and what the results say.
func decisions(s selection) string {
	return table([]string{"decision", "experiment", "answer", "evidence"}, decisionRows(s))
}

// decisionRows returns the decision, experiment, answer and evidence of each.
func decisionRows(s selection) [][]string {
	snapshot, evidence := snapshotThreshold(s)
	live, liveEvidence := liveSnapshot(s)
	host, hostEvidence := hostDecision(s)
	emulator, emulatorEvidence := emulatorDecision(s)
	commit, commitEvidence := commitDecision(s)
	fresh, freshEvidence := freshDecision(s)
	liveness, livenessEvidence := livenessDecision(s)
	month, monthEvidence := monthDecision(s)
	return [][]string{
		{"Can the store be tested against an emulator, or only against real buckets?", "e0", emulator, emulatorEvidence},
		{"Can a snapshot be taken from a live instance during a session, and how?", "e2.3", live, liveEvidence},
		{"At what database size does a full snapshot per commit become unacceptable?", "e2.1", snapshot, evidence},
		{"How does a commit become durable instead, and what does that cost?", "e2c.2, e2c.3", commit, commitEvidence},
		{"Does PostgreSQL run in the Go process itself, without Node?", "sql.1", host, hostEvidence},
		{"Is a new database created by initdb, or from a prepared image?", "e3.2", fresh, freshEvidence},
		{"Does the lease need background work, or is it validated on the request path?", "e4.1, e4.1b", liveness, livenessEvidence},
		{"What does a month cost: 1,000 writes a day in 48 cold starts?", "e5.2", month, monthEvidence},
	}
}

// snapshotThreshold finds where the commit time crosses the limit. Between two
// measured sizes it interpolates; outside of them it gives only a bound.
func snapshotThreshold(s selection) (answer, evidence string) {
	type point struct {
		bytes, ms float64
		line      record.Record
	}
	var points []point
	for _, r := range roundTrips(s) {
		size, ok1 := metric(r, "database_bytes")
		commit, ok2 := metric(r, "commit_ms")
		if ok1 && ok2 {
			points = append(points, point{size.P50, commit.P50, r})
		}
	}
	if len(points) == 0 {
		return noRun, "-"
	}
	over := slices.IndexFunc(points, func(p point) bool { return p.ms > maxCommitMS })
	last := points[len(points)-1]
	evidence = fmt.Sprintf("store %s, commit `%s`:", last.line.Env.Store, shortCommit(last.line.Commit))
	for _, p := range points {
		evidence += fmt.Sprintf(" %s in %s;", quantity(p.bytes, "bytes"), quantity(p.ms, "ms"))
	}
	evidence = evidence[:len(evidence)-1]
	limit := quantity(maxCommitMS, "ms")
	switch over {
	case -1:
		return fmt.Sprintf("Above %s, the largest size measured: even there a commit stays within %s. The time grows with the database, not "+
			"with the change, so the commit log carries commits and snapshots become base layers.", quantity(last.bytes, "bytes"), limit), evidence
	case 0:
		return fmt.Sprintf("Below %s, the smallest size measured: even there a commit takes more than %s. The commit log has to carry commits.",
			quantity(points[0].bytes, "bytes"), limit), evidence
	}
	lo, hi := points[over-1], points[over]
	at := lo.bytes + (hi.bytes-lo.bytes)*(maxCommitMS-lo.ms)/(hi.ms-lo.ms)
	return fmt.Sprintf("From about %s on (interpolated between %s and %s) a commit takes more than %s. The commit log has to carry commits; "+
		"snapshots become base layers.", quantity(at, "bytes"), quantity(lo.bytes, "bytes"), quantity(hi.bytes, "bytes"), limit), evidence
}

// cloudRun is the real target.
const cloudRun = "cloudrun"

// newestOf finds the newest line of a probe that has a verdict about its claim, from this machine and not from Cloud Run.
func newestOf(s selection, probe string) (record.Record, bool) {
	return newestOn(s, probe, func(target string) bool { return target != cloudRun })
}

func newestOn(s selection, probe string, on func(target string) bool) (record.Record, bool) {
	for _, r := range slices.Backward(s.history) {
		if r.Probe == probe && on(r.Env.Target) && (r.Verdict == record.Pass || r.Verdict == record.Fail) {
			return r, true
		}
	}
	return record.Record{}, false
}

func evidenceOf(r record.Record) string {
	return fmt.Sprintf("%s, %d rounds, commit `%s`, %s", r.Verdict, r.Rounds, shortCommit(r.Commit), date(r))
}

func liveSnapshot(s selection) (answer, evidence string) {
	r, ok := newestOf(s, "e2.3")
	if !ok {
		return noRun, "-"
	}
	if r.Verdict != record.Pass {
		return "Not as built: see the line's checks.", evidenceOf(r)
	}
	return fmt.Sprintf("Yes: by a copy-on-write clone of the files between two statements, taken in %s while a transaction was open; the rest works "+
		"on the clone.", p50(r, "clone_us")), evidenceOf(r)
}

func hostDecision(s selection) (answer, evidence string) {
	r, ok := newestOf(s, "sql.1")
	if !ok {
		return noRun, "-"
	}
	worst, name := 0.0, ""
	for _, c := range sqlCases() {
		if m, ok := metric(r, c.name+"_ratio"); ok && m.P50 > worst {
			worst, name = m.P50, c.title
		}
	}
	if name == "" {
		return noRun, "-"
	}
	answer = "Yes"
	if r.Verdict != record.Pass {
		answer = "Open: a case is over its limit"
	}
	return fmt.Sprintf("%s: the slowest case compared with Node is %s, which takes %s times as long.", answer, name, quantity(worst, "ratio")), evidenceOf(r)
}

func freshDecision(s selection) (answer, evidence string) {
	image, ok := newestOf(s, "e2.4")
	if !ok {
		return noRun, "-"
	}
	answer = fmt.Sprintf("From a prepared image: %s, where initdb takes seconds.", p50(image, "new_database_ms"))
	evidence = "e2.4: " + evidenceOf(image)
	if wake, ok := newestOf(s, "e3.2"); ok {
		answer += fmt.Sprintf(" On the Cloud Run emulator a process that starts with a new database returns its first row after %s.", p50(wake, "first_row_ms"))
		evidence += "; e3.2: " + evidenceOf(wake)
	}
	return answer, evidence
}

// livenessDecision says what keeps a writer's lease alive: nothing in the background, if the probes with frozen writers held.
func livenessDecision(s selection) (answer, evidence string) {
	// Results from Cloud Run itself take precedence, if there are both.
	there := func(target string) bool { return target == cloudRun }
	where := "on Cloud Run, "
	frozen, ok1 := newestOn(s, "e4.1", there)
	rival, ok2 := newestOn(s, "e4.1b", there)
	if !ok1 || !ok2 {
		where = ""
		frozen, ok1 = newestOf(s, "e4.1")
		rival, ok2 = newestOf(s, "e4.1b")
	}
	if !ok1 || !ok2 {
		return noRun, "-"
	}
	evidence = where + "e4.1: " + evidenceOf(frozen) + "; e4.1b: " + evidenceOf(rival)
	if frozen.Verdict != record.Pass || rival.Verdict != record.Pass {
		return "Open: a probe did not hold.", evidence
	}
	return fmt.Sprintf("It is validated at the start of a request, and nothing runs between requests (b). A writer frozen for longer than its lease "+
		"makes no requests in that time, and its next commit takes %s; one that was taken over is refused. CPU that is always on (a) only "+
		"costs more; pings (c) would be one more thing that must not fail.", p50(frozen, "next_commit_ms")), evidence
}

// monthLine returns the newest bill of the small application with a durability.
func monthLine(s selection, durability string) (record.Record, bool) {
	for _, r := range slices.Backward(s.history) {
		clients, _ := r.Params["clients"].(float64)
		if r.Probe == "e5.2" && r.Params["durability"] == durability && clients != 1 && (r.Verdict == record.Pass || r.Verdict == record.Fail) {
			return r, true
		}
	}
	return record.Record{}, false
}

// monthDecision returns the bill of the small application, by durability and CPU mode.
func monthDecision(s selection) (answer, evidence string) {
	var parts, from []string
	always := ""
	for _, durability := range []string{"strict", "interval", "sleep"} {
		r, ok := monthLine(s, durability)
		if !ok {
			continue
		}
		usd := func(name string) string {
			m, ok := metric(r, name)
			if !ok {
				return "?"
			}
			return fmt.Sprintf("$%.2f", m.P50)
		}
		parts = append(parts, fmt.Sprintf("`%s` %s (Cloud Run %s, operations %s, storage %s; %s after Cloud Run's free tier)",
			durability, usd("month_usd"), usd("month_run_usd"), usd("month_operations_usd"), usd("month_storage_usd"), usd("month_free_usd")))
		always = usd("month_always_usd")
		from = append(from, durability+": "+evidenceOf(r))
	}
	if len(parts) == 0 {
		return noRun, "-"
	}
	return fmt.Sprintf("At list price, from what the Cloud Run emulator billed and the store counted in a day: %s. With an instance that always has CPU: %s. For comparison: %s (details and sources: cloud/README.md).",
		strings.Join(parts, "; "), always, peersInWords()), "e5.2, " + strings.Join(from, "; ")
}

// emulatorDecision says whether the embedded emulator is good enough for tests: whether everything that e0 requires of the
// store held there.
func emulatorDecision(s selection) (answer, evidence string) {
	seen := map[string]record.Record{}
	for _, r := range s.history {
		if r.Scenario == "e0" && r.Env.Store == "fake-gcs" && (r.Verdict.Holds() || r.Verdict == record.Fail) {
			seen[r.Probe] = r
		}
	}
	if len(seen) == 0 {
		return noRun, "-"
	}
	var failed []string
	var last record.Record
	for probe, r := range seen {
		if !r.Verdict.Holds() {
			failed = append(failed, probe)
		}
		if r.Started.After(last.Started) {
			last = r
		}
	}
	slices.Sort(failed)
	evidence = fmt.Sprintf("%d probes of e0 on fake-gcs, newest: %s", len(seen), evidenceOf(last))
	if len(failed) > 0 {
		return fmt.Sprintf("Only against real buckets: on the emulator %s did not hold.", strings.Join(failed, ", ")), evidence
	}
	return "Against the emulator, behind a front that corrects what it gets wrong. How a real bucket behaves takes a run with -bucket.", evidence
}

// commitDecision compares the log's commit with the single request that it consists of, and with swapping a manifest.
func commitDecision(s selection) (answer, evidence string) {
	latency, ok1 := newestOf(s, "e2c.2")
	rate, ok2 := newestOf(s, "e2c.3")
	if !ok1 || !ok2 {
		return noRun, "-"
	}
	commit, _ := metric(latency, "commit_ms")
	put, _ := metric(latency, "put_ms")
	many, _ := metric(rate, "commits_per_s")
	swaps, _ := metric(rate, "swaps_per_s")
	answer = fmt.Sprintf("By one record in a log, created under the next name. With the modeled latency a commit takes %s (a bare conditional PUT: %s) at "+
		"any database size, and %v clients reach %s, compared with %s by swapping one manifest. So whole snapshots are never worth it as "+
		"commits; they are taken when a restore would take too long.",
		quantity(commit.P50, "ms"), quantity(put.P50, "ms"), rate.Params["clients"], quantity(many.P50, "per_s"), quantity(swaps.P50, "per_s"))
	return answer, "e2c.2: " + evidenceOf(latency) + "; e2c.3: " + evidenceOf(rate)
}
