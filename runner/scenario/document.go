package scenario

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a document.
const (
	// MaxDocumentBytes bounds the text.
	MaxDocumentBytes = 1 << 20
	// MaxCells bounds the cells of one plan.
	MaxCells = 1000
	// maxDepth bounds how deep mappings and lists are nested.
	maxDepth = 16
)

// Scenario is a document. Texts are for people and are not part of a cell's hash.
type Scenario struct {
	// ID names the document; its file is <id>.yaml and its results <id>.jsonl.
	ID string `json:"id" jsonschema:"names the document, its file and its results"`
	// Title is a heading.
	Title string `json:"title" jsonschema:"a heading"`
	// Question is what the experiment asks.
	Question string `json:"question" jsonschema:"what the experiment asks"`
	// Kill is the result that would refute the design and force a change.
	Kill string `json:"kill" jsonschema:"the result that would force a change of the design"`
	// Decides is what the answer decides.
	Decides string `json:"decides" jsonschema:"what is decided by the answer"`
	// Store is mem, fake-gcs or gcs; fake-gcs if left out.
	Store string `json:"store,omitempty" jsonschema:"the object store: mem, fake-gcs (the default) or gcs"`
	// Target is where the engine runs: local; or twin, if every verb runs pgserve on the Cloud Run emulator.
	Target string `json:"target,omitempty" jsonschema:"where the engine runs: local (the default), or twin, the Cloud Run emulator"`
	// Clock is the time that the engine sees; only real is built in.
	Clock  string  `json:"clock,omitempty" jsonschema:"the time that the engine sees: real"`
	Probes []Probe `json:"probes" jsonschema:"the single claims, each tried on its own"`
	// Profiles change params and matrix values: ci for seconds, default for minutes, full for what the experiment's plan requires. A key is
	// a param, an axis, or the id of a probe with a mapping of those.
	Profiles map[string]Entries `json:"profiles,omitempty" jsonschema:"other numbers: ci takes seconds, full what the plan asks. Keys are params, axes, or the id of a probe over a mapping of those"`

	file     string
	sha256   string
	root     ast.Node
	registry Registry
}

// Probe is one claim and the steps that try to disprove it.
type Probe struct {
	// ID is the scenario's id, a dot, and a number or word.
	ID    string `json:"id" jsonschema:"the document's id, a dot, and a number or a word"`
	Claim string `json:"claim" jsonschema:"the sentence that the steps try to disprove; $param is filled in"`
	// Only lists the profiles in which the probe is tried; empty: all. When requested by its id it is always tried.
	Only []Value `json:"only,omitempty" jsonschema:"the profiles in which the probe is tried; left out: in all"`
	// Params are the numbers that -set and profiles may change. `rounds` says how often the steps are done; a verb that takes rounds:
	// $rounds does them itself.
	Params Entries `json:"params,omitempty" jsonschema:"numbers that -set and profiles may change; rounds is how often the steps are done"`
	// Matrix makes a cell of each combination of its axes' values.
	Matrix Entries `json:"matrix,omitempty" jsonschema:"axes, each a list of values; each combination is a cell"`
	Nodes  Entries `json:"nodes,omitempty" jsonschema:"the processes that take part, by name"`
	Steps  []Step  `json:"steps" jsonschema:"what is done, in order"`
	// Faults are rules, each a mapping; see faultArgs.
	Faults []Entries `json:"faults,omitempty" jsonschema:"rules that break things: {seam: http, op: put, key: wal, phase: after, p: 0.02, do: lose}"`
	Checks []Value   `json:"checks,omitempty" jsonschema:"names of checkers that judge what was recorded"`
	// Expect are expressions over params, metrics, fired counts and checks.
	Expect []Value `json:"expect,omitempty" jsonschema:"expressions that must hold, over params, metrics.NAME.p50, fired(RULE) and checks.NAME"`
}

// Step is a mapping with a single key, the verb. A scalar or a list in place of the arguments is the verb's first argument.
type Step struct {
	Verb string
	Args Value

	token *token.Token
}

// Value is a scalar, a list or a mapping as written in the document, with its place. Data is nil, string, int64, float64, bool,
// time.Duration, Size, Rate, []Value or Entries.
type Value struct {
	Data any

	token *token.Token
}

// Entry is one key of a mapping.
type Entry struct {
	Key   string
	Value Value

	token *token.Token
}

// Entries is a mapping in the document's order.
type Entries []Entry

// Get finds a key.
func (e Entries) Get(key string) (Value, bool) {
	for _, entry := range e {
		if entry.Key == key {
			return entry.Value, true
		}
	}
	return Value{}, false
}

func (e Entries) keys() []string {
	keys := make([]string, len(e))
	for i, entry := range e {
		keys[i] = entry.Key
	}
	return keys
}

// Error is a mistake in a document. It prints as file:line:column, the message and the lines of the document around the place.
type Error struct {
	File         string
	Line, Column int // 1-based; 0 if the fault has no place
	Message      string
	Excerpt      string
}

