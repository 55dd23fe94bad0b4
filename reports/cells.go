package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"blobpglite/runner/record"
	"blobpglite/runner/registry"
	"blobpglite/runner/scenario"
	"blobpglite/scenarios"
)

// amounts holds the params that say how much was done, not what: a run of 30 seconds takes the place of one of 20. A name is an amount only
// where the document does not make it an axis. A param that is unknown here distinguishes cells: a superfluous line is noticed, a missing one is not.
func amounts() []string {
	return []string{
		"calls", "commits", "connects", "count", "days", "hours", "length", "lookups", "minutes", "rounds", "samples", "schedules", "seconds", "setups", "statements", "time", "tries", "turns",
	}
}

// documented is a probe according to today's document.
type documented struct {
	in       *scenario.Scenario
	axes     []string          // of its matrix, in its order
	defaults map[string]string // of its params
	bounds   []string          // params that no step gets: they say what is expected, not what is tried
}

// loaded reads all scenarios once, by name: they are part of this program.
var loaded = sync.OnceValues(func() (map[string]*scenario.Scenario, error) {
	ids, err := scenarios.IDs()
	if err != nil {
		return nil, err
	}
	all := map[string]*scenario.Scenario{}
	for _, id := range ids {
		if all[id], err = scenario.Load(id, registry.Language()); err != nil {
			return nil, err
		}
	}
	return all, nil
})

// documents returns the probes of all scenarios, by name.
var documents = sync.OnceValues(func() (map[string]documented, error) {
	docs, err := loaded()
	if err != nil {
		return nil, err
	}
	all := map[string]documented{}
	for _, doc := range docs {
		for _, p := range doc.Probes {
			all[p.ID] = probeOf(doc, p)
		}
	}
	return all, nil
})

func probeOf(doc *scenario.Scenario, p scenario.Probe) documented {
	d := documented{in: doc, defaults: map[string]string{}}
	for _, e := range p.Matrix {
		d.axes = append(d.axes, e.Key)
	}
	given := p.Nodes
	for _, s := range p.Steps {
		given = append(given, scenario.Entry{Value: s.Args})
	}
	for _, f := range p.Faults {
		given = append(given, f...)
	}
	for _, e := range p.Params {
		d.defaults[e.Key] = paramText(e.Value.Data)
		if !mentions(scenario.Value{Data: given}, e.Key) {
			d.bounds = append(d.bounds, e.Key)
		}
	}
	return d
}

// mentions reports whether a value contains $name.
func mentions(v scenario.Value, name string) bool {
	switch data := v.Data.(type) {
	case string:
		return slices.Contains(dollarName.FindAllString(data, -1), "$"+name)
	case []scenario.Value:
		return slices.ContainsFunc(data, func(v scenario.Value) bool { return mentions(v, name) })
	case scenario.Entries:
		return slices.ContainsFunc(data, func(e scenario.Entry) bool { return mentions(e.Value, name) })
	}
	return false
}

var dollarName = regexp.MustCompile(`\$[a-z][a-z0-9_]*`)

// folder matches a path on the machine of the run, and not a fault point (wal/before-put).
var folder = regexp.MustCompile(`^(/|\.\.?/|~/)`)

// paramText writes a param's value as a document would; folders and empty values give an empty text.
func paramText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64: // as JSON decodes numbers
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		if folder.MatchString(v) {
			return ""
		}
		return v
	}
	return fmt.Sprint(v)
}

// axes returns the params by which lines of one probe differ in what they try, sorted: the axes of the document's matrix, and every other param except
// amounts, folders, and what is only expected. A param that an older document did not have has the default that the document has now:
// a param is introduced to vary something that was fixed.
func axes(r record.Record) string {
	all, err := documents()
	if err != nil { // makeBoard reports it
		return ""
	}
	d := all[r.Probe]
	value := map[string]string{}
	for name, text := range d.defaults {
		value[name] = text
	}
	for name, v := range r.Params {
		value[name] = paramText(v)
	}
	var parts []string
	for name, text := range value {
		if slices.Contains(d.axes, name) || text != "" && !slices.Contains(amounts(), name) && !slices.Contains(d.bounds, name) {
			parts = append(parts, name+"="+text)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// cellKey is equal for lines of the same cell: the same probe tries the same thing, with the same store and target.
func cellKey(r record.Record) string {
	return strings.Join([]string{r.Probe, axes(r), r.Env.Store, r.Env.Target}, "\x00")
}

// claimOf returns the claim of a line in today's words, if the line was judged by everything that is judged today; otherwise as it was recorded.
func claimOf(r record.Record) string {
	all, err := documents()
	d, ok := all[r.Probe]
	if err != nil || !ok {
		return r.Claim
	}
	o := scenario.Options{Profile: r.Profile, Probes: []string{r.Probe}}
	for name, v := range r.Params {
		text := paramText(v)
		if _, declared := d.defaults[name]; text == "" || !declared && !slices.Contains(d.axes, name) {
			continue
		}
		o.Set = append(o.Set, name+"="+text)
	}
	plan, err := d.in.Plan(o)
	if err != nil || len(plan.Cells) != 1 { // a value that the document no longer accepts
		return r.Claim
	}
	judged := func(name string) bool {
		return slices.ContainsFunc(r.Checks, func(c record.Check) bool { return c.Name == name })
	}
	cell := plan.Cells[0]
	if slices.ContainsFunc(cell.Expect, func(e scenario.Expectation) bool { return !judged(e.Text) }) || slices.ContainsFunc(cell.Checks, func(name string) bool { return !judged(name) }) {
		return r.Claim
	}
	return cell.Claim
}

// paramLists writes the params of several lines together, each with all its values: "clients=1, 3; durability=interval, sleep; hours=24".
func paramLists(lines []record.Record) string {
	values := map[string][]string{}
	for _, r := range lines {
		for name, v := range r.Params {
			if text := paramText(v); text != "" && !slices.Contains(values[name], text) {
				values[name] = append(values[name], text)
			}
		}
	}
	var parts []string
	for name, list := range values {
		slices.SortFunc(list, func(a, b string) int {
			x, errX := strconv.ParseFloat(a, 64)
			y, errY := strconv.ParseFloat(b, 64)
			if errX == nil && errY == nil {
				return cmp.Compare(x, y)
			}
			return 0 // in the order of the lines
		})
		parts = append(parts, name+"="+strings.Join(list, ", "))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
