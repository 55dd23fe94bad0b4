package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"regexp"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// pageTemplate is the page's frame. It needs nothing from other sites; the pictures of episodes are files next to it.
//
//go:embed page.html.tmpl
var pageTemplate string

// Limits of the plots, in CSS pixels, and of what is shown.
const (
	plotWidth  = maxBins * binWidth
	plotHeight = 30
	trendWidth = 160
	binWidth   = 10
	maxTrend   = 40 // the newest lines that a trend shows
	minTrend   = 3  // two are not a trend
	minPlot    = 20 // values that make a distribution
	maxBins    = 16
	maxNote    = 300 // in bytes, of a run's notes
	maxDetail  = 260 // in bytes, of what a check that did not hold has seen
	maxRight   = 110 // likewise of one that held
	maxPage    = 495_000
)

// pageView holds everything that the template shows.
type pageView struct {
	Sentence             string
	Held, Recorded       int
	Probes, Lines        int
	Failed               []probeView
	Questions            []questionView
	Asked                []asked
	Experiments          []experimentSection
	Decisions            [][]string
	Counterexample       *counterexample
	Soak                 *soakPicture
	Episodes             []string
	Unclean, Retracted   int
	Width, Height, Trend int
	Machines             []machine
}

// machine is one that lines come from. The page names each once, and then by its letter: repeating the name in each line would take as much as all plots.
type machine struct{ Letter, Text string }

// letterOf returns the letter of a line's machine.
func (v *pageView) letterOf(r record.Record) string {
	text := fmt.Sprintf("%s, %d CPUs, %s, wazero %s", r.Env.Machine, r.Env.CPUs, r.Env.Go, r.Env.Wazero)
	i := slices.IndexFunc(v.Machines, func(m machine) bool { return m.Text == text })
	if i < 0 {
		i = len(v.Machines)
		letter := string(rune('A' + i%26))
		if i >= 26 {
			letter += fmt.Sprint(i / 26)
		}
		v.Machines = append(v.Machines, machine{letter, text})
	}
	return v.Machines[i].Letter
}

type experimentSection struct {
	experimentView
	Sections []probeSection
}

type probeSection struct {
	probeView
	Cells []cellSection
}

// cellSection is one line of a probe.
type cellSection struct {
	Params, Verdict, Profile, Machine, Store, Target, When, Commit, Replay, Bound string
	Rounds                                                                        int
	Fired                                                                         int64
	Wrong, Right                                                                  []record.Check
	Hold                                                                          int // checks that hold and are not in Right
	More                                                                          int // metrics that are not in Metrics
	Notes                                                                         []string
	Metrics                                                                       []metricRow
	Plots, Trends                                                                 bool // a row has one
}

// metricRow is one metric with its plots.
type metricRow struct {
	Name     string
	N        int64
	P50, P99 string
	Bars     string // a path
	Tip      string
	Trend    *trend
}

// trend holds the medians of a metric of one cell over the commits that ran it, oldest first.
type trend struct{ Points, Tip string }

// renderPage renders results/index.html. It leaves out, step by step, what would make it too large for a first load, and the page says so; all of it
// is in the lines of results/.
func renderPage(s selection, p pictures) (string, error) {
	b, err := makeBoard(s)
	if err != nil {
		return "", fmt.Errorf("render the page: %w", err)
	}
	return renderBoard(s, b, p)
}

// renderBoard is renderPage for the board of a selection.
func renderBoard(s selection, b board, p pictures) (string, error) {
	page, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return "", fmt.Errorf("render the page: %w", err)
	}
	// Leaving something out does not change the rows, and drawing them takes most of the time.
	rows := map[placeOf][]metricRow{}
	for _, x := range b.experiments {
		for _, q := range x.Probes {
			for i, r := range q.Lines {
				if rows[placeOf{q.ID, i}], err = rowsOf(s, b, r); err != nil {
					return "", fmt.Errorf("render the page: %s of run %s: %w", r.Probe, r.Run, err)
				}
			}
		}
	}
	for thrift := range maxThrift {
		text, err := renderThriftily(page, s, b, rows, p, thrift)
		if err != nil || len(text) <= maxPage {
			return text, err
		}
	}
	return "", fmt.Errorf("render the page: it is larger than %d bytes whatever is left out: show less", maxPage)
}

