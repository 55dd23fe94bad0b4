package layout

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Show returns the code of a function (its index, or an exported or found name) in the syntax of shapes, with the strings
// and names of its numbers after them. It is for writing rules.
func Show(bin []byte, function string) (string, error) {
	p, err := readProgram(bin)
	if err != nil {
		return "", fmt.Errorf("show function %s: %w", function, err)
	}
	l, _ := p.layout() // as far as it goes
	f, ok := l.Functions[function]
	if !ok {
		f, ok = p.named[function]
	}
	if n, err := strconv.ParseUint(function, 10, 32); err == nil {
		f, ok = uint32(n), int(n) < len(p.module.Funcs)
	}
	if !ok {
		return "", fmt.Errorf("show function %s: it is neither an index of the %d functions nor the name of one exported or found", function, len(p.module.Funcs))
	}
	row, err := p.code.Tree(f)
	if err != nil {
		return "", fmt.Errorf("show function %s: %w", function, err)
	}
	names := p.names(l)
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s\n", f, names[functionKey(f)], signature(p.module.Funcs[f]))
	depth := 1
	for _, e := range row {
		name := e.Name()
		if name == "end" || name == "else" {
			depth--
		}
		line := regexp.MustCompile(`\bf?\d{3,}\b`).ReplaceAllStringFunc(e.String(), func(s string) string { return s + p.meaning(s, names) })
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", max(depth, 0)), line)
		if name == "block" || name == "loop" || name == "if" || name == "else" {
			depth++
		}
	}
	return b.String(), nil
}

// Naming returns the functions that refer to a string: their indexes, and their names where known.
func Naming(bin []byte, text string) ([]string, error) {
	p, err := readProgram(bin)
	if err != nil {
		return nil, fmt.Errorf("look for %q: %w", text, err)
	}
	l, _ := p.layout()
	names := p.names(l)
	var all []string
	for _, f := range p.naming(text) {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%d %s", f, names[functionKey(f)])))
	}
	return all, nil
}

func functionKey(f uint32) string { return fmt.Sprint("f", f) }

// names returns the names of functions (by f and index) and variables (by address).
func (p *program) names(l *Layout) map[string]string {
	names := map[string]string{}
	for _, all := range []map[string]uint32{p.named, l.Functions} {
		for name, f := range all {
			names[functionKey(f)] = name
		}
	}
	for _, all := range []map[string]uint32{p.data, l.Addresses} {
		for name, at := range all {
			names[fmt.Sprint(at)] = name
		}
	}
	return names
}

// meaning returns what a number in the code stands for, in braces or quotes.
func (p *program) meaning(s string, names map[string]string) string {
	if name, ok := names[s]; ok {
		return "{" + name + "}"
	}
	at, err := strconv.ParseUint(s, 10, 32)
	if err != nil || at < firstAddress || at >= uint64(len(p.memory)) {
		return ""
	}
	const longest = 80
	text := string(p.memory[at:min(at+longest, uint64(len(p.memory)))])
	text, _, _ = strings.Cut(text, "\x00")
	if len(text) < 3 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return strconv.Quote(text)
}
