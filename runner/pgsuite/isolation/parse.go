package isolation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Spec is a specification.
type Spec struct {
	Setup        []string // by the control connection, before each permutation
	Teardown     []string // none or one
	Sessions     []*Session
	Permutations []Permutation // none: every interleaving
}

// Session is a connection and its steps.
type Session struct {
	Name            string
	Setup, Teardown []string // none or one
	Steps           []*Step
}

// Step is SQL that is sent as one query.
type Step struct {
	Name, SQL string
	session   int
}

// Permutation is an order in which steps are sent.
type Permutation []*Launch

// Launch is a step's place in a permutation.
type Launch struct {
	Name     string
	Blockers []Blocker
	step     *Step
}

// Blocker is a condition that must hold before a step's completion is printed.
type Blocker struct {
	Kind    BlockerKind
	Step    string // another one
	Notices int
	step    *Step
}

// BlockerKind says what a blocker waits for.
type BlockerKind int

// Kinds of blockers.
const (
	Once      BlockerKind = iota // nothing: the step counts as waiting when it was sent
	Completed                    // the other step has completed
	Notices                      // the other step's session has received that many notices since this one was sent
)

// Parse reads a specification.
func Parse(text string) (*Spec, error) {
	p := &parser{scanner: scanner{text: text, line: 1}}
	p.advance()
	spec := p.spec()
	if p.err == nil && p.ahead.kind != end {
		p.wrong()
	}
	if p.err != nil {
		return nil, p.err
	}
	return spec, spec.link()
}

// parser looks one token ahead. After its first error it finds nothing more.
type parser struct {
	scanner
	ahead token
	err   error
}

func (p *parser) advance() {
	if p.err != nil {
		return
	}
	if p.ahead, p.err = p.next(); p.err != nil {
		p.ahead = token{}
	}
}

func (p *parser) wrong() {
	if p.err == nil {
		p.err, p.ahead = p.fail("syntax error"), token{}
	}
}

// is consumes the next token if it is this one.
func (p *parser) is(k kind, text string) bool {
	if p.ahead.kind != k || p.ahead.text != text || p.err != nil {
		return false
	}
	p.advance()
	return true
}

// want returns the text of the next token, which must be of this kind.
func (p *parser) want(k kind) string {
	text := p.ahead.text
	if p.ahead.kind != k {
		p.wrong()
		return ""
	}
	p.advance()
	return text
}

func (p *parser) spec() *Spec {
	s := &Spec{}
	for p.is(keyword, "setup") {
		s.Setup = append(s.Setup, p.want(sqlBlock))
	}
	s.Teardown = p.optional("teardown")
	for p.is(keyword, "session") {
		s.Sessions = append(s.Sessions, p.session())
	}
	if len(s.Sessions) == 0 {
		p.wrong()
	}
	for p.is(keyword, "permutation") {
		s.Permutations = append(s.Permutations, p.permutation())
	}
	return s
}

func (p *parser) optional(name string) []string {
	if !p.is(keyword, name) {
		return nil
	}
	return []string{p.want(sqlBlock)}
}

func (p *parser) session() *Session {
	s := &Session{Name: p.want(word), Setup: p.optional("setup")}
	for p.is(keyword, "step") {
		name := p.want(word)
		s.Steps = append(s.Steps, &Step{Name: name, SQL: p.want(sqlBlock)})
	}
	if len(s.Steps) == 0 {
		p.wrong()
	}
	s.Teardown = p.optional("teardown")
	return s
}

func (p *parser) permutation() Permutation {
	var all Permutation
	for ok := true; ok; ok = p.ahead.kind == word {
		l := &Launch{Name: p.want(word)}
		if p.is(mark, "(") {
			l.Blockers = append(l.Blockers, p.blocker())
			for p.is(mark, ",") {
				l.Blockers = append(l.Blockers, p.blocker())
			}
			if !p.is(mark, ")") {
				p.wrong()
			}
		}
		all = append(all, l)
	}
	return all
}

func (p *parser) blocker() Blocker {
	if p.is(mark, "*") {
		return Blocker{}
	}
	b := Blocker{Kind: Completed, Step: p.want(word)}
	if p.is(keyword, "notices") {
		n, err := strconv.Atoi(p.want(number))
		if err != nil {
			p.wrong()
		}
		b.Kind, b.Notices = Notices, n
	}
	return b
}

// steps are all of them, by name.
func (s *Spec) steps() []*Step {
	var all []*Step
	for i, session := range s.Sessions {
		for _, step := range session.Steps {
			step.session = i
			all = append(all, step)
		}
	}
	slices.SortFunc(all, func(a, b *Step) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// link finds the steps that permutations name.
func (s *Spec) link() error {
	byName := map[string]*Step{}
	for _, step := range s.steps() {
		if byName[step.Name] != nil {
			return fmt.Errorf("%w: duplicate step name: %s", ErrSpec, step.Name)
		}
		byName[step.Name] = step
	}
	for _, p := range s.Permutations {
		for _, l := range p {
			if l.step = byName[l.Name]; l.step == nil {
				return fmt.Errorf("%w: undefined step %q specified in permutation", ErrSpec, l.Name)
			}
		}
		for _, l := range p {
			if err := l.link(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// link finds the steps that a launch waits for, which are of the same permutation.
func (l *Launch) link(p Permutation) error {
	for i := range l.Blockers {
		b := &l.Blockers[i]
		if b.Kind == Once {
			continue
		}
		other := slices.IndexFunc(p, func(o *Launch) bool { return o.Name == b.Step })
		if other < 0 {
			return fmt.Errorf("%w: undefined blocking step %q referenced in permutation step %q", ErrSpec, b.Step, l.Name)
		}
		if b.step = p[other].step; b.step.session == l.step.session {
			return fmt.Errorf("%w: permutation step %q cannot block on its own session", ErrSpec, l.Name)
		}
	}
	return nil
}

// unused are the names of the steps that no permutation has, where there are permutations.
func (s *Spec) unused() []string {
	used := map[*Step]bool{}
	for _, p := range s.Permutations {
		for _, l := range p {
			used[l.step] = true
		}
	}
	var names []string
	for _, step := range s.steps() {
		if len(s.Permutations) > 0 && !used[step] {
			names = append(names, step.Name)
		}
	}
	return names
}

// each calls f with every permutation, in the order of isolationtester, until f fails.
func (s *Spec) each(f func(Permutation) error) error {
	if len(s.Permutations) == 0 {
		return s.interleave(make([]int, len(s.Sessions)), nil, f)
	}
	for _, p := range s.Permutations {
		if err := f(p); err != nil {
			return err
		}
	}
	return nil
}

// interleave continues after the steps in begun; taken says how many each session has.
func (s *Spec) interleave(taken []int, begun Permutation, f func(Permutation) error) error {
	whole := true
	for i, session := range s.Sessions {
		if taken[i] == len(session.Steps) {
			continue
		}
		whole = false
		step := session.Steps[taken[i]]
		taken[i]++
		err := s.interleave(taken, append(begun, &Launch{Name: step.Name, step: step}), f)
		taken[i]--
		if err != nil {
			return err
		}
	}
	if whole {
		return f(begun)
	}
	return nil
}