// Degrees of leaving out: first more and more of what checks that held have seen, then their names; only then distributions, then most metrics. What a
// check that held has seen can be read in results/, but a distribution is not visible there.
const (
	thriftDetail  = 2
	thriftNames   = 3
	thriftPlots   = 4
	thriftMetrics = 5
	maxThrift     = 6
	fewMetrics    = 8 // of a cell
)

// placeOf returns where a line is on the page: under its probe, after how many others.
type placeOf struct {
	probe string
	n     int
}

func renderThriftily(page *template.Template, s selection, b board, rows map[placeOf][]metricRow, p pictures, thrift int) (string, error) {
	v := pageView{
		Questions: b.questions, Asked: tenQuestions(s, b), Decisions: decisionRows(s), Counterexample: p.counterexample, Soak: p.soak, Episodes: p.episodes,
		Unclean: s.unclean, Retracted: s.retracted, Width: plotWidth, Height: plotHeight, Trend: trendWidth, Probes: len(b.probes),
	}
	for _, x := range b.experiments {
		one := experimentSection{experimentView: x}
		for _, p := range x.Probes {
			section := probeSection{probeView: p}
			for i, r := range p.Lines {
				cell := cellOf(r, rows[placeOf{p.ID, i}], thrift)
				cell.Machine = v.letterOf(r)
				section.Cells = append(section.Cells, cell)
			}
			v.Lines += len(p.Lines)
			v.count(p)
			one.Sections = append(one.Sections, section)
		}
		v.Experiments = append(v.Experiments, one)
	}
	v.Sentence = sentence(v, b)
	var out strings.Builder
	if err := page.Execute(&out, v); err != nil {
		return "", fmt.Errorf("render the page: %w", err)
	}
	return out.String(), nil
}

// count adds a probe to the count of its verdict.
func (v *pageView) count(p probeView) {
	switch p.Verdict {
	case record.Pass:
		v.Held++
	case record.Recorded:
		v.Recorded++
	default:
		v.Failed = append(v.Failed, p)
	}
}

// sentence summarizes the verdicts.
func sentence(v pageView, b board) string {
	if v.Probes == 0 {
		return "No run recorded yet."
	}
	text := fmt.Sprintf("%d of %d probes hold", v.Held, v.Probes) + alsoRecorded(v.Recorded)
	if len(v.Failed) > 0 {
		var ids []string
		for _, p := range v.Failed {
			ids = append(ids, p.ID)
		}
		do := map[bool]string{true: " does not", false: " do not"}[len(ids) == 1]
		text += "; " + strings.Join(ids, ", ") + do
	}
	if slices.ContainsFunc(b.probes, func(p probeView) bool { return p.Real }) {
		return text + "."
	}
	return text + ", and nothing has been run on a real bucket yet: everything here comes from an emulator that is as faithful, and as faulty, as we could make it."
}

func cellOf(r record.Record, rows []metricRow, thrift int) cellSection {
	out := cellSection{
		Params: paramsText(r), Verdict: r.Verdict.String(), Profile: r.Profile, Rounds: r.Rounds, Bound: upperBound(r),
		Store: r.Env.Store, Target: targetName(r.Env.Target),
		When: r.Started.UTC().Format("2006-01-02 15:04 MST"), Commit: shortCommit(r.Commit), Replay: folders.ReplaceAllString(r.Replay, "=FOLDER"),
	}
	for _, note := range r.Notes {
		out.Notes = append(out.Notes, cut(note, maxNote))
	}
	for _, f := range r.Faults {
		out.Fired += f.Fired
	}
	for _, c := range r.Checks {
		limit := maxDetail
		if c.Verdict == record.Pass {
			if out.Hold++; thrift >= thriftNames {
				continue
			}
			limit = maxRight >> (2 * thrift)
		}
		if c.Verdict == record.Pass && thrift >= thriftDetail {
			c.Detail = ""
		}
		c.Detail = cut(c.Detail, limit)
		if c.Verdict == record.Pass {
			out.Right = append(out.Right, c)
		} else {
			out.Wrong = append(out.Wrong, c)
		}
	}
	if thrift >= thriftMetrics && len(rows) > fewMetrics {
		out.More, rows = len(rows)-fewMetrics, rows[:fewMetrics]
	}
	for _, row := range rows {
		if thrift >= thriftPlots {
			row.Bars, row.Tip = "", ""
		}
		out.Plots = out.Plots || row.Bars != ""
		out.Trends = out.Trends || row.Trend != nil
		out.Metrics = append(out.Metrics, row)
	}
	return out
}

