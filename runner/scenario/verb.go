package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is the type of an argument.
type Kind int

const (
	// KindString is text; the zero value.
	KindString Kind = iota
	// KindInt is a whole number.
	KindInt
	// KindFloat is any number.
	KindFloat
	// KindBool is true or false.
	KindBool
	// KindDuration is a time such as 250ms, 10s or 1m30s.
	KindDuration
	// KindSize is a number of bytes such as 8KiB or 10MB.
	KindSize
	// KindRate is a number per time such as 20/s.
	KindRate
	// KindStrings is a list of texts, or one text.
	KindStrings
)

// String names the kind as -verbs prints it.
func (k Kind) String() string {
	names := [...]string{"text", "int", "number", "bool", "duration", "size", "rate", "list"}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind(%d)", int(k))
	}
	return names[k]
}

// Arg is one argument of a verb.
type Arg struct {
	Name string
	Kind Kind
	// Required arguments have no default.
	Required bool
	// Default is the value as a document would write it; empty: the kind's zero.
	Default string
	// OneOf restricts a text to these values; empty: any.
	OneOf []string
	Doc   string
}

// MetricDoc names a metric that a verb records. The unit is the name's ending.
type MetricDoc struct {
	Name string
	Doc  string
}

// Verb is one kind of step that the runner can do. A scalar in place of the arguments is the first argument.
type Verb struct {
	Name string
	Doc  string
	Args []Arg
	// Metrics are the names that the verb may record. If every verb of a probe lists them, an expectation about another name is an error at
	// load time.
	Metrics []MetricDoc
}

// Named is something that documents refer to by name: a check or a fault seam.
type Named struct {
	Name string
	Doc  string
}

// Registry is what this runner can do. A document that uses anything else is rejected.
type Registry struct {
	Verbs  []Verb
	Checks []Named
	// Seams are the places where fault rules can be put in.
	Seams []Named
}

func (r Registry) verb(name string) (Verb, bool) {
	i := slices.IndexFunc(r.Verbs, func(v Verb) bool { return v.Name == name })
	if i < 0 {
		return Verb{}, false
	}
	return r.Verbs[i], true
}

func (r Registry) verbNames() []string {
	names := make([]string, len(r.Verbs))
	for i, v := range r.Verbs {
		names[i] = v.Name
	}
	return names
}

func namesOf(list []Named) []string {
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	return names
}

// Describe returns the verbs, their arguments and metrics, the checks and the seams, for -verbs.
func (r Registry) Describe() string {
	var b strings.Builder
	for _, v := range r.Verbs {
		fmt.Fprintf(&b, "%s\n    %s\n", v.Name, v.Doc)
		for _, a := range v.Args {
			fmt.Fprintf(&b, "    %-18s %-9s %s\n", a.Name, a.Kind, a.describe())
		}
		if len(v.Metrics) > 0 {
			fmt.Fprintf(&b, "    metrics:\n")
		}
		for _, m := range v.Metrics {
			fmt.Fprintf(&b, "      %-26s %s\n", m.Name, m.Doc)
		}
	}
	for _, group := range []struct {
		title string
		list  []Named
	}{{"checks", r.Checks}, {"fault seams", r.Seams}} {
		if len(group.list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:\n", group.title)
		for _, n := range group.list {
			fmt.Fprintf(&b, "    %-18s %s\n", n.Name, n.Doc)
		}
	}
	return b.String()
}

func (a Arg) describe() string {
	text := a.Doc
	if len(a.OneOf) > 0 {
		text += " (" + strings.Join(a.OneOf, ", ") + ")"
	}
	switch {
	case a.Required:
		text += " (required)"
	case a.Default != "":
		text += " (default " + a.Default + ")"
	}
	return text
}

// Args are the arguments of one step, checked and typed: string, int64, float64, bool, time.Duration, Size, Rate or []string. A getter
// returns the zero value for an argument that the document left out and that has no default.
type Args map[string]any

// Has reports whether the argument was given or has a default.
func (a Args) Has(name string) bool { _, ok := a[name]; return ok }

// String returns a KindString argument.
func (a Args) String(name string) string { return get[string](a, name) }

// Int returns a KindInt argument.
func (a Args) Int(name string) int { return int(get[int64](a, name)) }

// Float returns a KindFloat argument.
func (a Args) Float(name string) float64 { return get[float64](a, name) }

// Bool returns a KindBool argument.
func (a Args) Bool(name string) bool { return get[bool](a, name) }

// Duration returns a KindDuration argument.
func (a Args) Duration(name string) time.Duration { return get[time.Duration](a, name) }

// Size returns a KindSize argument.
func (a Args) Size(name string) Size { return get[Size](a, name) }

// Rate returns a KindRate argument.
func (a Args) Rate(name string) Rate { return get[Rate](a, name) }

// Strings returns a KindStrings argument.
func (a Args) Strings(name string) []string { return get[[]string](a, name) }

func get[T any](a Args, name string) T {
	v, _ := a[name].(T)
	return v
}
