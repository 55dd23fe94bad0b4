package bench

import (
	"context"
	"fmt"

	"blobpglite/runner/scenario"
)

// Verb is a verb of documents with the function that does it.
type Verb struct {
	scenario.Verb
	// Bare verbs need no PostgreSQL: Run.Runtime may be nil.
	Bare bool
	// Cloud returns why the verb cannot be done on Cloud Run; empty: it can. Nil: it does not run a service.
	Cloud func(args scenario.Args) string
	Run   func(ctx context.Context, r *Run, args scenario.Args) error
}

// OnCloudRun is the Cloud of verbs that can do everything on Cloud Run that they do on the emulator.
func OnCloudRun(scenario.Args) string { return "" }

// NotOnCloudRun returns the Cloud of verbs that cannot; why is the reason.
func NotOnCloudRun(why string) func(scenario.Args) string {
	return func(scenario.Args) string { return why }
}

// Verbs is a list of verbs that documents may use.
type Verbs []Verb

// named returns the verb with a name; nil: there is none.
func (l Verbs) named(name string) *Verb {
	for i := range l {
		if l[i].Name == name {
			return &l[i]
		}
	}
	return nil
}

// NeedPostgres says whether any step of the cells needs PostgreSQL.
func (l Verbs) NeedPostgres(cells []scenario.Cell) bool {
	for _, c := range cells {
		for _, s := range c.Steps {
			if v := l.named(s.Verb); v == nil || !v.Bare {
				return true
			}
		}
	}
	return false
}

// LeftOut returns why a cell cannot be run on Cloud Run; empty: it can.
func (l Verbs) LeftOut(c scenario.Cell) string {
	for _, s := range c.Steps {
		if why := l.stepLeftOut(s); why != "" {
			return why
		}
	}
	return ""
}

func (l Verbs) stepLeftOut(s scenario.PlannedStep) string {
	v := l.named(s.Verb)
	switch {
	case v == nil:
		return ""
	case v.Cloud == nil:
		return s.Verb + " runs on this machine, which Cloud Run has no part in; run it without -target"
	}
	if why := v.Cloud(s.Args); why != "" {
		return s.Verb + ": " + why
	}
	return ""
}

// Language returns what documents that use these verbs may name: the verbs, the checks (including those of every run), and the seams.
func (l Verbs) Language(checks ...scenario.Named) scenario.Registry {
	reg := scenario.Registry{
		Checks: append(commonChecks(), checks...),
		Seams:  []scenario.Named{{Name: SeamHTTP, Doc: "requests to the bucket: op, key, phase; do is lose, reset, cut, 429, 503, 403 or delay"}},
	}
	for _, v := range l {
		reg.Verbs = append(reg.Verbs, v.Verb)
	}
	return reg
}

// do does the steps of a run's cell.
func (l Verbs) do(ctx context.Context, r *Run) error {
	for range r.Cell.Repeat {
		for _, s := range r.Cell.Steps {
			v := l.named(s.Verb)
			if v == nil {
				return fmt.Errorf("there is no verb %q", s.Verb)
			}
			if why := l.stepLeftOut(s); r.Cloud != nil && why != "" {
				return fmt.Errorf("this cannot be run on Cloud Run: %s", why)
			}
			if err := v.Run(ctx, r, s.Args); err != nil {
				return fmt.Errorf("%s: %w", s.Verb, err)
			}
		}
	}
	return nil
}
