// Package isolation runs the specifications of PostgreSQL's isolation tests: steps of several sessions, in given or all orders, that wait
// for each other. What it prints is what PostgreSQL's own tester prints, so that it can be compared with what PostgreSQL expects.
//
//	spec, err := isolation.Parse(text)
//	output, err := isolation.Run(ctx, spec, isolation.Options{Conn: "postgres://…"})
//
// A specification:
//
//	setup { CREATE TABLE t (i int); }
//	teardown { DROP TABLE t; }
//	session s1
//	step a { INSERT INTO t VALUES (1); }
//	session s2
//	setup { BEGIN; }
//	step b { LOCK t; }
//	permutation a b(*)        # none: all orders
package isolation

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Spec is a specification.
type Spec struct {
	Setup        []string
	Teardown     string
	Sessions     []Session
	Permutations [][]Place // empty: all
}

// Session is what one session does.
type Session struct {
	Name            string
	Setup, Teardown string
	Steps           []Step
}

// Step is SQL with a name.
type Step struct {
	Name, SQL string
	session   int
}

// Place is a step in a permutation, and what it waits for before it is said to be complete.
type Place struct {
	Step     Step
	blockers []blocker
}

// blocker is a condition: another step is not active any more, another step's session has sent so many notices more, or, with
// neither, the step is shown as waiting once.
type blocker struct {
	step    string
	notices int
	once    bool
	session int // of the step
	target  int // notices at which it is over
}

// ErrSpec means that a text is no specification.
var ErrSpec = errors.New("not an isolation specification")

// token is a word, a number, a sign, or SQL in braces.
type token struct {
	kind byte // 'w', 'n', 's' for SQL, 'e' for the end, or the sign itself
	text string
	line int
}

// scan cuts a text into tokens.
func scan(text string) ([]token, error) {
	var out []token
	line := 1
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\n':
			line++
			i++
		case strings.IndexByte(" \t\r\f", c) >= 0:
			i++
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("%w: line %d: SQL without its closing brace", ErrSpec, line)
			}
			body := text[i+1 : i+end]
			out = append(out, token{'s', strings.TrimRight(strings.TrimLeft(body, " \t\r\f"), " \t\r\f"), line})
			line += strings.Count(body, "\n")
			i += end + 1
		case c == '"':
			end := strings.IndexByte(text[i+1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("%w: line %d: a name without its closing quote", ErrSpec, line)
			}
			out = append(out, token{'w', text[i+1 : i+1+end], line})
			i += end + 2
		case strings.IndexByte(",()*", c) >= 0:
			out = append(out, token{c, text[i : i+1], line})
			i++
		case c >= '0' && c <= '9':
			n := span(text[i:], "0123456789")
			out = append(out, token{'n', text[i : i+n], line})
			i += n
		default:
			n := wordLength(text[i:])
			if n == 0 {
				return nil, fmt.Errorf("%w: line %d: unexpected %q", ErrSpec, line, c)
			}
			out = append(out, token{'w', text[i : i+n], line})
			i += n
		}
	}
	return append(out, token{'e', "the end", line}), nil
}

func span(s, of string) int {
	n := 0
	for n < len(s) && strings.IndexByte(of, s[n]) >= 0 {
		n++
	}
	return n
}

func wordLength(s string) int {
	n := 0
	for n < len(s) {
		c := s[n]
		if c != '_' && c < 0x80 && (c|0x20 < 'a' || c|0x20 > 'z') && (n == 0 || (c < '0' || c > '9') && c != '$') {
			break
		}
		n++
	}
	return n
}

// parser reads tokens.
type parser struct {
	all []token
	err error
}

func (p *parser) peek() token { return p.all[0] }

func (p *parser) next() token {
	t := p.all[0]
	if t.kind != 'e' {
		p.all = p.all[1:]
	}
	return t
}

// want takes a token of a kind.
func (p *parser) want(kind byte, what string) string {
	t := p.next()
	if t.kind != kind && p.err == nil {
		p.err = fmt.Errorf("%w: line %d: %q where %s is wanted", ErrSpec, t.line, t.text, what)
	}
	return t.text
}

