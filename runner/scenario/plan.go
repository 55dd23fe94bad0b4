package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"
)

// Targets: where the engine runs. A document says local or twin, which is the Cloud Run emulator; one that says twin can be run on cloudrun
// instead.
const (
	TargetLocal    = "local"
	TargetEmulator = "twin"
	TargetCloudRun = "cloudrun"
)

// Options choose which parts of a scenario are planned.
type Options struct {
	// Profile is ci, default or full; empty: default.
	Profile string
	// Set are "name=value" texts that override the document and the profile. The value is written as in a document; an axis of the matrix
	// takes several, separated by commas. In a document with several probes it applies to all that declare the name.
	Set []string
	// Store wins over the document's; empty: the document's.
	Store string
	// Target wins over the document's; empty: the document's. Only cloudrun can, and only over twin.
	Target string
	// Probes keeps only these; empty: all.
	Probes []string
}

// Plan is what to run: the cells in the order of the document.
type Plan struct {
	Scenario *Scenario
	Profile  string
	Store    string
	Target   string
	Clock    string
	Cells    []Cell

	set []string
}

// Cell is one probe at one point of its matrix, with everything filled in.
type Cell struct {
	Probe string
	Claim string
	// Label distinguishes the cells of a probe for a reader: "size=10MB"; empty without a matrix.
	Label string
	// Params are the declared params and axes, typed as Args are.
	Params Args
	// Rounds is the param rounds, or 1.
	Rounds int
	// Repeat says how often the runner goes through Steps: Rounds, or 1 if a step takes $rounds and so does them itself.
	Repeat int
	Nodes  []Node
	Steps  []PlannedStep
	Faults []Fault
	Checks []string
	Expect []Expectation

	axes []string // "size=10MB" for each axis
}

// PlannedStep is a verb with its checked arguments.
type PlannedStep struct {
	Verb string
	Args Args
}

// Node is a process that takes part.
type Node struct {
	Name string
	Args Args
}

// Fault is a rule that breaks something. Name is its name in fired() and the record.
type Fault struct {
	Name string
	Args Args
}

// Plan applies the profile and the overrides and expands the matrix. A mistake in the options is a plain error; one in the document is an
// *Error.
func (s *Scenario) Plan(o Options) (*Plan, error) {
	plan := &Plan{
		Scenario: s, Profile: orElse(o.Profile, "default"), Store: orElse(o.Store, s.Store),
		Target: orElse(o.Target, s.Target), Clock: s.Clock, set: o.Set,
	}
	if !slices.Contains(profileNames(), plan.Profile) {
		return nil, errors.New(unknown("profile", plan.Profile, profileNames()))
	}
	if !slices.Contains(storeNames(), plan.Store) {
		return nil, errors.New(unknown("store", plan.Store, storeNames()))
	}
	if plan.Target != s.Target && (plan.Target != TargetCloudRun || s.Target != TargetEmulator) {
		return nil, fmt.Errorf("target %s: %s runs on target %s; only what runs on %s can run on %s instead", plan.Target, s.ID, s.Target, TargetEmulator, TargetCloudRun)
	}
	for _, id := range o.Probes {
		if !slices.Contains(s.probeIDs(), id) {
			return nil, errors.New(unknown("probe", id, s.probeIDs()))
		}
	}
	probes, err := s.overridden(plan.Profile, o.Set)
	if err != nil {
		return nil, err
	}
	for i, p := range probes {
		if len(o.Probes) > 0 && !slices.Contains(o.Probes, p.ID) || len(o.Probes) == 0 && !p.in(plan.Profile) {
			continue
		}
		cells, err := s.cells(i, p)
		if err != nil {
			return nil, inFile(s.file, err)
		}
		plan.Cells = append(plan.Cells, cells...)
		if len(plan.Cells) > MaxCells {
			return nil, fmt.Errorf("plan %s: more than %d cells: make the matrix smaller", s.ID, MaxCells)
		}
	}
	return plan, nil
}

// in says whether the probe is tried in a profile.
func (p Probe) in(profile string) bool {
	return len(p.Only) == 0 || slices.ContainsFunc(p.Only, func(v Value) bool { return v.Data == profile })
}

func (s *Scenario) probeIDs() []string {
	ids := make([]string, len(s.Probes))
	for i, p := range s.Probes {
		ids[i] = p.ID
	}
	return ids
}