func (e *Error) Error() string {
	text := e.File
	if e.Line > 0 {
		text += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	text += ": " + e.Message
	if e.Excerpt != "" {
		text += "\n" + e.Excerpt
	}
	return text
}

// errorAt makes an error that knows its place in the document.
func errorAt(tok *token.Token, format string, args ...any) error {
	return &yaml.SyntaxError{Message: fmt.Sprintf(format, args...), Token: tok}
}

// inFile turns an error of the decoder or of errorAt into an Error.
func inFile(file string, err error) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	out := &Error{File: file, Message: err.Error()}
	var placed yaml.Error
	if !errors.As(err, &placed) {
		return out
	}
	out.Message = placed.GetMessage()
	tok := placed.GetToken()
	if tok == nil || tok.Position == nil {
		return out
	}
	out.Line, out.Column = tok.Position.Line, tok.Position.Column
	// The printed error is one line "[line:column] message", then the excerpt.
	if _, excerpt, ok := strings.Cut(placed.FormatError(false, true), out.Message+"\n"); ok {
		out.Excerpt = strings.TrimRight(excerpt, "\n")
	}
	return out
}

// decode reads the text into the types above and checks nothing but the shape.
func decode(file string, source []byte) (*Scenario, error) {
	if len(source) > MaxDocumentBytes {
		return nil, &Error{File: file, Message: fmt.Sprintf("the document has %d bytes, more than %d", len(source), MaxDocumentBytes)}
	}
	parsed, err := parser.ParseBytes(source, 0)
	if err != nil {
		return nil, inFile(file, err)
	}
	if len(parsed.Docs) != 1 || parsed.Docs[0].Body == nil {
		return nil, &Error{File: file, Message: fmt.Sprintf("holds %d YAML documents, must hold one", len(parsed.Docs))}
	}
	body := parsed.Docs[0].Body
	if err := refuseExtras(body, 0); err != nil {
		return nil, inFile(file, err)
	}
	s := &Scenario{file: file, root: body}
	if err := yaml.NodeToValue(body, s, yaml.Strict()); err != nil {
		return nil, inFile(file, err)
	}
	return s, nil
}

// refuseExtras rejects the parts of YAML that a scenario has no use for: anchors, aliases, merge keys and tags; and bounds the depth.
func refuseExtras(node ast.Node, depth int) error {
	if depth > maxDepth {
		return errorAt(node.GetToken(), "nested more than %d deep", maxDepth)
	}
	switch n := node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode, *ast.DirectiveNode, *ast.MappingKeyNode:
		return errorAt(n.GetToken(), "anchors, aliases, merge keys, tags and complex keys are not used in scenarios: write the value out, or use a $param")
	case *ast.MappingNode:
		for _, v := range n.Values {
			if err := refuseExtras(v, depth); err != nil {
				return err
			}
		}
	case *ast.MappingValueNode:
		if err := refuseExtras(n.Key, depth+1); err != nil {
			return err
		}
		return refuseExtras(n.Value, depth+1)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			if err := refuseExtras(v, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// UnmarshalYAML keeps the value with its place.
func (v *Value) UnmarshalYAML(node ast.Node) (err error) {
	*v, err = valueOf(node)
	return err
}

func valueOf(node ast.Node) (Value, error) {
	v := Value{token: node.GetToken()}
	switch n := node.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		v.Data = n.Value
		if n.Token.Type == token.StringType && !strings.Contains(n.Value, "$") {
			v.Data = infer(n.Value)
		}
	case *ast.LiteralNode:
		v.Data = n.Value.Value
	case *ast.BoolNode:
		v.Data = n.Value
	case *ast.FloatNode:
		v.Data = n.Value
	case *ast.IntegerNode:
		i, ok := n.Value.(int64)
		if u, unsigned := n.Value.(uint64); unsigned && u < 1<<63 {
			i, ok = int64(u), true
		}
		if !ok {
			return v, errorAt(v.token, "the number %v does not fit into 64 bits", n.Value)
		}
		v.Data = i
	case *ast.SequenceNode:
		list := make([]Value, len(n.Values))
		for i, e := range n.Values {
			item, err := valueOf(e)
			if err != nil {
				return v, err
			}
			list[i] = item
		}
		v.Data = list
	case ast.MapNode:
		entries, err := entriesOf(node)
		if err != nil {
			return v, err
		}
		v.Data = entries
	default:
		return v, errorAt(v.token, "%s cannot be used in a scenario", node.Type().YAMLName())
	}
	return v, nil
}

// UnmarshalYAML reads a mapping and keeps its order.
func (e *Entries) UnmarshalYAML(node ast.Node) (err error) {
	*e, err = entriesOf(node)
	return err
}

func entriesOf(node ast.Node) (Entries, error) {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return nil, errorAt(node.GetToken(), "%s was used where a mapping (key: value) is expected", node.Type().YAMLName())
	}
	entries := Entries{}
	for each := mapping.MapRange(); each.Next(); {
		key := each.Key()
		name, isText := key.(*ast.StringNode)
		if !isText {
			return nil, errorAt(key.GetToken(), "%s is no name: quote it", key.String())
		}
		value, err := valueOf(each.Value())
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Key: name.Value, Value: value, token: key.GetToken()})
	}
	return entries, nil
}

// UnmarshalYAML reads a mapping with a single key, or a bare verb.
func (s *Step) UnmarshalYAML(node ast.Node) error {
	if bare, ok := node.(*ast.StringNode); ok {
		*s = Step{Verb: bare.Value, token: bare.GetToken(), Args: Value{token: bare.GetToken()}}
		return nil
	}
	entries, err := entriesOf(node)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return errorAt(node.GetToken(), "a step is one verb with its arguments, as in `- hold: 10s`; this one has %d keys", len(entries))
	}
	*s = Step{Verb: entries[0].Key, Args: entries[0].Value, token: entries[0].token}
	return nil
}
