package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"blobpglite/runner/record"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// Facts are what a run of one cell found, for judging its expectations.
type Facts struct {
	Metrics []record.Metric
	Checks  []record.Check
	// Fired counts by the name of the rule.
	Fired map[string]int64
}

// Expectation is a compiled line of `expect`. It can name
//
//	rounds, size, ...          params: sizes in bytes, durations in ms, rates per second
//	metrics.NAME.p50           n, min, p50, p90, p99, max, in the unit in NAME's suffix
//	fired("RULE")              how often a fault rule fired
//	checks.NAME                pass, fail, ... as text
type Expectation struct {
	// Text is the expression as the document has it.
	Text string

	program *vm.Program
	params  map[string]any
	uses    uses
}

// uses are the facts that an expression looks at.
type uses struct {
	metrics, checks, rules []string
	members                []string // "restore_ms.p50"
	roots, named           int      // uses of metrics and checks, and how many of them have a name
	bad                    string   // a use that cannot be checked
}

// reservedNames cannot be params, for they mean something in expressions.
func reservedNames() []string {
	return []string{"metrics", "checks", "fired", "true", "false", "nil", "not", "and", "or", "in", "let", "matches", "contains"}
}

// compile checks and compiles one line of the probe.
func (c *Cell) compile(reg Registry, probe string, v Value) (Expectation, error) {
	text, ok := v.Data.(string)
	if !ok {
		return Expectation{}, errorAt(v.token, "the probe %s: an expectation is an expression such as metrics.restore_ms.p50 <= 300, not %v", probe, written(v.Data))
	}
	e := Expectation{Text: text, params: map[string]any{}}
	for name, p := range c.Params {
		e.params[name] = number(p)
	}
	program, err := expr.Compile(text, expr.Env(e.env(Facts{})), expr.AsBool(), expr.MaxNodes(1000))
	if err != nil {
		return Expectation{}, errorAt(v.token, "the probe %s: the expression cannot be compiled: %s", probe, wordExprError(err))
	}
	e.program = program
	node := program.Node()
	ast.Walk(&node, &e.uses)
	if e.uses.bad == "" && e.uses.roots != e.uses.named {
		e.uses.bad = "metrics and checks must be followed by a name, as in metrics.restore_ms.p50"
	}
	if e.uses.bad != "" {
		return Expectation{}, errorAt(v.token, "the probe %s: %s", probe, e.uses.bad)
	}
	if message := c.unknownUse(reg, e.uses); message != "" {
		return Expectation{}, errorAt(v.token, "the probe %s: %s", probe, message)
	}
	return e, nil
}

// wordExprError keeps the first line of the library's message; the rest is the expression with a mark.
func wordExprError(err error) string {
	var placed *file.Error
	if errors.As(err, &placed) {
		return fmt.Sprintf("%s (at character %d)", placed.Message, placed.Column+1)
	}
	return err.Error()
}

// number converts params to the form in which expressions compute.
func number(v any) any {
	switch v := v.(type) {
	case Size:
		return float64(v)
	case Rate:
		return float64(v)
	case time.Duration:
		return float64(v) / float64(time.Millisecond)
	}
	return v
}

// env is what an expression can name.
func (e Expectation) env(f Facts) map[string]any {
	env := map[string]any{}
	for name, v := range e.params {
		env[name] = v
	}
	metrics := map[string]record.Metric{}
	for _, m := range f.Metrics {
		metrics[m.Name] = m
	}
	checks := map[string]string{}
	for _, c := range f.Checks {
		checks[c.Name] = c.Verdict.String()
	}
	env["metrics"], env["checks"] = metrics, checks
	env["fired"] = func(rule string) int64 { return f.Fired[rule] }
	return env
}

// Visit collects what an expression uses.
func (u *uses) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if n.Value == "metrics" || n.Value == "checks" {
			u.roots++
		}
	case *ast.MemberNode:
		base, isName := n.Node.(*ast.IdentifierNode)
		if inner, ok := n.Node.(*ast.MemberNode); ok {
			if root, ok := inner.Node.(*ast.IdentifierNode); ok && root.Value == "metrics" {
				u.members = append(u.members, memberName(inner)+"."+memberName(n))
			}
		}
		if !isName || base.Value != "metrics" && base.Value != "checks" {
			return
		}
		name := memberName(n)
		if name == "" {
			return
		}
		u.named++
		if base.Value == "metrics" {
			u.metrics = append(u.metrics, name)
		} else {
			u.checks = append(u.checks, name)
		}
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok && callee.Value == "fired" {
			rule, ok := n.Arguments[0].(*ast.StringNode)
			if !ok {
				u.bad = `fired takes the name of a rule, as in fired("lose after put wal")`
				return
			}
			u.rules = append(u.rules, rule.Value)
		}
	}
}

