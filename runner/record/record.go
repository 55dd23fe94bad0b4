// Package record defines the lines that runs write: one JSON object per line, one line for each probe and cell, appended to
// results/<scenario>.jsonl and never edited.
//
//	metrics := record.NewMetrics()
//	metrics.Duration("restore_ms", elapsed)
//	list, err := metrics.List()
//	r := record.Record{Schema: record.Schema, Run: record.NewRun(clk.Now()), Metrics: list, ...}
//	err = record.Append("results", r)
//	log, err := record.ReadDir("results")
//
// A file looks like this (abridged):
//
//	{"schema":1,"run":"01KB…","scenario":"e2","probe":"e2.1","verdict":"pass","cell":"3f9c…",…}
//	{"schema":1,"run":"01KB…","scenario":"e2","probe":"e2.3","verdict":"fail","cell":"07aa…",…}
//	{"schema":1,"retract":"01KB…","reason":"the disk was full","at":"2026-11-25T10:00:00Z"}
//
// A line is written in one write to a file opened with O_APPEND, so two runs that end at the same time do not mix their lines. The reader
// reports a line that a dying process left incomplete, with file and line, and the next record starts on a new line. Files edited by hand
// are not protected: the reader only rejects unknown fields.
package record

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Schema is the version of the line format that this package writes. A reader rejects a line of a newer one.
const Schema = 1

// Verdict is what a run says about one probe in one cell. The zero value is Broken, so that a verdict that was never set does not read as a
// success.
type Verdict int

const (
	// Broken: the harness itself failed; nothing is known about the claim.
	Broken Verdict = iota
	// Pass: every check and every expectation held, and the run did what it set out to do.
	Pass
	// Fail: a check or an expectation did not hold.
	Fail
	// Vacuous: nothing was disproved because nothing was tried: the faults never fired, the load never ran, or a tool that the probe needs
	// is missing.
	Vacuous
	// Timeout: a step did not end within its limit.
	Timeout
	// Recorded: the run measured what it set out to measure, and there is no expectation about the findings.
	Recorded
)

// verdictNames is indexed by Verdict.
func verdictNames() [6]string {
	return [...]string{"broken", "pass", "fail", "vacuous", "timeout", "recorded"}
}

// String returns the verdict's name in lower case.
func (v Verdict) String() string {
	names := verdictNames()
	if v < 0 || int(v) >= len(names) {
		return fmt.Sprintf("verdict(%d)", int(v))
	}
	return names[v]
}

// MarshalText writes the name.
func (v Verdict) MarshalText() ([]byte, error) {
	names := verdictNames()
	if v < 0 || int(v) >= len(names) {
		return nil, fmt.Errorf("write verdict: %d is none", int(v))
	}
	return []byte(names[v]), nil
}

// UnmarshalText reads a name and rejects every other text.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames() {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("read verdict: %q is none of broken, pass, fail, vacuous, timeout, recorded", text)
}

// Worse returns the more important of two verdicts: Broken before Fail before Timeout before Vacuous before Pass before Recorded.
func (v Verdict) Worse(other Verdict) Verdict {
	if rank(other) > rank(v) {
		return other
	}
	return v
}

func rank(v Verdict) int {
	switch v {
	case Recorded:
		return 0
	case Pass:
		return 1
	case Vacuous:
		return 2
	case Timeout:
		return 3
	case Fail:
		return 4
	default:
		return 5
	}
}

// Holds says whether nothing speaks against the claim.
func (v Verdict) Holds() bool { return v == Pass || v == Recorded }

// Concluded is the verdict of a run whose checks result in v: a pass in which nothing was judged except how often something was measured is
// Recorded.
func Concluded(v Verdict, checks []Check) Verdict {
	if v == Pass && len(checks) > 0 && !slices.ContainsFunc(checks, func(c Check) bool { return !c.onlyCounts() }) {
		return Recorded
	}
	return v
}

// onlyCounts says whether a check is an expectation of how often something was measured, such as metrics.get_ms.n == samples.
func (c Check) onlyCounts() bool {
	used := usedMetrics.FindAllStringSubmatch(c.Name, -1)
	return len(used) > 0 && !strings.Contains(c.Name, "checks.") && !strings.Contains(c.Name, "fired(") &&
		!slices.ContainsFunc(used, func(m []string) bool { return m[1] != "n" })
}

