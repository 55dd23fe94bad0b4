package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// violations counts the checks and expectations that did not hold.
func violations(r record.Record) int {
	n := 0
	for _, c := range r.Checks {
		if c.Verdict == record.Fail {
			n++
		}
	}
	return n
}

// upperBound is the rule of three: after n rounds without a violation the rate of
// violations is below 3/n with 95 % confidence. It says nothing below four rounds
// or after a violation.
func upperBound(r record.Record) string {
	if r.Verdict != record.Pass || violations(r) > 0 || r.Rounds < 4 {
		return "-"
	}
	return fmt.Sprintf("3/%d = %s %%", r.Rounds, digits(300/float64(r.Rounds)))
}

// roundTrips returns the lines of e2.1 that have numbers, one for each size, smallest
// first.
func roundTrips(s selection) []record.Record {
	var lines []record.Record
	for _, r := range s.current {
		if r.Probe == "e2.1" && r.Verdict != record.Broken && len(r.Metrics) > 0 {
			lines = append(lines, r)
		}
	}
	return onePerKey(oneMachine(lines), sizeParam)
}

// onePerKey returns the line of the most thorough profile, and of those the newest,
// for each key; in the order of the keys.
func onePerKey[K cmp.Ordered](lines []record.Record, key func(record.Record) K) []record.Record {
	slices.SortStableFunc(lines, func(a, b record.Record) int {
		return cmp.Or(cmp.Compare(key(a), key(b)), cmp.Compare(profileRank(a.Profile), profileRank(b.Profile)), b.Started.Compare(a.Started))
	})
	return slices.CompactFunc(lines, func(a, b record.Record) bool { return key(a) == key(b) })
}

// performanceE2 renders the round trip by size.
func performanceE2(s selection) string {
	lines := roundTrips(s)
	if len(lines) == 0 {
		return noRun
	}
	columns := []string{
		"rows", "database", "stored", "clone", "compress", "upload", "manifest CAS", "commit",
		"restore", "download", "decompress", "runtime", "Postgres start", "first row", "peak memory", "verdict",
	}
	names := []string{
		"database_bytes", "compressed_bytes", "clone_us", "compress_ms", "upload_ms", "manifest_cas_ms", "commit_ms",
		"restore_ms", "restore_download_ms", "restore_decompress_ms", "runtime_ms", "restore_start_ms", "first_row_ms",
	}
	var rows [][]string
	for _, r := range lines {
		row := []string{fmt.Sprint(r.Params["size"])}
		for _, name := range names {
			row = append(row, p50(r, name))
		}
		peak := "-"
		if m, ok := metric(r, "peak_rss_bytes"); ok {
			peak = quantity(m.Max, m.Unit)
		}
		rows = append(rows, append(row, peak, r.Verdict.String()))
	}
	return table(columns, rows) + "\n" + source(lines) + " *rows* is the requested size, *database* the " +
		"size that Postgres reports. Statements wait for *clone*. Compress, upload, download and decompress are summed over parallel " +
		"workers; commit and restore are elapsed times. *runtime* is loading the compiled Postgres in the fresh process; *first row* counts from " +
		"opening the database after that, including restore and start. Peak memory is the largest seen.\n"
}

// sqlCases are the cases of the comparison with Node, in the order of the table.
func sqlCases() []struct{ name, title string } {
	return []struct{ name, title string }{
		{"start", "start from a prepared directory"},
		{"select1", "SELECT 1"},
		{"prepared_insert", "prepared INSERT"},
		{"insert_10k", "10,000 single INSERTs"},
		{"bulk_insert", "bulk INSERT"},
		{"scan", "scan and aggregate"},
		{"join", "hash join"},
		{"sort", "sort"},
		{"lookup", "primary-key lookup"},
		{"error", "an error"},
	}
}

// sqlComparison is a probe that compares two sides case by case. A metric's name is the case's name and one of these.
type sqlComparison struct {
	probe, title, text string
	columns, metrics   [2]string
	ratio              string
}

func sqlComparisons() []sqlComparison {
	return []sqlComparison{
		{probe: "sql.1", columns: [2]string{"here", "Node"}, metrics: [2]string{"_wazero_us", "_node_us"}, ratio: "_ratio"},
		{
			"sql.2", "Against native PostgreSQL 18", "Built from source, with the same settings; processor time, not elapsed time: what WebAssembly costs.",
			[2]string{"here", "native"}, [2]string{"_cpu_us", "_native_cpu_us"}, "_cpu_ratio",
		},
		{
			"sql.4", "Against the build before pages on demand", "Over sockets, everything in the cache.",
			[2]string{"here", "older"}, [2]string{"_here_us", "_older_us"}, "_ratio",
		},
		{
			"sql.5", "With bounds checks against without", "Over sockets, the same build: what compiling without bounds checks gains.",
			[2]string{"checked", "unchecked"}, [2]string{"_checked_us", "_unchecked_us"}, "_ratio",
		},
	}
}

