package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// sized holds what was measured with a database of one size.
type sized struct {
	rows          string
	stored        float64
	woken, served record.Record // e6.7; e6.8 or e6.10; zero: not run
}

// performanceSize shows size against wake, memory and the price at rest.
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
		"rows", "first row", "first row of 10 MB, in turns", "ratio", "peak memory, of 512 MiB", "lookup", "stored", "a month at rest",
	}, rows) + "\n" + source(lines) + "\n"
}

// shown returns a metric's median; a dash: not measured.
func shown(r record.Record, name string) string {
	if m, ok := metric(r, name); ok {
		return quantity(m.P50, m.Unit)
	}
	return "-"
}

// measuredFirst returns the median of the first of several figures that was measured; each is a probe, metric and parameters, as in a placeholder.
func measuredFirst(s selection, wanted ...[3]string) (value float64, unit string, from record.Record, ok bool) {
	for _, w := range wanted {
		r, there := lineOfProbe(s, w[0], w[2])
		if m, has := metric(r, w[1]); there && has {
			return m.P50, m.Unit, r, true
		}
	}
	return 0, "", from, false
}

// sizes renders README's table: how the size of a database affects a cold start, memory and a month's bill.
func sizes(s selection) string {
	application, _, bill, priced := measuredFirst(s, [3]string{"e5.2", "month_usd", "durability=strict,clients=1"})
	itsStorage, _, _, _ := measuredFirst(s, [3]string{"e5.2", "month_storage_usd", "durability=strict,clients=1"})
	var rows [][]string
	var lines []record.Record
	for _, size := range []string{"10MB", "100MB", "500MB", "5GB"} {
		row := []string{strings.NewReplacer("MB", " MB", "GB", " GB").Replace(size)}
		cell := func(wanted ...[3]string) (float64, bool) {
			value, unit, from, ok := measuredFirst(s, wanted...)
			if !ok {
				row = append(row, "-")
				return 0, false
			}
			text := quantity(value, unit)
			if from.Probe == "e6.7" && unit == "ms" { // which has one process for everything
				text += " plus the start of the process"
			}
			row, lines = append(row, text), append(lines, from)
			return value, true
		}
		cell([3]string{"e3.7", "cold_ms", "size=" + size}, [3]string{"e6.13", "large_first_row_ms", "large=" + size}, [3]string{"e6.7", "wake_large_ms", "large=" + size})
		cell([3]string{"e3.5", "peak_bytes", "size=" + size}, [3]string{"e6.8", "peak_bytes", "size=" + size}, [3]string{"e6.10", "peak_bytes", "size=" + size})
		stored, ok := cell([3]string{"e6.7", "stored_bytes", "large=" + size}, [3]string{"e6.7", "small_stored_bytes", "small=" + size})
		switch atRest := stored / 1e9 * record.PriceStorageUSD; {
		case !ok:
			row = append(row, "-", "-")
		case !priced:
			row = append(row, fmt.Sprintf("$%.4f", atRest), "-")
		default:
			row = append(row, fmt.Sprintf("$%.4f", atRest), fmt.Sprintf("$%.2f", application-itsStorage+atRest))
		}
		rows = append(rows, row)
	}
	if len(lines) == 0 {
		return noRun
	}
	if priced {
		lines = append(lines, bill)
	}
	return table([]string{"rows", "first row of a cold start", "peak memory", "stored", "a month at rest", "a month of the small application"}, rows) + "\n" + sources(lines) + "\n"
}
