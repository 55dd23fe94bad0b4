// Package scenario turns a document into a plan: it decodes the YAML strictly, checks every name against what the runner can do, fills in
// parameters, and expands the matrix into cells.
//
//	s, err := scenario.Load("e2", registry)           // or a path: ./mine.yaml
//	plan, err := s.Plan(scenario.Options{Profile: "ci", Set: []string{"rounds=1"}})
//	for _, cell := range plan.Cells {
//		// do cell.Steps cell.Repeat times, then judge:
//		checks = append(checks, cell.Judge(scenario.Facts{Metrics: metrics})...)
//	}
//
// A document:
//
//	id: e1                      # file e1.yaml, results e1.jsonl
//	title: ...                  # prose: title, question, kill, decides
//	store: fake-gcs             # mem | fake-gcs | gcs
//	probes:
//	  - id: e1.3
//	    claim: a $size database comes back
//	    params: {rounds: 20, pause: 15s}
//	    matrix: {size: [1MB, 10MB]}
//	    steps:
//	      - hold: $pause        # a verb and its first argument
//	      - await: {node: b, within: 30s}
//	    checks: [durability]
//	    expect:
//	      - metrics.takeover_ms.p99 <= 20000
//	profiles:
//	  ci: {rounds: 5, size: [1MB]}
//
// Every possible mistake in a document is found when it is loaded: every profile is planned and every expression compiled. Errors name
// file, line and column and show the surrounding lines. There are no conditions, no loops except rounds and matrix, and no variables except
// $param.
package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"blobpglite/scenarios"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Load reads the embedded document with that id, or the file if the name has a path separator or ends in .yaml.
func Load(name string, reg Registry) (*Scenario, error) {
	if strings.ContainsAny(name, `/\`) || strings.HasSuffix(name, ".yaml") {
		info, err := os.Stat(name)
		if err == nil && info.Size() > MaxDocumentBytes {
			err = fmt.Errorf("the file has %d bytes, more than %d", info.Size(), MaxDocumentBytes)
		}
		if err != nil {
			return nil, fmt.Errorf("read the scenario %s: %w", name, err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the scenario: %w", err)
		}
		return Parse(name, text, reg)
	}
	ids, err := scenarios.IDs()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(ids, name) {
		return nil, fmt.Errorf("%s (a file is given by its path, such as ./mine.yaml)", unknown("scenario", name, ids))
	}
	text, err := scenarios.Read(name)
	if err != nil {
		return nil, err
	}
	return Parse(name+".yaml", text, reg)
}

// Parse reads a document and checks all of it, for every profile. file is only for the messages. The error is an *Error.
func Parse(file string, source []byte, reg Registry) (*Scenario, error) {
	s, err := decode(file, source)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(source)
	s.sha256, s.registry = hex.EncodeToString(sum[:]), reg
	if err := s.check(); err != nil {
		return nil, inFile(file, err)
	}
	for _, profile := range profileNames() {
		if _, err := s.Plan(Options{Profile: profile}); err != nil {
			return nil, inFile(file, err)
		}
	}
	return s, nil
}

// SHA256 is the hash of the document's text, in hex.
func (s *Scenario) SHA256() string { return s.sha256 }

// profileNames are the names that -profile takes.
func profileNames() []string { return []string{"ci", "default", "full"} }

func storeNames() []string { return []string{"mem", "fake-gcs", "gcs"} }

// check finds what is wrong apart from the plans.
func (s *Scenario) check() error {
	for _, text := range []struct{ key, value string }{
		{"id", s.ID}, {"title", s.Title}, {"question", s.Question}, {"kill", s.Kill}, {"decides", s.Decides},
	} {
		if strings.TrimSpace(text.value) == "" {
			return errorAt(s.place(), "the document has no %s", text.key)
		}
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`).MatchString(s.ID) {
		return errorAt(s.place("id"), "the id %q must be a lower-case word, for it names files", s.ID)
	}
	s.Store, s.Target, s.Clock = orElse(s.Store, "fake-gcs"), orElse(s.Target, TargetLocal), orElse(s.Clock, "real")
	if !slices.Contains(storeNames(), s.Store) {
		return errorAt(s.place("store"), "%s", unknown("store", s.Store, storeNames()))
	}
	if s.Target != TargetLocal && s.Target != TargetEmulator {
		return errorAt(s.place("target"), "the target %q is not built into this runner: local and twin, the Cloud Run emulator, are", s.Target)
	}
	if s.Clock != "real" {
		return errorAt(s.place("clock"), "the clock %q is not built into this runner: only real is", s.Clock)
	}
	if len(s.Probes) == 0 {
		return errorAt(s.place("probes"), "the document has no probes")
	}
	seen := map[string]bool{}
	for i, p := range s.Probes {
		if err := s.checkProbe(i, p); err != nil {
			return err
		}
		if seen[p.ID] {
			return errorAt(s.place("probes", i, "id"), "the probe id %q is used twice", p.ID)
		}
		seen[p.ID] = true
	}
	return s.checkProfiles()
}

