package interleave

import (
	"fmt"
	"slices"
	"strings"
)

// Difference is a schedule in which a server answers differently.
type Difference struct {
	Schedule  string
	Want, Got string // the first differing line; empty: there is none
	// Longer is how many longer schedules that contain this one also differ.
	Longer int
}

// String shows the schedule, and of both lines the part that differs.
func (d Difference) String() string {
	want, got := shorten(d.Want, d.Got)
	return fmt.Sprintf("%s: here %q, where PostgreSQL says %q", d.Schedule, got, want)
}

// shorten drops the messages that two answers have in common at the beginning, and what follows the first differing one.
func shorten(a, b string) (string, string) {
	const between = " | "
	what, restA, _ := strings.Cut(a, ": ")
	if other, restB, ok := strings.Cut(b, ": "); ok && other == what {
		as, bs := strings.Split(restA, between), strings.Split(restB, between)
		same := 0
		for same < len(as) && same < len(bs) && as[same] == bs[same] {
			same++
		}
		return what + ": " + first(as, same), what + ": " + first(bs, same)
	}
	return a, b
}

// first is the message at a place of an answer, and that there are others.
func first(messages []string, at int) string {
	if at >= len(messages) {
		return "... and no more"
	}
	text := messages[at]
	if at > 0 {
		text = "... " + text
	}
	if at < len(messages)-1 {
		text += " ..."
	}
	return text
}

// Compare finds the schedules whose transcripts differ, among those present in both, the shortest first. Schedules that contain another
// differing one are only counted with that one.
func Compare(want, got []Transcript) []Difference {
	wanted := make(map[string][]string, len(want))
	for _, t := range want {
		wanted[t.Schedule] = t.Lines
	}
	var all []Difference
	for _, t := range got {
		lines, ok := wanted[t.Schedule]
		if !ok || slices.Equal(lines, t.Lines) {
			continue
		}
		d := Difference{Schedule: t.Schedule}
		for i := range max(len(lines), len(t.Lines)) {
			if d.Want, d.Got = at(lines, i), at(t.Lines, i); d.Want != d.Got {
				break
			}
		}
		all = append(all, d)
	}
	return least(all)
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// least keeps the schedules that hold no other one.
func least(all []Difference) []Difference {
	slices.SortStableFunc(all, func(a, b Difference) int { return strings.Count(a.Schedule, " ") - strings.Count(b.Schedule, " ") })
	var kept []Difference
	var schedules []Schedule
	for _, d := range all {
		s, err := Parse(d.Schedule)
		if err != nil { // recorded with other actions: it stands for itself
			kept, schedules = append(kept, d), append(schedules, nil)
			continue
		}
		if i := slices.IndexFunc(schedules, func(k Schedule) bool { return k != nil && k.within(s) }); i >= 0 {
			kept[i].Longer++
			continue
		}
		kept, schedules = append(kept, d), append(schedules, s)
	}
	return kept
}
