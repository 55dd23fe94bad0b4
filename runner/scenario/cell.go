package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// cells multiplies the matrix of one probe out.
func (s *Scenario) cells(i int, p Probe) ([]Cell, error) {
	count := 1
	for _, e := range p.Matrix {
		values, err := axis(e.Value)
		if err != nil {
			return nil, err
		}
		if count *= len(values); count > MaxCells {
			return nil, errorAt(e.token, "the matrix of %s has more than %d cells", p.ID, MaxCells)
		}
	}
	cells := make([]Cell, 0, count)
	for n := range count {
		cell, err := s.cell(i, p, n)
		if err != nil {
			return nil, err
		}
		cells = append(cells, cell)
	}
	return cells, nil
}

// cell makes the n-th point of the matrix; the last axis changes fastest.
func (s *Scenario) cell(i int, p Probe, n int) (Cell, error) {
	c := Cell{Probe: p.ID, Params: Args{}, Rounds: 1}
	for _, e := range p.Params {
		c.Params[e.Key] = e.Value.Data
	}
	for _, e := range slices.Backward(p.Matrix) {
		list, _ := e.Value.Data.([]Value)
		c.Params[e.Key] = list[n%len(list)].Data
		c.axes = append(c.axes, fmt.Sprintf("%s=%v", e.Key, written(c.Params[e.Key])))
		n /= len(list)
	}
	slices.Reverse(c.axes)
	c.Label = strings.Join(c.axes, " ")
	if err := c.fill(s, i, p); err != nil {
		return Cell{}, err
	}
	return c, nil
}

// fill resolves everything in a probe under the cell's params.
func (c *Cell) fill(s *Scenario, i int, p Probe) (err error) {
	if rounds, ok := c.Params["rounds"]; ok {
		n, isInt := rounds.(int64)
		if !isInt || n < 1 || n > 1_000_000 {
			return errorAt(s.place("probes", i, "params"), "rounds is %v, must be a whole number from 1 to 1000000", written(rounds))
		}
		c.Rounds = int(n)
	}
	if c.Claim, err = c.substitute(p.Claim, s.place("probes", i, "claim")); err != nil {
		return err
	}
	c.Repeat = c.Rounds
	for _, step := range p.Steps {
		planned, ownRounds, err := c.step(s.registry, step)
		if err != nil {
			return err
		}
		if ownRounds {
			c.Repeat = 1
		}
		c.Steps = append(c.Steps, planned)
	}
	for _, e := range p.Nodes {
		args, err := c.args("the node "+e.Key, nodeArgs(), e.Value)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, Node{Name: e.Key, Args: args})
	}
	for _, rule := range p.Faults {
		fault, err := c.fault(s.registry, rule, s.place("probes", i, "faults"))
		if err != nil {
			return err
		}
		c.Faults = append(c.Faults, fault)
	}
	for _, check := range p.Checks {
		name, ok := check.Data.(string)
		if !ok || !slices.Contains(namesOf(s.registry.Checks), name) {
			return errorAt(check.token, "%s", unknown("check", fmt.Sprint(written(check.Data)), namesOf(s.registry.Checks)))
		}
		c.Checks = append(c.Checks, name)
	}
	for _, e := range p.Expect {
		expectation, err := c.compile(s.registry, p.ID, e)
		if err != nil {
			return err
		}
		c.Expect = append(c.Expect, expectation)
	}
	return nil
}

