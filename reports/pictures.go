package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// pictures are what lies beside the results for the eye. Each may be missing.
type pictures struct {
	counterexample *counterexample
	soak           *soakPicture
	episodes       []string // names of timelines
}

// counterexample is a story of the explorer, step by step.
type counterexample struct {
	Mutant    string   `json:"mutant"`
	Doc       string   `json:"doc"`
	Plan      string   `json:"plan"`
	Invariant string   `json:"invariant"`
	Detail    string   `json:"detail"`
	After     int      `json:"after"`
	Schedule  []string `json:"schedule"`
	Story     []string `json:"story"`

	Steps []storyStep `json:"-"`
}

// storyStep is one act of one process, and what the bucket answered.
type storyStep struct{ Who, Act, Answer, Class string }

// soakPicture are the days of the soak.
type soakPicture struct {
	File   string
	Days   []soakDay
	Wakes  int
	Writes int
	Kills  int
	Faults int64
}

// soakDay is a day's row, as SVG.
type soakDay struct {
	Label string
	SVG   template.HTML
}

// soakWake is a line of the soak's file; see runner/soak.
type soakWake struct {
	Minute  int    `json:"m"`
	Kind    string `json:"k"`
	Writes  int    `json:"w"`
	Cold    int    `json:"cold"`
	Slow    int    `json:"slow"`
	Kills   int    `json:"kills"`
	Deploys int    `json:"deploys"`
	Stalls  int    `json:"stalls"`
	Steps   int    `json:"steps"`
	Faults  int64  `json:"faults"`
	Reads   int    `json:"reads"`
}

// readPictures reads what there is in the folder of the results.
func readPictures(results string) (pictures, error) {
	var p pictures
	if err := decodeIfThere(filepath.Join(results, "pictures", "counterexample.json"), &p.counterexample); err != nil {
		return p, err
	}
	if p.counterexample != nil {
		p.counterexample.Steps = stepsOf(p.counterexample.Story)
	}
	for _, name := range []string{"episode.svg", "episode-ack-before-put.svg"} {
		if _, err := os.Stat(filepath.Join(results, "pictures", name)); err == nil {
			p.episodes = append(p.episodes, name)
		}
	}
	const file = "e5/e5.1-72h.json"
	var wakes []soakWake
	if err := decodeIfThere(filepath.Join(results, filepath.FromSlash(file)), &wakes); err != nil || len(wakes) == 0 {
		return p, err
	}
	p.soak = drawSoak(wakes)
	p.soak.File = file
	return p, nil
}

func decodeIfThere(path string, to any) error {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(body, to)
	}
	if err != nil {
		return fmt.Errorf("read a picture: %s: %w", path, err)
	}
	return nil
}

// stepsOf joins what a process did with what it was answered.
func stepsOf(story []string) []storyStep {
	var steps []storyStep
	for _, line := range story {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "= ") || text == "=":
			if n := len(steps); n > 0 {
				steps[n-1].Answer = strings.TrimSpace(strings.TrimPrefix(text, "="))
			}
		case strings.HasPrefix(text, "VIOLATED"):
			steps = append(steps, storyStep{Act: text, Class: "bad"})
		case strings.HasPrefix(text, "---"):
			steps = append(steps, storyStep{Act: strings.Trim(text, "- "), Class: "part"})
		default:
			who, act, _ := strings.Cut(text, " ")
			act = strings.TrimSpace(act)
			steps = append(steps, storyStep{Who: who, Act: strings.TrimSpace(strings.TrimPrefix(act, "do ")), Class: "who-" + strings.ToLower(who)})
		}
	}
	return steps
}

// Sizes of a day's row.
const (
	dayWidth  = 960
	dayHeight = 74
	dayFoot   = 58 // where the bars stand
)

// drawSoak draws a row for each day: a bar for each wake, as high as its writes (by their root, for a few are large), a cross for each kill, a
// triangle for each revision, a dot for each stall or step of the clock.
func drawSoak(wakes []soakWake) *soakPicture {
	p := &soakPicture{Wakes: len(wakes)}
	most := 1.0
	for _, w := range wakes {
		most = max(most, float64(w.Writes))
		p.Writes, p.Kills, p.Faults = p.Writes+w.Writes, p.Kills+w.Kills+w.Deploys, p.Faults+w.Faults
	}
	rows := map[int]*strings.Builder{}
	last := 0
	for _, w := range wakes {
		day := w.Minute / (24 * 60)
		last = max(last, day)
		if rows[day] == nil {
			rows[day] = &strings.Builder{}
		}
		drawWake(rows[day], w, most)
	}
	for day := range last + 1 {
		var b strings.Builder
		fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="day %d of the soak"><path class="axis" d="M0 %dH%d"/>`, dayWidth, dayHeight, day+1, dayFoot, dayWidth)
		for hour := 0; hour < 24; hour += 3 {
			fmt.Fprintf(&b, `<text x="%d" y="%d">%02d:00</text>`, hour*dayWidth/24, dayHeight-3, hour)
		}
		if rows[day] != nil {
			b.WriteString(rows[day].String())
		}
		b.WriteString("</svg>")
		p.Days = append(p.Days, soakDay{Label: fmt.Sprintf("Day %d", day+1), SVG: template.HTML(b.String())}) // only numbers and words of ours are in it
	}
	return p
}

func drawWake(b *strings.Builder, w soakWake, most float64) {
	x := float64(w.Minute%(24*60)) / (24 * 60) * dayWidth
	height := 2 + 34*math.Sqrt(float64(w.Writes)/most)
	fmt.Fprintf(b, `<g><title>%02d:%02d: %d writes; first answer after %d ms; %d kills, %d revisions, %d stalls, %d steps of the clock, %d faults of the store</title>`,
		w.Minute/60%24, w.Minute%60, w.Writes, w.Cold, w.Kills, w.Deploys, w.Stalls, w.Steps, w.Faults)
	fmt.Fprintf(b, `<path class="bar" d="M%.1f %dv-%.1fh5v%.1fz"/>`, x, dayFoot, height, height)
	y := float64(dayFoot) - height - 4
	for range w.Kills {
		fmt.Fprintf(b, `<path class="kill" d="M%.1f %.1fl5 -5m-5 0l5 5"/>`, x, y)
		y -= 7
	}
	for range w.Deploys {
		fmt.Fprintf(b, `<path class="switch" d="M%.1f %.1fh6l-3 -5z"/>`, x, y)
		y -= 7
	}
	if w.Stalls+w.Steps > 0 {
		fmt.Fprintf(b, `<circle class="stall" cx="%.1f" cy="%.1f" r="2"/>`, x+2.5, y-1)
	}
	b.WriteString("</g>")
}