// performanceSQL compares SQL with Node, and with the other sides that were measured.
func performanceSQL(s selection) string {
	var parts []string
	for i, c := range sqlComparisons() {
		text, ok := c.table(s)
		switch {
		case i == 0 && !ok:
			return noRun
		case ok && c.title != "":
			text = "### " + c.title + "\n\n" + c.text + "\n\n" + text
		}
		if ok {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "\n")
}

// table shows the probe's line; false: there is none.
func (c sqlComparison) table(s selection) (string, bool) {
	line, ok := lineOf(s, c.probe)
	if !ok {
		return "", false
	}
	var rows [][]string
	for _, sql := range sqlCases() {
		ratio, ok := metric(line, sql.name+c.ratio)
		if !ok {
			continue
		}
		rows = append(rows, []string{
			sql.title, p50(line, sql.name+c.metrics[0]), p50(line, sql.name+c.metrics[1]),
			quantity(ratio.P50, "ratio"), quantity(ratio.Min, "ratio") + " to " + quantity(ratio.Max, "ratio"),
		})
	}
	if len(rows) == 0 {
		return fmt.Sprintf("The newest run compared nothing: verdict %s. %s", line.Verdict, strings.Join(line.Notes, " ")), c.title == ""
	}
	return table([]string{"case", c.columns[0], c.columns[1], c.columns[0] + " ÷ " + c.columns[1], "spread"}, rows) + "\n" + source([]record.Record{line}) +
		fmt.Sprintf(" %s; verdict %s.\n", paramsText(line), line.Verdict), true
}

// lineOf returns the line of a probe that tables show.
func lineOf(s selection, probe string) (record.Record, bool) {
	var lines []record.Record
	for _, r := range s.current {
		if r.Probe == probe && r.Verdict != record.Broken {
			lines = append(lines, r)
		}
	}
	lines = onePerKey(oneMachine(lines), func(r record.Record) string { return r.Probe })
	if len(lines) == 0 {
		return record.Record{}, false
	}
	return lines[0], true
}

// shownProbe is a probe whose metrics a table shows.
type shownProbe struct {
	probe, title string
	metrics      []string // these, in this order; none: all
}

// metricTable shows metrics of probes, a row each, in a table for each target: results from the Cloud Run emulator and from Cloud Run
// are never in the same one.
func metricTable(s selection, shown []shownProbe) string {
	var targets, tables []string
	for _, r := range s.current {
		targets = append(targets, r.Env.Target)
	}
	slices.Sort(targets)
	for _, target := range slices.Compact(targets) {
		if t := targetTable(s, shown, target); t != "" {
			tables = append(tables, t)
		}
	}
	if len(tables) == 0 {
		return noRun
	}
	return strings.Join(tables, "\n")
}

// targetTable renders the table of one target; empty: nothing ran there.
func targetTable(s selection, shown []shownProbe, target string) string {
	var rows [][]string
	var lines []record.Record
	for _, p := range shown {
		var of []record.Record
		for _, r := range s.current {
			if r.Probe == p.probe && r.Env.Target == target && r.Verdict != record.Broken {
				of = append(of, r)
			}
		}
		for _, r := range onePerKey(oneMachine(of), cellText) {
			lines = append(lines, r)
			names := p.metrics
			if names == nil {
				for _, m := range r.Metrics {
					names = append(names, m.Name)
				}
			}
			for _, name := range names {
				if m, ok := metric(r, name); ok {
					rows = append(rows, []string{strings.TrimSpace(p.title + " " + cellText(r)), "`" + m.Name + "`", fmt.Sprint(m.N), quantity(m.P50, m.Unit), quantity(m.P99, m.Unit), r.Verdict.String()})
				}
			}
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return table([]string{"what", "metric", "n", "p50", "p99", "verdict"}, rows) + "\n" + source(lines) +
		" `go run ./runner -verbs` explains each metric.\n"
}

// cellText names what distinguishes the cells of one probe, as people would.
func cellText(r record.Record) string {
	var parts []string
	for _, name := range []string{"size", "client", "durability", "shape", "of"} {
		if v, ok := r.Params[name]; ok {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, " ")
}

// performanceLog shows what a commit through the log costs.
func performanceLog(s selection) string {
	return metricTable(s, []shownProbe{
		{probe: "e2c.2", title: "one client"}, {probe: "e2c.4", title: "10 clients"}, {probe: "e2c.3", title: "64 clients"},
		{probe: "e2c.5", title: "reopening"}, {probe: "e2c.7", title: "bytes"}, {probe: "e5b.1", title: "one name against new names"},
	})
}

// performanceWake shows what a request that finds no instance waits for.
func performanceWake(s selection) string {
	split := []string{"first_row_ms", "peak_bytes"}
	return metricTable(s, []shownProbe{
		{probe: "e3.1", title: "the floor: no bucket", metrics: split}, {probe: "e3.2", title: "a new database", metrics: split},
		{probe: "e3.3", title: "restored,", metrics: split}, {probe: "e3.4", title: "500 records after a layer", metrics: split},
		{probe: "e3.5", title: "smallest memory tier,", metrics: []string{"tier_bytes", "peak_bytes"}},
		{probe: "e3.7", title: "scaled to zero,", metrics: []string{"cold_ms", "warm_ms", "leave_ms"}},
		{probe: "e3.8", title: "commit over HTTP,", metrics: []string{"commit_ms"}},
		{probe: "e3.9", title: "commit over HTTP, no crash,", metrics: []string{"commit_ms"}},
		{probe: "e4.3", title: "revision switch, new instance", metrics: []string{"gap_ms", "refused_count", "acked_count"}},
	})
}

// performanceClients shows what clients see.
func performanceClients(s selection) string {
	return metricTable(s, []shownProbe{
		{probe: "clients.3", title: "SELECT 1 by pgx over the loopback"}, {probe: "clients.2", title: "pgbench, TPC-B"},
		{probe: "clients.11", title: "pgbench, TPC-B, 64 clients"}, {probe: "clients.12", title: "pgbench, an UPDATE by key, 64 clients"},
		{probe: "clients.13", title: "SELECT 1, here and at an older commit"}, {probe: "clients.14", title: "during a long query"},
		{probe: "clients.15", title: "connections"},
		{probe: "clients.9", title: "node-postgres' own tests"}, {probe: "clients.10", title: "postgres.js' own tests"},
		{probe: "clients.1", title: "after SIGKILL, client", metrics: []string{"acked_count", "restart_ms"}},
	})
}
