package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"blobpglite/runner/record"
)

// outcome is a cell's line in the verdict table.
type outcome struct {
	record record.Record
	label  string
	why    string // it was left out
	folder string // folder left by a failure
}

// verdict is the verdict in the table.
func (o outcome) verdict() string {
	if o.why != "" {
		return "left out"
	}
	return o.record.Verdict.String()
}

// table prints the verdicts, what was measured, and how to run each cell again.
func (x *experiment) table(out io.Writer, done []outcome) error {
	fmt.Fprintf(out, "\n%s: %s\n\n", x.s.ID, x.s.Title)
	if x.f.cloud.dry {
		fmt.Fprintln(out, "A rehearsal: nothing has left this machine, the figures come from a stand-in, and nothing was appended to the results.")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROBE\tCELL\tVERDICT\tROUNDS\tTIME\tCLAIM")
	for _, o := range done {
		took := time.Duration(o.record.WallMS) * time.Millisecond
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\t%s\n", o.record.Probe, o.label, o.verdict(), o.record.Rounds,
			took.Round(100*time.Millisecond), o.record.Claim)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	all := time.Duration(0)
	for _, o := range done {
		all += time.Duration(o.record.WallMS) * time.Millisecond
	}
	fmt.Fprintf(out, "\n%d cells took %v.\n", len(done), all.Round(100*time.Millisecond))
	for _, o := range done {
		fmt.Fprintf(out, "\n%s %s\n", o.record.Probe, o.label)
		if o.why != "" {
			fmt.Fprintf(out, "  left out: %s\n", o.why)
			continue
		}
		m := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(m, "\tn\tmin\tp50\tp99\tmax\t")
		for _, v := range o.record.Metrics {
			fmt.Fprintf(m, "%s\t%d\t%s\t%s\t%s\t%s\t\n", v.Name, v.N, figure(v.Min), figure(v.P50), figure(v.P99), figure(v.Max))
		}
		if err := m.Flush(); err != nil {
			return err
		}
		for _, c := range o.record.Checks {
			if c.Verdict != record.Pass {
				fmt.Fprintf(out, "  %s: %s: %s\n", c.Verdict, c.Name, c.Detail)
			}
		}
		for _, n := range o.record.Notes {
			fmt.Fprintf(out, "  note: %s\n", n)
		}
		if o.folder != "" {
			fmt.Fprintf(out, "  kept: %s has the command, what was wrong, the log, and the contents of the bucket\n", o.folder)
		}
		fmt.Fprintf(out, "  repeat with: %s\n", o.record.Replay)
	}
	return nil
}

// figure prints a number with three digits that matter.
func figure(v float64) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}