// word says whether the next token is this word, and takes it.
func (p *parser) word(name string) bool {
	if t := p.peek(); t.kind != 'w' || t.text != name {
		return false
	}
	p.next()
	return true
}

func (p *parser) sql() string { return p.want('s', "SQL in braces") }

// Parse reads a specification. Errors: ErrSpec.
func Parse(text string) (*Spec, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p, s := &parser{all: tokens}, &Spec{}
	for p.word("setup") {
		s.Setup = append(s.Setup, p.sql())
	}
	if p.word("teardown") {
		s.Teardown = p.sql()
	}
	steps := map[string]Step{}
	for p.word("session") {
		one := Session{Name: p.want('w', "a session's name")}
		if p.word("setup") {
			one.Setup = p.sql()
		}
		for p.word("step") {
			step := Step{Name: p.want('w', "a step's name"), SQL: p.sql(), session: len(s.Sessions)}
			if _, there := steps[step.Name]; there {
				return nil, fmt.Errorf("%w: there are two steps %q", ErrSpec, step.Name)
			}
			steps[step.Name] = step
			one.Steps = append(one.Steps, step)
		}
		if p.word("teardown") {
			one.Teardown = p.sql()
		}
		s.Sessions = append(s.Sessions, one)
	}
	for p.word("permutation") {
		s.Permutations = append(s.Permutations, p.permutation(steps))
	}
	if p.peek().kind != 'e' {
		p.want('e', "the end")
	}
	if p.err == nil && len(s.Sessions) == 0 {
		p.err = fmt.Errorf("%w: it has no session", ErrSpec)
	}
	return s, p.err
}

// permutation reads the steps of one.
func (p *parser) permutation(steps map[string]Step) []Place {
	var out []Place
	for p.err == nil && p.peek().kind == 'w' && p.peek().text != "permutation" {
		t := p.next()
		step, ok := steps[t.text]
		if !ok {
			p.err = fmt.Errorf("%w: line %d: there is no step %q", ErrSpec, t.line, t.text)
		}
		place := Place{Step: step}
		if p.peek().kind == '(' {
			p.next()
			for p.err == nil {
				place.blockers = append(place.blockers, p.blocker(steps))
				if p.peek().kind != ',' {
					break
				}
				p.next()
			}
			p.want(')', "a closing parenthesis")
		}
		out = append(out, place)
	}
	return out
}

func (p *parser) blocker(steps map[string]Step) blocker {
	if p.peek().kind == '*' {
		p.next()
		return blocker{once: true}
	}
	b := blocker{step: p.want('w', "a step's name")}
	step, ok := steps[b.step]
	if !ok && p.err == nil {
		p.err = fmt.Errorf("%w: there is no step %q", ErrSpec, b.step)
	}
	b.session = step.session
	if p.word("notices") {
		b.notices, _ = strconv.Atoi(p.want('n', "a number"))
	}
	return b
}

// unused are the names of steps that no permutation has, if any is given.
func (s *Spec) unused() []string {
	if len(s.Permutations) == 0 {
		return nil
	}
	used := map[string]bool{}
	for _, p := range s.Permutations {
		for _, place := range p {
			used[place.Step.Name] = true
		}
	}
	var out []string
	for _, session := range s.Sessions {
		for _, step := range session.Steps {
			if !used[step.Name] {
				out = append(out, step.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// orders calls f with each order that keeps each session's own.
func (s *Spec) orders(f func([]Place) error) error {
	if len(s.Permutations) > 0 {
		for _, p := range s.Permutations {
			if err := f(p); err != nil {
				return err
			}
		}
		return nil
	}
	taken := make([]int, len(s.Sessions))
	var order []Place
	var pick func() error
	pick = func() error {
		found := false
		for i, session := range s.Sessions {
			if taken[i] == len(session.Steps) {
				continue
			}
			found = true
			order = append(order, Place{Step: session.Steps[taken[i]]})
			taken[i]++
			err := pick()
			taken[i]--
			order = order[:len(order)-1]
			if err != nil {
				return err
			}
		}
		if found {
			return nil
		}
		return f(append([]Place(nil), order...))
	}
	return pick()
}
