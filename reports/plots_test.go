package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"blobpglite/runner/record"
)

// TestDistributionsAreDrawn: on the page of this repository's results, each metric with 20 or more values in a shown line has its distribution,
// unless all values are the same. As the lines grow in number, the names of checks that held are left out before distributions are.
func TestDistributionsAreDrawn(t *testing.T) {
	t.Parallel()
	s, page := realLines(t), realPage(t)
	want, trends := 0, 0
	for _, p := range probesOf(s) {
		for _, r := range p.Lines {
			for _, m := range r.Metrics {
				if m.N >= 20 && m.Max > m.Min {
					want++
				}
				if m.N > 0 && trendOf(s, r, m.Name) != nil {
					trends++
				}
			}
		}
	}
	if got := strings.Count(page, "<svg class=d "); got != want || want < 100 {
		t.Errorf("%d distributions are drawn, of %d", got, want)
	}
	if got := strings.Count(page, "<svg class=t "); got != trends || trends < 100 {
		t.Errorf("%d trends are drawn, of %d", got, trends)
	}
}

// TestPlotsBeforeTexts: first what checks that held have seen is left out, then their names; distributions stay as long as there is room.
func TestPlotsBeforeTexts(t *testing.T) {
	t.Parallel()
	m := record.NewMetrics()
	for i := range 30 {
		m.Value("open_ms", float64(i*i))
	}
	metrics, err := m.List()
	if err != nil {
		t.Fatal(err)
	}
	var s selection
	for i := range 60 {
		r := record.Record{Scenario: "e2", Probe: fmt.Sprintf("e2.9%d", i), Profile: "full", Verdict: record.Pass, Metrics: metrics, Started: time.Unix(1e9, 0)}
		for j := range 150 {
			r.Checks = append(r.Checks, record.Check{Name: fmt.Sprintf("check %d, which has a name", j), Verdict: record.Pass, Detail: strings.Repeat("perceived ", 15)})
		}
		s.current = append(s.current, r)
	}
	page, err := renderPage(s, pictures{})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(page, "<svg class=d "); n != 60 || strings.Contains(page, "perceived") {
		t.Errorf("%d of 60 distributions, and what was seen is there: %v", n, strings.Contains(page, "perceived"))
	}
}

func TestOutline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		bins []int64
		most int64
		want string
	}{
		{[]int64{10, 10, 5, 0, 0, 10}, 10, "M0 30V0h20V15h10V30h20V0h10V30z"},
		{[]int64{0, 1000, 1}, 1000, "M0 30h10V0h10V29h10V30z"}, // one among many is visible
	} {
		if got := outline(tt.bins, tt.most); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.bins, got, tt.want)
		}
	}
}

func TestLongestSoak(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if name, err := longestSoak(folder); name != "" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	for _, name := range []string{"e5.1-72h.json", "e5.1-720h.json", "e5.1-100h.json", "e5.1-h.json", "e5.2-9999h.json"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("[]"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if name, err := longestSoak(folder); name != "e5.1-720h.json" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}

// TestSoakPicture: each wake shows its writes, its lag and what disturbed it.
func TestSoakPicture(t *testing.T) {
	t.Parallel()
	p := drawSoak([]soakWake{
		{Minute: 60, Writes: 9, Slow: 10_000, Kills: 2, Deploys: 1, Faults: 3},
		{Minute: 120, Writes: 4, Slow: 5},
		{Minute: 24*60 + 30, Writes: 1, Slow: 300_000, Stalls: 1},
	})
	wellFormed(t, p.SVG)
	if p.Days != 2 || p.Kills != 3 || p.Writes != 14 || p.Calm != "5 ms" || p.Shaken != "10 s" || p.Slowest != "300 s" {
		t.Errorf("%+v", p)
	}
	for text, want := range map[string]int{
		`class="bar"`: 3, `class="lag"`: 2 /* of 5 ms there is nothing to see */, `class="kill" d="M40 `: 1, "<circle": 1, `class="day"`: 2,
		`d="M40 74v18h5v-18z"`: 1, // 10 s: three fifths of the way from 10 ms to 1,000 s
		"the slowest 300 s":    1, "kills: 2; revisions: 1; faults of the store: 3</title>": 1,
	} {
		if got := strings.Count(p.SVG, text); got != want {
			t.Errorf("%q is there %d times, want %d", text, got, want)
		}
	}
}

// TestSoakOfTheseResults: the longest recorded soak is drawn in full, with its lag, in a file of its own that the page does not load at first.
func TestSoakOfTheseResults(t *testing.T) {
	t.Parallel()
	p, err := readPictures(filepath.Join("..", "results"))
	if err != nil || p.soak == nil {
		t.Fatalf("no soak: %v", err)
	}
	wellFormed(t, p.soak.SVG)
	if bars, lags := strings.Count(p.soak.SVG, `class="bar"`), strings.Count(p.soak.SVG, `class="lag"`); bars != p.soak.Wakes || lags < bars*9/10 || p.soak.Days < 30 {
		t.Errorf("%d bars, %d of lag, of %d wakes in %d days", bars, lags, p.soak.Wakes, p.soak.Days)
	}
	page := realPage(t)
	if strings.Contains(page, p.soak.SVG[:200]) || !strings.Contains(page, `loading="lazy" src="`+soakFile+`"`) {
		t.Error("the picture is in the page, or not to be found from it")
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