// step checks a step against its verb. ownRounds says that it takes $rounds.
func (c *Cell) step(reg Registry, step Step) (planned PlannedStep, ownRounds bool, err error) {
	verb, ok := reg.verb(step.Verb)
	if !ok {
		return PlannedStep{}, false, errorAt(step.token, "%s", unknown("verb", step.Verb, reg.verbNames()))
	}
	value := step.Args
	if _, isMapping := value.Data.(Entries); !isMapping && value.Data != nil {
		if len(verb.Args) == 0 {
			return PlannedStep{}, false, errorAt(value.token, "the verb %s takes no arguments", verb.Name)
		}
		value = Value{token: value.token, Data: Entries{{Key: verb.Args[0].Name, Value: value, token: value.token}}}
	}
	given, _ := value.Data.(Entries)
	if _, ok := given.Get("within"); !ok && verb.Name == "await" {
		return PlannedStep{}, false, errorAt(step.token, "an await must say how long it waits at most: add within, as in within: 30s")
	}
	if rounds, ok := given.Get("rounds"); ok {
		if rounds.Data != "$rounds" {
			return PlannedStep{}, false, errorAt(rounds.token, "write rounds: $rounds, and the number under params, so that profiles and -set reach it")
		}
		ownRounds = true
	}
	args, err := c.args("the verb "+verb.Name, verb.Args, value)
	return PlannedStep{Verb: verb.Name, Args: args}, ownRounds, err
}

// args checks a mapping against the declared arguments and fills in defaults.
func (c *Cell) args(owner string, declared []Arg, value Value) (Args, error) {
	given, ok := value.Data.(Entries)
	if !ok && value.Data != nil {
		return nil, errorAt(value.token, "%s wants a mapping here, as in {key: value}", owner)
	}
	out := Args{}
	for _, e := range given {
		i := slices.IndexFunc(declared, func(a Arg) bool { return a.Name == e.Key })
		if i < 0 {
			return nil, errorAt(e.token, "%s: %s", owner, unknown("argument", e.Key, argNames(declared)))
		}
		data, err := c.resolve(e.Value)
		if err != nil {
			return nil, err
		}
		if out[e.Key], err = coerce(data, declared[i]); err != nil {
			return nil, errorAt(e.Value.token, "%s: %s: %v", owner, e.Key, err)
		}
	}
	for _, a := range declared {
		if out.Has(a.Name) {
			continue
		}
		if a.Required {
			return nil, errorAt(value.token, "%s: the argument %s is missing (%s)", owner, a.Name, a.Doc)
		}
		if a.Default == "" {
			continue
		}
		data, err := coerce(inferScalar(a.Default), a)
		if err != nil {
			return nil, errorAt(value.token, "%s: the default of %s does not fit: %v", owner, a.Name, err)
		}
		out[a.Name] = data
	}
	return out, nil
}

func argNames(args []Arg) []string {
	names := make([]string, len(args))
	for i, a := range args {
		names[i] = a.Name
	}
	return names
}

// nodeArgs are the keys of a node.
func nodeArgs() []Arg {
	return []Arg{
		{Name: "role", Required: true, OneOf: []string{"writer", "reader"}, Doc: "what the process does"},
		{Name: "standby", Kind: KindBool, Doc: "starts without being asked for work"},
	}
}

// faultArgs are the keys of a fault rule.
func faultArgs() []Arg {
	return []Arg{
		{Name: "name", Doc: "what fired() calls the rule; made from do, phase, op and key if left out"},
		{Name: "node", Default: "*", Doc: "whose operations; * for all"},
		{Name: "seam", Required: true, Doc: "where the rule is put in"},
		{Name: "op", Doc: "get, put, delete or list; any if left out"},
		{Name: "key", Doc: "part of the object's name; any if left out"},
		{Name: "phase", OneOf: []string{"before", "after"}, Default: "before", Doc: "before or after the act"},
		{Name: "p", Kind: KindFloat, Default: "1", Doc: "how likely the rule fires, 0 to 1"},
		{Name: "count", Kind: KindInt, Doc: "at most this often; unbounded if left out"},
		{Name: "delay", Kind: KindDuration, Doc: "for do: delay"},
		{Name: "do", Required: true, Doc: "what happens: lose, fail, delay"},
	}
}

func (c *Cell) fault(reg Registry, rule Entries, place *token.Token) (Fault, error) {
	if len(rule) > 0 {
		place = rule[0].token
	}
	args, err := c.args("the fault", faultArgs(), Value{Data: rule, token: place})
	if err != nil {
		return Fault{}, err
	}
	if !slices.Contains(namesOf(reg.Seams), args.String("seam")) {
		return Fault{}, errorAt(place, "%s", unknown("fault seam", args.String("seam"), namesOf(reg.Seams)))
	}
	if p := args.Float("p"); p <= 0 || p > 1 {
		return Fault{}, errorAt(place, "the fault: p is %v, must be above 0 and at most 1", p)
	}
	words := []string{args.String("do"), args.String("phase"), args.String("op"), args.String("key")}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	name := orElse(args.String("name"), strings.Join(words, " "))
	delete(args, "name")
	return Fault{Name: name, Args: args}, nil
}