func orElse(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

func (s *Scenario) checkProbe(i int, p Probe) error {
	if rest, ok := strings.CutPrefix(p.ID, s.ID+"."); !ok || !regexp.MustCompile(`^[a-z0-9-]{1,40}$`).MatchString(rest) {
		return errorAt(s.place("probes", i, "id"), "the probe id %q must be %q and a number or a word", p.ID, s.ID+".")
	}
	if strings.TrimSpace(p.Claim) == "" {
		return errorAt(s.place("probes", i), "the probe %s has no claim", p.ID)
	}
	for _, v := range p.Only {
		if name, isText := v.Data.(string); !isText || !slices.Contains(profileNames(), name) {
			return errorAt(v.token, "%s", unknown("profile", fmt.Sprint(v.Data), profileNames()))
		}
	}
	if len(p.Steps) == 0 {
		return errorAt(s.place("probes", i), "the probe %s has no steps", p.ID)
	}
	names := map[string]bool{}
	for _, e := range slices.Concat(p.Params, p.Matrix) {
		if err := checkParamName(e); err != nil {
			return err
		}
		if names[e.Key] {
			return errorAt(e.token, "%q is both a param and an axis of the matrix: keep one", e.Key)
		}
		names[e.Key] = true
	}
	for _, e := range p.Params {
		if _, err := scalar(e.Value); err != nil {
			return err
		}
	}
	for _, e := range p.Matrix {
		if _, err := axis(e.Value); err != nil {
			return err
		}
	}
	return nil
}

// checkParamName keeps param names distinct from what already has a meaning in expressions.
func checkParamName(e Entry) error {
	if !regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`).MatchString(e.Key) {
		return errorAt(e.token, "the param %q must be a lower-case word such as lease_ttl", e.Key)
	}
	if slices.Contains(reservedNames(), e.Key) {
		return errorAt(e.token, "%q already has a meaning in expressions: name the param otherwise", e.Key)
	}
	return nil
}

func (s *Scenario) checkProfiles() error {
	for _, name := range slices.Sorted(maps.Keys(s.Profiles)) {
		if !slices.Contains(profileNames(), name) {
			return errorAt(s.place("profiles", name), "%s", unknown("profile", name, profileNames()))
		}
	}
	return nil
}

// place finds the token of a key (string) or item (int) deep in the document, or of the nearest existing thing above it.
func (s *Scenario) place(path ...any) *token.Token {
	node, tok := s.root, s.root.GetToken()
	for _, step := range path {
		var next ast.Node
		switch step := step.(type) {
		case string:
			mapping, ok := node.(ast.MapNode)
			if !ok {
				return tok
			}
			for each := mapping.MapRange(); each.Next(); {
				if key, ok := each.Key().(*ast.StringNode); ok && key.Value == step {
					next = each.Value()
				}
			}
		case int:
			if list, ok := node.(*ast.SequenceNode); ok && step < len(list.Values) {
				next = list.Values[step]
			}
		}
		if next == nil {
			return tok
		}
		node, tok = next, next.GetToken()
	}
	return tok
}
