package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pictures are illustrations stored with the results. Each may be missing.
type pictures struct {
	counterexample *counterexample
	soak           *soakPicture
	episodes       []string // the names of timelines
}

// counterexample is a run of the explorer, step by step.
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

// storyStep is one action of one process, and the bucket's answer.
type storyStep struct{ Who, Act, Answer, Class string }

// soakPicture shows the days of the soak.
type soakPicture struct {
	File    string // the file that it was drawn from
	SVG     string // in a file of its own, because a month of it is as large as the page
	Days    int
	Wakes   int
	Writes  int
	Kills   int
	Faults  int64
	Calm    string // the median, over undisturbed wakes, of their slowest write, and the same over the others
	Shaken  string
	Slowest string
}

// soakFile is the picture's file, next to the results.
const soakFile = "pictures/soak.svg"

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

// readPictures reads the pictures in the folder of the results.
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
	file, err := longestSoak(filepath.Join(results, "e5"))
	if err != nil || file == "" {
		return p, err
	}
	var wakes []soakWake
	if err := decodeIfThere(filepath.Join(results, "e5", file), &wakes); err != nil || len(wakes) == 0 {
		return p, err
	}
	p.soak = drawSoak(wakes)
	p.soak.File = "e5/" + file
	return p, nil
}

// longestSoak returns the file of the recorded soak with the most hours: each length has one file, of its newest run. Empty: there is none.
func longestSoak(folder string) (string, error) {
	names, err := filepath.Glob(filepath.Join(folder, "e5.1-*h.json"))
	if err != nil {
		return "", fmt.Errorf("look for soaks: %w", err)
	}
	longest, most := "", 0
	for _, name := range names {
		var hours int
		if _, err := fmt.Sscanf(filepath.Base(name), "e5.1-%dh.json", &hours); err == nil && hours > most {
			longest, most = filepath.Base(name), hours
		}
	}
	return longest, nil
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

// stepsOf joins what a process did with the answers that it got.
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
	dayHeight = 122
	dayFoot   = 74  // where the bars of writes start upward, and those of the lag downward
	lagHeight = 30  // of the longest
	lagLeast  = 10  // in milliseconds: up to this, no bar
	lagMost   = 1e6 // the longest bar
)

// soakStyle is the picture's own style, because it is also shown alone.
const soakStyle = `text{font:11px system-ui,sans-serif;fill:#57606a}.axis,.grid{fill:none;stroke:#57606a}.grid{stroke:#d0d7de}.bar{fill:#2f6aa8}.lag{fill:#8250df}` +
	`.kill{fill:none;stroke:#a40e26;stroke-width:1.8}.switch{fill:#b35900}circle{fill:#57606a}.day{font-weight:600}`

// drawSoak draws a row for each day: a bar for each wake, as high as its writes (their square root, because a few are large), a cross for each kill, a
// triangle for each revision, a dot for each stall or step of the clock; and downward how long its slowest write waited, on a logarithmic scale.
func drawSoak(wakes []soakWake) *soakPicture {
	p := &soakPicture{Wakes: len(wakes)}
	most := 1.0
	var calm, shaken []int
	for _, w := range wakes {
		most = max(most, float64(w.Writes))
		p.Writes, p.Kills, p.Faults = p.Writes+w.Writes, p.Kills+w.Kills+w.Deploys, p.Faults+w.Faults
		p.Days = max(p.Days, w.Minute/(24*60)+1)
		if w.Kills+w.Deploys+w.Stalls+w.Steps == 0 {
			calm = append(calm, w.Slow)
		} else {
			shaken = append(shaken, w.Slow)
		}
	}
	p.Calm, p.Shaken = medianMS(calm), medianMS(shaken)
	p.Slowest = quantity(float64(slices.MaxFunc(wakes, func(a, b soakWake) int { return a.Slow - b.Slow }).Slow), "ms")
	var b strings.Builder
	height := p.Days * dayHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%d days of the soak"><style>%s</style><path d="M0 0H%dV%dH0z" fill="#fff"/>`+"\n",
		dayWidth, height, dayWidth, height, p.Days, soakStyle, dayWidth, height)
	for day := range p.Days {
		drawDay(&b, day)
	}
	for _, w := range wakes {
		drawWake(&b, w, most)
	}
	b.WriteString("</svg>\n")
	p.SVG = b.String()
	return p
}

