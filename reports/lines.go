package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// noRun is rendered in place of missing results.
const noRun = "_no run recorded yet_"

// selection holds the lines that may be shown.
type selection struct {
	// current holds the newest lines, one for each probe, profile, params, store and
	// target, in the order in which tables show them.
	current []record.Record
	// history holds all lines that count, oldest first.
	history []record.Record
	// unclean and retracted count the lines that were left out.
	unclean, retracted int
}

func selectLines(log record.Log) selection {
	live := log.Live()
	s := selection{retracted: len(log.Records) - len(live)}
	newest := map[string]record.Record{}
	for _, r := range live {
		r = renamed(r)
		r.Verdict = record.Concluded(r.Verdict, r.Checks) // for lines from before this verdict existed
		if r.Dirty {
			s.unclean++
			continue
		}
		s.history = append(s.history, r)
		newest[subject(r)] = r
	}
	for _, r := range newest {
		s.current = append(s.current, r)
	}
	slices.SortFunc(s.current, func(a, b record.Record) int {
		return cmp.Or(
			cmp.Compare(a.Probe, b.Probe), cmp.Compare(profileRank(a.Profile), profileRank(b.Profile)),
			cmp.Compare(sizeParam(a), sizeParam(b)), cmp.Compare(axes(a), axes(b)),
			b.Started.Compare(a.Started), cmp.Compare(subject(a), subject(b)), // the amount may have changed since
		)
	})
	return s
}

// renamed gives a line of a renamed scenario, or a renamed metric, its new name, so that its history continues. The rest stays as it was
// written: the command is for the commit that it names.
func renamed(r record.Record) record.Record {
	if i := slices.IndexFunc(r.Metrics, func(m record.Metric) bool { return m.Name == "doors_ms" }); i >= 0 {
		r.Metrics = slices.Clone(r.Metrics)
		r.Metrics[i].Name = "listening_ms"
	}
	now, ok := map[string]string{"doors": "clients"}[r.Scenario]
	if !ok {
		return r
	}
	r.Probe = now + strings.TrimPrefix(r.Probe, r.Scenario)
	r.Scenario = now
	return r
}

// subject returns the same text for lines about the same thing.
func subject(r record.Record) string {
	// Params come from JSON and go back into it, with sorted keys.
	params, err := json.Marshal(r.Params)
	if err != nil {
		params = []byte(err.Error())
	}
	return strings.Join([]string{r.Probe, r.Profile, string(params), r.Env.Store, r.Env.Target}, "\x00")
}

// profileRank ranks profiles, the most thorough first.
func profileRank(profile string) int {
	return slices.Index([]string{"full", "default", "ci"}, profile)
}

// sizeParam returns the param size in bytes, for sorting; 0: there is none.
func sizeParam(r record.Record) float64 {
	text, _ := r.Params["size"].(string)
	digits := strings.TrimRight(text, "KMGTiB")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0
	}
	scale := map[string]float64{
		"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[text[len(digits):]]
	return n * scale
}

// metric finds a metric of the line.
func metric(r record.Record, name string) (record.Metric, bool) {
	i := slices.IndexFunc(r.Metrics, func(m record.Metric) bool { return m.Name == name && m.N > 0 })
	if i < 0 {
		return record.Metric{}, false
	}
	return r.Metrics[i], true
}

// p50 returns a metric's median as text, or a dash.
func p50(r record.Record, name string) string {
	m, ok := metric(r, name)
	if !ok {
		return "-"
	}
	return quantity(m.P50, m.Unit)
}

// quantity writes a number with its unit, to three digits.
func quantity(v float64, unit string) string {
	switch unit {
	case "bytes":
		return scaled(v, "B", "KB", "MB", "GB")
	case "us":
		return scaled(v, "µs", "ms", "s")
	case "ms":
		if v < 1 {
			return scaled(v*1000, "µs")
		}
		return scaled(v, "ms", "s")
	case "ratio":
		return strconv.FormatFloat(v, 'f', 2, 64)
	case "per_s":
		return digits(v) + "/s"
	}
	return digits(v)
}

// scaled divides by 1000 until the number is short.
func scaled(v float64, units ...string) string {
	for len(units) > 1 && v >= 999.5 {
		v, units = v/1000, units[1:]
	}
	return digits(v) + " " + units[0]
}

// digits writes three significant digits, without an exponent.
func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// table writes a Markdown table.
func table(columns []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		escaped := make([]string, len(cells))
		for i, c := range cells {
			escaped[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(c)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(escaped, " | "))
	}
	line(columns)
	rule := make([]string, len(columns))
	for i := range rule {
		rule[i] = "---"
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

func shortCommit(commit string) string {
	return commit[:min(len(commit), 10)]
}

func date(r record.Record) string { return r.Started.UTC().Format("2006-01-02") }

// paramsText writes params in a fixed order, for people: without folders of the machine that ran it, and without empty values.
func paramsText(r record.Record) string {
	var parts []string
	for name, v := range r.Params {
		if text := paramText(v); text != "" {
			parts = append(parts, name+"="+text)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// oneMachine returns only the lines of the machine that the newest line comes from: numbers
// from different machines are never in one table.
func oneMachine(lines []record.Record) []record.Record {
	if len(lines) == 0 {
		return nil
	}
	newest := slices.MaxFunc(lines, func(a, b record.Record) int { return a.Started.Compare(b.Started) })
	var out []record.Record
	for _, r := range lines {
		if r.Env.MachineClass() == newest.Env.MachineClass() && r.Env.Store == newest.Env.Store && r.Env.Target == newest.Env.Target {
			out = append(out, r)
		}
	}
	return out
}

// targetName returns the usual name of the place where something ran. Lines keep the word of the documents.
func targetName(target string) string {
	if target == scenario.TargetEmulator {
		return "Cloud Run emulator"
	}
	return target
}

// source describes where the numbers of a table come from.
func source(lines []record.Record) string {
	newest := slices.MaxFunc(lines, func(a, b record.Record) int { return a.Started.Compare(b.Started) })
	commits := map[string]bool{}
	for _, r := range lines {
		commits[shortCommit(r.Commit)] = true
	}
	var list []string
	for c := range commits {
		list = append(list, c)
	}
	slices.Sort(list)
	e := newest.Env
	return fmt.Sprintf("Medians. %s, %d CPUs, %s, wazero %s, store %s, target %s; commit %s, %s.",
		e.Machine, e.CPUs, e.Go, e.Wazero, e.Store, targetName(e.Target), strings.Join(list, ", "), date(newest))
}