// rowsOf draws all metrics of a line.
func rowsOf(s selection, b board, r record.Record) (rows []metricRow, err error) {
	for _, m := range r.Metrics {
		if m.N == 0 {
			continue
		}
		row := metricRow{Name: b.metricName(r.Probe, m.Name), N: m.N, P50: figure(m.P50, m.Unit), Trend: trendOf(s, r, m.Name)}
		if m.N > 1 {
			row.P99 = figure(m.P99, m.Unit)
		}
		if m.N >= minPlot && m.Max > m.Min {
			if row.Bars, err = barsOf(m); err != nil {
				return nil, err
			}
			row.Tip = fmt.Sprintf("%s to %s", figure(m.Min, m.Unit), figure(m.Max, m.Unit))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// cut shortens a text to a number of bytes.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

// folders matches those of the machine that a command ran on.
var folders = regexp.MustCompile(`=/\S+`)

// figure is like quantity, but also writes money.
func figure(v float64, unit string) string {
	switch {
	case unit == "usd" && v > 0 && v < 0.1:
		return "$" + digits(v)
	case unit == "usd":
		return fmt.Sprintf("$%.2f", v)
	case unit == "count" && v >= 1000 && v == math.Trunc(v):
		return grouped(int64(v))
	}
	return quantity(v, unit)
}

// barsOf draws a distribution as one path: bins of equal width, or of equal ratio if the values span more than a factor of ten.
func barsOf(m record.Metric) (string, error) {
	h, ticks, err := m.Histogram()
	if err != nil {
		return "", err
	}
	scale := func(v float64) float64 { return v }
	if m.Min > 0 && m.Max/m.Min > 10 {
		scale = math.Log
	}
	low, high := scale(m.Min), scale(m.Max)
	bins := make([]int64, maxBins)
	var most int64
	for _, b := range h.Distribution() {
		if b.Count == 0 {
			continue
		}
		at := (scale(max(m.Min, float64(b.From)/ticks)) - low) / (high - low)
		i := min(max(int(at*float64(len(bins))), 0), len(bins)-1)
		bins[i] += b.Count
		most = max(most, bins[i])
	}
	return outline(bins, most), nil
}

// outline draws bins as one path, from the base up and along their tops: this takes one number for each bin, and separate bars would take five.
func outline(bins []int64, most int64) string {
	var path strings.Builder
	fmt.Fprintf(&path, "M0 %d", plotHeight)
	at, width := plotHeight, 0
	for _, n := range bins {
		top := plotHeight
		if n > 0 { // anything above zero is visible, however small
			top -= max(1, int(math.Round(float64(n)/float64(most)*plotHeight)))
		}
		if top != at {
			if width > 0 {
				fmt.Fprintf(&path, "h%d", width)
			}
			fmt.Fprintf(&path, "V%d", top)
			at, width = top, 0
		}
		width += binWidth
	}
	fmt.Fprintf(&path, "h%dV%dz", width, plotHeight)
	return path.String()
}

// trendOf follows a metric through all lines of the same cell. It compares only equal cells.
func trendOf(s selection, r record.Record, name string) *trend {
	var values []float64
	var first, last record.Record
	unit := ""
	for _, h := range s.history {
		if h.Cell != r.Cell || h.Probe != r.Probe {
			continue
		}
		if m, ok := metric(h, name); ok {
			if len(values) == 0 {
				first = h
			}
			last, unit = h, m.Unit
			values = append(values, m.P50)
		}
	}
	if len(values) < minTrend {
		return nil
	}
	values = values[max(0, len(values)-maxTrend):]
	top := cmp.Or(slices.Max(values), 1)
	var points []string
	for i, v := range values {
		points = append(points, fmt.Sprintf("%.0f,%.1f", 3+float64(i)*(trendWidth-6)/float64(len(values)-1), plotHeight-2-v/top*(plotHeight-4)))
	}
	return &trend{Points: strings.Join(points, " "), Tip: fmt.Sprintf("medians of %d runs, %s (%s) to %s (%s)", len(values), figure(values[0], unit), shortCommit(first.Commit), figure(values[len(values)-1], unit), shortCommit(last.Commit))}
}