// medianMS returns the median of times as text; a dash: there are none.
func medianMS(values []int) string {
	if len(values) == 0 {
		return "-"
	}
	slices.Sort(values)
	return quantity(float64(values[(len(values)-1)/2]), "ms")
}

// drawDay draws the row's axes: hours, and one second and a hundred seconds for the lag.
func drawDay(b *strings.Builder, day int) {
	y := day*dayHeight + dayFoot
	fmt.Fprintf(b, `<path class="axis" d="M0 %dH%d"/><text class="day" x="2" y="%d">Day %d</text>`, y, dayWidth, y-dayFoot+12, day+1)
	for _, ms := range []float64{1000, 100_000} {
		at := float64(y) + lagBar(ms)
		fmt.Fprintf(b, `<path class="grid" d="M0 %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, at, dayWidth, dayWidth, at-1, quantity(ms, "ms"))
	}
	for hour := 0; hour < 24; hour += 3 {
		fmt.Fprintf(b, `<text x="%d" y="%d">%02d:00</text>`, hour*dayWidth/24, y+lagHeight+13, hour)
	}
	b.WriteString("\n")
}

// lagBar returns the length of the bar for a time.
func lagBar(ms float64) float64 {
	return lagHeight * math.Log(min(max(ms, lagLeast), lagMost)/lagLeast) / math.Log(lagMost/lagLeast)
}

func drawWake(b *strings.Builder, w soakWake, most float64) {
	x := int(float64(w.Minute%(24*60)) / (24 * 60) * dayWidth)
	foot := w.Minute/(24*60)*dayHeight + dayFoot
	height := int(2 + 34*math.Sqrt(float64(w.Writes)/most))
	fmt.Fprintf(b, `<g><title>%02d:%02d: %d writes, the slowest %s; first answer %s%s</title><path class="bar" d="M%d %dv-%dh5v%dz"/>`,
		w.Minute/60%24, w.Minute%60, w.Writes, quantity(float64(w.Slow), "ms"), quantity(float64(w.Cold), "ms"), w.wentWrong(), x, foot, height, height)
	if lag := int(lagBar(float64(w.Slow))); lag > 0 {
		fmt.Fprintf(b, `<path class="lag" d="M%d %dv%dh5v-%dz"/>`, x, foot, lag, lag)
	}
	y := foot - height - 4
	var kills, deploys strings.Builder
	for range w.Kills {
		fmt.Fprintf(&kills, "M%d %dl5-5m-5 0l5 5", x, y)
		y -= 7
	}
	for range w.Deploys {
		fmt.Fprintf(&deploys, "M%d %dh6l-3-5z", x, y)
		y -= 7
	}
	for _, mark := range []struct{ class, path string }{{"kill", kills.String()}, {"switch", deploys.String()}} {
		if mark.path != "" {
			fmt.Fprintf(b, `<path class="%s" d="%s"/>`, mark.class, mark.path)
		}
	}
	if w.Stalls+w.Steps > 0 {
		fmt.Fprintf(b, `<circle cx="%d" cy="%d" r="2"/>`, x+2, y-1)
	}
	b.WriteString("</g>\n")
}

// wentWrong lists each kind of disturbance of a wake.
func (w soakWake) wentWrong() string {
	text := ""
	for _, kind := range []struct {
		n    int64
		name string
	}{{int64(w.Kills), "kills"}, {int64(w.Deploys), "revisions"}, {int64(w.Stalls), "stalls"}, {int64(w.Steps), "steps of the clock"}, {w.Faults, "faults of the store"}} {
		if kind.n > 0 {
			text += fmt.Sprintf("; %s: %d", kind.name, kind.n)
		}
	}
	return text
}
