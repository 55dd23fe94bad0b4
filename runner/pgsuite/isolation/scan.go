package isolation

import (
	"fmt"
	"slices"
	"strings"
)

type kind int

const (
	end     kind = iota
	word         // a name, plain or in quotes
	keyword      // only without quotes
	sqlBlock
	number
	mark // one of , ( ) *
)

type token struct {
	kind kind
	text string
}

// scanner cuts a specification into tokens.
type scanner struct {
	text string
	at   int
	line int
}

// blanks are skipped, and trimmed from the ends of SQL. A line's end is not one: it stays within SQL.
const blanks = " \t\r\f"

func keywords() []string {
	return []string{"notices", "permutation", "session", "setup", "step", "teardown"}
}

// fail is an error at the line that was reached.
func (s *scanner) fail(what string) error {
	return fmt.Errorf("%w: %s at line %d", ErrSpec, what, s.line)
}

func (s *scanner) next() (token, error) {
	s.skip()
	if s.at == len(s.text) {
		return token{}, nil
	}
	c := s.text[s.at]
	switch {
	case isNameStart(c):
		name := s.take(func(c byte) bool { return isNameStart(c) || isDigit(c) || c == '$' })
		if slices.Contains(keywords(), name) {
			return token{keyword, name}, nil
		}
		return token{word, name}, nil
	case isDigit(c):
		return token{number, s.take(isDigit)}, nil
	case strings.IndexByte(",()*", c) >= 0:
		s.at++
		return token{mark, string(c)}, nil
	case c == '"':
		return s.quoted()
	case c == '{':
		return s.sql()
	}
	return token{}, fmt.Errorf("%w: syntax error at line %d: unexpected character %q", ErrSpec, s.line, string(c))
}

// skip goes over blanks, lines' ends and comments.
func (s *scanner) skip() {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\n':
			s.line++
		case c == '#':
			end := strings.IndexAny(s.text[s.at:], "\r\n")
			if end < 0 {
				end = len(s.text) - s.at
			}
			s.at += end - 1
		case strings.IndexByte(blanks, c) < 0:
			return
		}
	}
}

func (s *scanner) take(fits func(byte) bool) string {
	begin := s.at
	for s.at < len(s.text) && fits(s.text[s.at]) {
		s.at++
	}
	return s.text[begin:s.at]
}

// quoted parses a quoted name, in which a quote is written twice.
func (s *scanner) quoted() (token, error) {
	var name strings.Builder
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\n':
			return token{}, s.fail("unexpected newline in quoted identifier")
		case c != '"':
			name.WriteByte(c)
		case strings.HasPrefix(s.text[s.at:], `""`):
			name.WriteByte('"')
			s.at++
		default:
			s.at++
			return token{word, name.String()}, nil
		}
	}
	return token{}, s.fail("unterminated quoted identifier")
}

// sql is a block of statements, as they are; they cannot hold a closing brace.
func (s *scanner) sql() (token, error) {
	body, _, closed := strings.Cut(s.text[s.at+1:], "}")
	s.line += strings.Count(body, "\n")
	if !closed {
		return token{}, s.fail("unterminated sql block")
	}
	s.at += len(body) + 2
	return token{sqlBlock, strings.Trim(body, blanks)}, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}
