package main

import (
	"cmp"
	"fmt"
	"slices"

	"blobpglite/runner/record"
)

// sized is what was measured of a database of one size.
type sized struct {
	rows          string
	stored        float64
	woken, served record.Record // e6.7; e6.8 or e6.10; zero: not run
}

// performanceSize shows size against wake, memory and what it costs at rest.
func performanceSize(s selection) string {
	bySize := map[string]*sized{}
	var lines []record.Record
	for _, probe := range []struct{ name, param string }{{"e6.7", "large"}, {"e6.8", "size"}, {"e6.10", "size"}} {
		var of []record.Record
		for _, r := range s.current {
			if r.Probe == probe.name && r.Env.Target != "cloudrun" && r.Verdict != record.Broken {
				of = append(of, r)
			}
		}
		for _, r := range onePerKey(oneMachine(of), func(r record.Record) string { return fmt.Sprint(r.Params[probe.param]) }) {
			rows := fmt.Sprint(r.Params[probe.param])
			d := bySize[rows]
			if d == nil {
				d = &sized{rows: rows}
				bySize[rows] = d
			}
			if probe.name == "e6.7" {
				d.woken = r
			} else {
				d.served = r
			}
			if m, ok := metric(r, "stored_bytes"); ok {
				d.stored = m.P50
			}
			lines = append(lines, r)
		}
	}
	if len(lines) == 0 {
		return noRun
	}
	var all []*sized
	for _, d := range bySize {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *sized) int { return cmp.Compare(a.stored, b.stored) })
	var rows [][]string
	for _, d := range all {
		rows = append(rows, []string{
			d.rows, shown(d.woken, "wake_large_ms"), shown(d.woken, "wake_small_ms"), shown(d.woken, "growth_ratio"), shown(d.served, "peak_bytes"), shown(d.served, "lookup_ms"),
			quantity(d.stored, "bytes"), fmt.Sprintf("$%.3f", d.stored/1e9*record.PriceStorageUSD),
		})
	}
	return table([]string{
		"rows", "to the first row", "10 MB, in turns", "ratio", "resident at most, of 512 MiB", "a lookup", "stored", "a month at rest",
	}, rows) + "\n" + source(lines) + "\n"
}

// shown is a metric's median; a dash where it was not measured.
func shown(r record.Record, name string) string {
	if m, ok := metric(r, name); ok {
		return quantity(m.P50, m.Unit)
	}
	return "-"
}