// overridden returns the probes with first the profile's and then the caller's numbers applied.
func (s *Scenario) overridden(profile string, set []string) ([]Probe, error) {
	probes := make([]Probe, len(s.Probes))
	for i, p := range s.Probes {
		p.Params, p.Matrix = slices.Clone(p.Params), slices.Clone(p.Matrix)
		probes[i] = p
	}
	// A value for one probe overrides one for all.
	for _, e := range s.Profiles[profile] {
		if _, isProbe := e.Value.Data.(Entries); isProbe {
			continue
		}
		if err := override(probes, e, "the profile "+profile); err != nil {
			return nil, inFile(s.file, err)
		}
	}
	for _, e := range s.Profiles[profile] {
		inner, isProbe := e.Value.Data.(Entries)
		if !isProbe {
			continue
		}
		i := slices.IndexFunc(probes, func(p Probe) bool { return p.ID == e.Key })
		if i < 0 {
			return nil, inFile(s.file, errorAt(e.token, "%s", unknown("probe", e.Key, s.probeIDs())))
		}
		for _, e := range inner {
			if err := override(probes[i:i+1], e, "the profile "+profile); err != nil {
				return nil, inFile(s.file, err)
			}
		}
	}
	for _, text := range set {
		e, err := parseSet(text)
		if err == nil {
			err = override(probes, e, "-set")
		}
		if err != nil {
			return nil, fmt.Errorf("-set %s: %w", text, plain(err))
		}
	}
	return probes, nil
}

// parseSet reads name=value.
func parseSet(text string) (Entry, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" || value == "" {
		return Entry{}, errors.New("must be name=value, as in -set rounds=3")
	}
	parts := strings.Split(value, ",")
	if len(parts) == 1 {
		return Entry{Key: name, Value: Value{Data: inferScalar(value)}}, nil
	}
	list := make([]Value, len(parts))
	for i, part := range parts {
		list[i] = Value{Data: inferScalar(part)}
	}
	return Entry{Key: name, Value: Value{Data: list}}, nil
}

// plain removes the place from an error about something that is not in a document.
func plain(err error) error {
	var placed interface{ GetMessage() string }
	if errors.As(err, &placed) {
		return errors.New(placed.GetMessage())
	}
	return err
}

// override puts a value into every probe that declares the name as a param or as an axis, and fails if none does.
func override(probes []Probe, e Entry, where string) error {
	found := false
	var known []string
	for i := range probes {
		for j := range probes[i].Params {
			if probes[i].Params[j].Key == e.Key {
				if _, err := scalar(e.Value); err != nil {
					return err
				}
				probes[i].Params[j].Value, found = e.Value, true
			}
		}
		for j := range probes[i].Matrix {
			if probes[i].Matrix[j].Key == e.Key {
				value := e.Value
				if _, isList := value.Data.([]Value); !isList {
					value = Value{Data: []Value{e.Value}, token: e.Value.token}
				}
				if _, err := axis(value); err != nil {
					return err
				}
				probes[i].Matrix[j].Value, found = value, true
			}
		}
		known = append(known, slices.Concat(probes[i].Params.keys(), probes[i].Matrix.keys())...)
	}
	if !found {
		return errorAt(e.token, "%s sets what no probe declares: %s", where, unknown("param", e.Key, known))
	}
	return nil
}

// scalar rejects lists, mappings and nothing, and returns the typed value.
func scalar(v Value) (any, error) {
	switch v.Data.(type) {
	case nil:
		return nil, errorAt(v.token, "a value is missing")
	case Entries, []Value:
		return nil, errorAt(v.token, "a single value is wanted here: a list belongs under matrix")
	}
	return v.Data, nil
}

// axis returns the typed values of one axis.
func axis(v Value) ([]any, error) {
	list, ok := v.Data.([]Value)
	if !ok || len(list) == 0 {
		return nil, errorAt(v.token, "an axis of the matrix is a list of values, as in size: [1MB, 10MB]")
	}
	values := make([]any, len(list))
	for i, item := range list {
		value, err := scalar(item)
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return values, nil
}

// Replay returns the command that runs one cell again: the same profile and overrides, its own point of the matrix, and the seed. flags are
// the runner's own relevant flags, such as "-bucket", "gs://name/prefix".
func (p *Plan) Replay(c Cell, seed uint64, flags ...string) string {
	name := p.Scenario.ID
	if strings.ContainsAny(p.Scenario.file, `/\`) {
		name = p.Scenario.file
	}
	words := []string{"go", "run", "./runner", "-scenario", name, "-profile", p.Profile, "-probe", c.Probe, "-store", p.Store}
	for _, set := range p.set {
		axis, _, _ := strings.Cut(set, "=")
		if !slices.ContainsFunc(c.axes, func(a string) bool { return strings.HasPrefix(a, axis+"=") }) {
			words = append(words, "-set", set)
		}
	}
	for _, a := range c.axes {
		words = append(words, "-set", a)
	}
	words = append(words, "-seed", fmt.Sprint(seed))
	words = append(words, flags...)
	return shellescape.QuoteCommand(words)
}