func memberName(n *ast.MemberNode) string {
	if name, ok := n.Property.(*ast.StringNode); ok {
		return name.Value
	}
	return ""
}

// unknownUse words the first use of something that this probe cannot have.
func (c *Cell) unknownUse(reg Registry, u uses) string {
	if known, complete := c.metricNames(reg); complete {
		for _, name := range u.metrics {
			if !slices.Contains(known, name) {
				return unknown("metric", name, known)
			}
		}
	}
	for _, name := range u.checks {
		if !slices.Contains(c.Checks, name) {
			return unknown("check", name, c.Checks)
		}
	}
	for _, name := range u.rules {
		if known := c.ruleNames(); !slices.Contains(known, name) {
			return unknown("fault rule", name, known)
		}
	}
	return ""
}

// metricNames returns the metrics listed by the cell's verbs; complete if all verbs list theirs.
func (c *Cell) metricNames(reg Registry) (names []string, complete bool) {
	complete = true
	for _, step := range c.Steps {
		verb, _ := reg.verb(step.Verb)
		if len(verb.Metrics) == 0 {
			complete = false
		}
		for _, m := range verb.Metrics {
			names = append(names, m.Name)
		}
	}
	return names, complete
}

// ruleNames returns the names of the fault rules, and of the steps that act at a fault point, which are named after the verb and the point:
// "stop wal/before-put".
func (c *Cell) ruleNames() []string {
	var names []string
	for _, f := range c.Faults {
		names = append(names, f.Name)
	}
	for _, s := range c.Steps {
		if at := s.Args.String("at"); at != "" {
			names = append(names, s.Verb+" "+at)
		}
	}
	return names
}

// Judge evaluates every expectation of the cell with the facts.
func (c Cell) Judge(f Facts) []record.Check {
	checks := make([]record.Check, len(c.Expect))
	for i, e := range c.Expect {
		checks[i] = e.Judge(f)
	}
	return checks
}

// Judge evaluates the expression. A metric or a check that the run did not record is Broken, not false: nothing is known about it.
func (e Expectation) Judge(f Facts) record.Check {
	check := record.Check{Name: e.Text}
	for _, name := range e.uses.metrics {
		i := slices.IndexFunc(f.Metrics, func(m record.Metric) bool { return m.Name == name })
		if i < 0 || f.Metrics[i].N == 0 {
			check.Detail = "the run recorded no metric " + name
			return check
		}
	}
	for _, name := range e.uses.checks {
		if !slices.ContainsFunc(f.Checks, func(c record.Check) bool { return c.Name == name }) {
			check.Detail = "the run made no check " + name
			return check
		}
	}
	env := e.env(f)
	result, err := expr.Run(e.program, env)
	if err != nil {
		check.Detail = "evaluate: " + wordExprError(err)
		return check
	}
	check.Verdict = record.Fail
	if held, _ := result.(bool); held {
		check.Verdict = record.Pass
	}
	check.Detail = e.seen(f)
	return check
}

// seen lists the values that went into the judgement.
func (e Expectation) seen(f Facts) string {
	var parts []string
	for _, member := range slices.Compact(slices.Sorted(slices.Values(e.uses.members))) {
		name, stat, _ := strings.Cut(member, ".")
		i := slices.IndexFunc(f.Metrics, func(m record.Metric) bool { return m.Name == name })
		if i < 0 {
			continue
		}
		m := f.Metrics[i]
		value := map[string]float64{"n": float64(m.N), "min": m.Min, "p50": m.P50, "p90": m.P90, "p99": m.P99, "max": m.Max}[stat]
		parts = append(parts, fmt.Sprintf("%s = %s", member, strconv.FormatFloat(value, 'g', 6, 64)))
	}
	for _, rule := range e.uses.rules {
		parts = append(parts, fmt.Sprintf("fired(%q) = %d", rule, f.Fired[rule]))
	}
	for _, name := range e.uses.checks {
		i := slices.IndexFunc(f.Checks, func(c record.Check) bool { return c.Name == name })
		parts = append(parts, fmt.Sprintf("checks.%s = %s", name, f.Checks[i].Verdict))
	}
	return strings.Join(parts, ", ")
}
