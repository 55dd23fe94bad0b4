package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// pageTemplate is the page's frame. It needs nothing from elsewhere: no script, no
// font, no picture by address.
//
//go:embed page.html.tmpl
var pageTemplate string

// Bounds of the plots, in CSS pixels.
const (
	plotWidth  = 180
	plotHeight = 36
	trendWidth = 240
	// maxTrend is the number of newest lines that a trend shows.
	maxTrend = 60
	maxBins  = 30
)

// section is one current line on the page.
type section struct {
	Title, Claim, Verdict, Params, Where, When, Commit, Replay string
	Rounds                                                     int
	Checks                                                     []record.Check
	Notes                                                      []string
	Metrics                                                    []metricRow
}

// metricRow is one metric with its plots.
type metricRow struct {
	Name                    string
	N                       int64
	Min, P50, P90, P99, Max string
	Bars                    []bar
	Trend                   *trend
}

// bar is a rectangle of the distribution's plot.
type bar struct{ X, Y, Width, Height, Tip string }

// trend is a metric of one cell over its lines, oldest first: the medians as a line,
// min to max as strokes.
type trend struct {
	Points  string
	Strokes []stroke
}

type stroke struct{ X, Y1, Y2, YMedian, Tip string }

// renderPage makes results/index.html.
func renderPage(s selection) (string, error) {
	page, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return "", fmt.Errorf("render the page: %w", err)
	}
	var sections []section
	for _, r := range s.current {
		one, err := sectionOf(s, r)
		if err != nil {
			return "", fmt.Errorf("render the page: %s of run %s: %w", r.Probe, r.Run, err)
		}
		sections = append(sections, one)
	}
	var out strings.Builder
	err = page.Execute(&out, map[string]any{
		"Sections": sections, "Width": plotWidth, "Height": plotHeight, "TrendWidth": trendWidth,
		"Unclean": s.unclean, "Retracted": s.retracted,
	})
	if err != nil {
		return "", fmt.Errorf("render the page: %w", err)
	}
	return out.String(), nil
}

func sectionOf(s selection, r record.Record) (section, error) {
	out := section{
		Title: r.Probe, Claim: r.Claim, Verdict: r.Verdict.String(), Params: paramsText(r), Rounds: r.Rounds,
		Where: fmt.Sprintf("%s, %d CPUs, %s, store %s, target %s, profile %s", r.Env.Machine, r.Env.CPUs, r.Env.Go, r.Env.Store, r.Env.Target, r.Profile),
		When:  r.Started.UTC().Format("2006-01-02 15:04 MST"), Commit: shortCommit(r.Commit), Replay: r.Replay,
		Checks: r.Checks, Notes: r.Notes,
	}
	for _, m := range r.Metrics {
		bars, err := barsOf(m)
		if err != nil {
			return section{}, err
		}
		out.Metrics = append(out.Metrics, metricRow{
			Name: m.Name, N: m.N, Min: quantity(m.Min, m.Unit), P50: quantity(m.P50, m.Unit), P90: quantity(m.P90, m.Unit),
			P99: quantity(m.P99, m.Unit), Max: quantity(m.Max, m.Unit), Bars: bars, Trend: trendOf(s, r, m.Name),
		})
	}
	return out, nil
}

// barsOf draws the distribution: bins of equal width, or of equal ratio where the
// values span more than a factor of ten. A single value has no picture.
func barsOf(m record.Metric) ([]bar, error) {
	h, ticks, err := m.Histogram()
	if err != nil {
		return nil, err
	}
	if m.N < 2 || m.Max <= m.Min {
		return nil, nil
	}
	scale := func(v float64) float64 { return v }
	if m.Min > 0 && m.Max/m.Min > 10 {
		scale = math.Log
	}
	low, high := scale(m.Min), scale(m.Max)
	bins := make([]int64, min(maxBins, int(m.N)*2))
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
	width := float64(plotWidth) / float64(len(bins))
	var bars []bar
	for i, n := range bins {
		if n == 0 {
			continue
		}
		height := max(1, float64(n)/float64(most)*plotHeight)
		bars = append(bars, bar{
			X: pixel(float64(i) * width), Y: pixel(plotHeight - height), Width: pixel(max(1, width-1)), Height: pixel(height),
			Tip: fmt.Sprintf("%d of %d", n, m.N),
		})
	}
	return bars, nil
}

// trendOf follows a metric through all lines of the same cell. Only equal cells are
// compared.
func trendOf(s selection, r record.Record, name string) *trend {
	type value struct {
		m    record.Metric
		line record.Record
	}
	var values []value
	for _, h := range s.history {
		if h.Cell != r.Cell || h.Probe != r.Probe {
			continue
		}
		if m, ok := metric(h, name); ok {
			values = append(values, value{m, h})
		}
	}
	if len(values) < 2 {
		return nil
	}
	values = values[max(0, len(values)-maxTrend):]
	top := slices.MaxFunc(values, func(a, b value) int { return int(math.Copysign(1, a.m.Max-b.m.Max)) }).m.Max
	if top == 0 {
		top = 1
	}
	y := func(v float64) float64 { return plotHeight - 1 - v/top*(plotHeight-2) }
	var t trend
	var points []string
	for i, v := range values {
		x := 4 + float64(i)*(trendWidth-8)/float64(len(values)-1)
		points = append(points, pixel(x)+","+pixel(y(v.m.P50)))
		t.Strokes = append(t.Strokes, stroke{
			X: pixel(x), Y1: pixel(y(v.m.Max)), Y2: pixel(y(v.m.Min)), YMedian: pixel(y(v.m.P50)),
			Tip: fmt.Sprintf("%s %s: %s (%s to %s)", shortCommit(v.line.Commit), date(v.line), quantity(v.m.P50, v.m.Unit),
				quantity(v.m.Min, v.m.Unit), quantity(v.m.Max, v.m.Unit)),
		})
	}
	t.Points = strings.Join(points, " ")
	return &t
}

func pixel(v float64) string { return fmt.Sprintf("%.1f", v) }