var usedMetrics = regexp.MustCompile(`\bmetrics\.\w+\.(\w+)`)

// Record is one line: what one probe did in one cell, and the result.
type Record struct {
	// Schema is the line format, always the constant of that name when written.
	Schema int `json:"schema"`
	// Run is the run's id, shared by all lines of one command; see NewRun.
	Run string `json:"run"`
	// Scenario and Probe are the document's ids; Claim is the probe's sentence.
	Scenario string  `json:"scenario"`
	Probe    string  `json:"probe"`
	Claim    string  `json:"claim"`
	Verdict  Verdict `json:"verdict"`
	// Profile is ci, default or full.
	Profile string `json:"profile"`
	// Cell is the hash of everything that makes numbers comparable: params, nodes, steps, faults, store, target and machine class, but no
	// prose.
	Cell   string `json:"cell"`
	Seed   uint64 `json:"seed"`
	Rounds int    `json:"rounds"`
	// Replay is the command that runs exactly this again.
	Replay string `json:"replay"`
	// Commit is the full hash of the tree that ran; Dirty says that the tree was not clean, and keeps the line out of every table.
	Commit         string `json:"commit"`
	Dirty          bool   `json:"dirty"`
	ScenarioSHA256 string `json:"scenario_sha256"`
	// Params are the values of this cell as a document would write them: sizes and durations as text ("10MB", "30s"), numbers and booleans
	// bare.
	Params map[string]any `json:"params"`
	Env    Env            `json:"env"`
	Checks []Check        `json:"checks"`
	Faults []Fault        `json:"faults"`
	// Points counts how often each fault point was passed.
	Points  map[string]int64 `json:"points"`
	Ops     Ops              `json:"ops"`
	CostUSD float64          `json:"cost_usd"`
	Metrics []Metric         `json:"metrics"`
	Started time.Time        `json:"started"`
	WallMS  int64            `json:"wall_ms"`
	// Artifacts are files that the run left, relative to the results directory.
	Artifacts []string `json:"artifacts"`
	// Notes are sentences for a reader: why a probe was vacuous, what broke.
	Notes []string `json:"notes"`
}

// Check is one judgement: a checker's, or one expectation of the document, whose name is then the expression itself.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Detail says what was seen: the numbers compared, or what went wrong.
	Detail string `json:"detail"`
}

// Fault says how often a rule of the document fired.
type Fault struct {
	Rule  string `json:"rule"`
	Fired int64  `json:"fired"`
}

// Retraction invalidates lines without changing them.
type Retraction struct {
	Schema int `json:"schema"`
	// Retract is the id of the run whose lines no longer count.
	Retract string `json:"retract"`
	// Probe and Cell narrow the retraction down; empty means all of the run's.
	Probe string `json:"probe,omitempty"`
	Cell  string `json:"cell,omitempty"`
	// Reason says why, in a sentence.
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// covers reports whether the retraction takes r back.
func (t Retraction) covers(r Record) bool {
	return t.Retract == r.Run &&
		(t.Probe == "" || t.Probe == r.Probe) &&
		(t.Cell == "" || t.Cell == r.Cell)
}

// validate rejects what no reader could use.
func (r Record) validate() error {
	switch {
	case r.Schema != Schema:
		return fmt.Errorf("schema is %d, must be %d", r.Schema, Schema)
	case r.Run == "":
		return errors.New("run has no id")
	case r.Scenario == "" || r.Probe == "":
		return errors.New("scenario or probe is not named")
	case r.Cell == "":
		return errors.New("cell is empty")
	case r.Started.IsZero():
		return errors.New("started is not set")
	}
	return nil
}

func (t Retraction) validate() error {
	switch {
	case t.Schema != Schema:
		return fmt.Errorf("schema is %d, must be %d", t.Schema, Schema)
	case t.Retract == "":
		return errors.New("retract names no run")
	case t.Reason == "":
		return errors.New("retract gives no reason")
	case t.At.IsZero():
		return errors.New("at is not set")
	}
	return nil
}

// NewRun returns a new run id: 26 characters of Crockford's base32 that sort by time: 48 bits of milliseconds, then 80 random bits.
func NewRun(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding).EncodeToString(b[:])
}