// resolve substitutes $param: a value that is only "$name" takes the param's type, and within longer texts the param's text is inserted. $$
// is a dollar sign.
func (c *Cell) resolve(v Value) (any, error) {
	switch data := v.Data.(type) {
	case string:
		if name, ok := strings.CutPrefix(data, "$"); ok && isName(name) {
			value, ok := c.Params[name]
			if !ok {
				return nil, errorAt(v.token, "%s", unknown("param", name, c.names()))
			}
			return value, nil
		}
		return c.substitute(data, v.token)
	case []Value:
		list := make([]any, len(data))
		for i, item := range data {
			value, err := c.resolve(item)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return list, nil
	case Entries:
		return nil, errorAt(v.token, "a mapping cannot be the value of an argument")
	case nil:
		return nil, errorAt(v.token, "a value is missing")
	}
	return v.Data, nil
}

// substitute fills params into a text.
func (c *Cell) substitute(text string, place *token.Token) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "$")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		if after, escaped := strings.CutPrefix(rest, "$"); escaped {
			b.WriteByte('$')
			text = after
			continue
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return !isName("a" + string(r)) })
		if end < 0 {
			end = len(rest)
		}
		value, known := c.Params[rest[:end]]
		if !known {
			return "", errorAt(place, "%s (write $$ for a dollar sign)", unknown("param", rest[:end], c.names()))
		}
		fmt.Fprint(&b, written(value))
		text = rest[end:]
	}
}

// isName reports whether the text is the name of a param.
func isName(text string) bool {
	for i, r := range text {
		if !(r >= 'a' && r <= 'z' || i > 0 && (r == '_' || r >= '0' && r <= '9')) {
			return false
		}
	}
	return text != ""
}

func (c *Cell) names() []string {
	names := make([]string, 0, len(c.Params))
	for name := range c.Params {
		names = append(names, name)
	}
	return names
}

// Written returns the params as a document would write them, for the record.
func (c Cell) Written() map[string]any {
	out := make(map[string]any, len(c.Params))
	for name, v := range c.Params {
		out[name] = written(v)
	}
	return out
}

// Hash names the series that this cell's numbers belong to: 16 hex digits over params, nodes, steps, faults, store, target and machine
// class. Prose, checks and expectations are not included, so rewording or tightening a claim keeps the series.
func (c Cell) Hash(store, target, machineClass string) (string, error) {
	type named struct {
		Name string         `json:"name"`
		Args map[string]any `json:"args"`
	}
	content := struct {
		Probe   string         `json:"probe"`
		Params  map[string]any `json:"params"`
		Nodes   []named        `json:"nodes"`
		Steps   []named        `json:"steps"`
		Faults  []named        `json:"faults"`
		Store   string         `json:"store"`
		Target  string         `json:"target"`
		Machine string         `json:"machine"`
	}{Probe: c.Probe, Params: c.Written(), Store: store, Target: target, Machine: machineClass}
	for _, n := range c.Nodes {
		content.Nodes = append(content.Nodes, named{n.Name, writtenArgs(n.Args)})
	}
	for _, s := range c.Steps {
		content.Steps = append(content.Steps, named{s.Verb, writtenArgs(s.Args)})
	}
	for _, f := range c.Faults {
		content.Faults = append(content.Faults, named{f.Name, writtenArgs(f.Args)})
	}
	text, err := json.Marshal(content) // keys of maps are sorted in the output
	if err != nil {
		return "", fmt.Errorf("hash the cell %s: %w", c.Probe, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

func writtenArgs(a Args) map[string]any {
	out := make(map[string]any, len(a))
	for name, v := range a {
		out[name] = written(v)
	}
	return out
}
