package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/runner/bench"
	"blobpglite/runner/interleave"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
)

func interleaveVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "interleave",
			Doc: "runs what two clients do in every order, up to a bound, against pgserve, and compares each answer with that of a native " +
				"PostgreSQL 18: the recorded answers or, given PostgreSQL's source, a server built from it. Package runner/interleave " +
				"says what the clients do and how to record the answers again",
			Args: []scenario.Arg{
				{Name: "count", Kind: scenario.KindInt, Doc: "how many of the recorded schedules; 0: all"},
				{Name: "schedule", Doc: "only this one, as in \"A:begin B:show\""},
				{Name: "source", Doc: "folder with PostgreSQL's unpacked source; empty: the recorded answers"},
				{Name: "record", Doc: "file for the answers of the server built from source"},
				{Name: "all", Kind: scenario.KindInt, Doc: "with source: every schedule of up to this many actions; 0: the recorded schedules"},
				{Name: "core", Kind: scenario.KindInt, Doc: "with all: also those of up to this many actions that use only the most common ones"},
				{Name: "samples", Kind: scenario.KindInt, Doc: "with all: this many more, drawn by seed"},
				{Name: "longest", Kind: scenario.KindInt, Default: "8", Doc: "maximum number of actions in each of the samples"},
				{Name: "shared", Kind: scenario.KindBool, Doc: "both clients use one connection: the fault being looked for, made on purpose"},
				{Name: "latency", Default: bench.InProcess, OneOf: []string{bench.InProcess, bench.NoLatency, bench.ModelLatency}, Doc: "where pgserve keeps the " +
					"database: memory, the emulator, or the emulator with the modeled latency"},
				{Name: "server", Default: "pgserve", OneOf: []string{"pgserve", "native"}, Doc: "what is compared; native: a second " +
					"server built from source"},
			},
			Metrics: bench.MetricDocs(
				"schedules_count", "schedules run at both servers", "differences_count", "schedules answered differently", "least_count", "differing schedules that "+
					"contain no shorter one",
				"repeated_count", "parameters reported again here although their values had not changed",
				"here_ms", "time of all schedules, here", "reference_ms", "time of all schedules, at the native server",
			),
		},
		Run: runInterleave,
	}
}

// comparison is one run of the verb.
type comparison struct {
	r      *bench.Run
	args   scenario.Args
	native *pgsuite.Native // nil: the recorded answers
	list   []interleave.Schedule
	want   []interleave.Transcript
}

func runInterleave(ctx context.Context, r *bench.Run, args scenario.Args) error {
	c := &comparison{r: r, args: args}
	if source := args.String("source"); source != "" {
		native, err := pgsuite.Build(ctx, source, r.Runtime.CacheDir(), r.Progress)
		if errors.Is(err, pgsuite.ErrMissing) {
			r.Vacuous("%v", err)
			return nil
		}
		if err != nil {
			return err
		}
		c.native = native
	} else if args.Int("all") > 0 || args.String("record") != "" || args.String("server") == "native" {
		r.Vacuous("PostgreSQL's source is needed: unpack it, and pass its folder by -set source=FOLDER")
		return nil
	}
	if err := c.schedules(); err != nil {
		return err
	}
	if args.String("server") == "native" {
		return c.onNative(ctx, c.compare)
	}
	return r.WithService(ctx, args.String("latency"), func(s *bench.Served) error {
		return c.compare(ctx, fmt.Sprintf("127.0.0.1:%d", s.Now().Port))
	})
}

// schedules determines what to run, and uses the recorded answers where they suffice.
func (c *comparison) schedules() error {
	if c.args.Int("all") > 0 {
		plan := interleave.Plan{
			All: c.args.Int("all"), Core: c.args.Int("core"), Samples: c.args.Int("samples"), Longest: c.args.Int("longest"), Seed: c.r.Seed,
		}
		c.list = plan.Schedules()
	}
	if text := c.args.String("schedule"); text != "" {
		s, err := interleave.Parse(text)
		if err != nil {
			return err
		}
		c.list = []interleave.Schedule{s}
	}
	if c.native != nil {
		if c.list == nil {
			c.list = interleave.RecordedPlan().Schedules()
		}
		return nil
	}
	recorded, err := interleave.Recorded()
	if err != nil {
		return err
	}
	if c.list != nil { // one schedule
		i := recorded.Find(c.list[0].String())
		if i < 0 {
			return fmt.Errorf("the answers to %q are not recorded: -set source=FOLDER compares it with a server that is built", c.list[0])
		}
		c.want = recorded.Transcripts[i : i+1]
		return nil
	}
	c.want = recorded.Transcripts
	if n := c.args.Int("count"); n > 0 && n < len(c.want) {
		c.want = c.want[:n]
	}
	for _, t := range c.want {
		s, err := interleave.Parse(t.Schedule)
		if err != nil {
			return err
		}
		c.list = append(c.list, s)
	}
	return nil
}

// onNative runs f with the address of a fresh native server.
func (c *comparison) onNative(ctx context.Context, f func(context.Context, string) error) error {
	reference, err := c.native.Start(ctx, pgsuite.Conditions{SegmentMB: 16})
	if err != nil {
		return err
	}
	at := reference.Server()
	return errors.Join(f(ctx, fmt.Sprintf("%s:%d", at.Host, at.Port)), reference.Stop())
}

// at runs the schedules at a server.
func (c *comparison) at(ctx context.Context, name, address string, o interleave.Options) ([]interleave.Transcript, error) {
	done := int64(0)
	o.Each = func(interleave.Transcript) bool {
		done++
		c.r.Progress("interleavings, "+name, done, int64(len(c.list)))
		return true
	}
	clk := clock.System()
	began := clk.Monotonic()
	all, err := interleave.Run(ctx, address, c.list, o)
	c.r.Metrics.Duration(name+"_ms", clk.Monotonic()-began)
	return all, err
}

// compare compares the server at an address with what is expected.
func (c *comparison) compare(ctx context.Context, address string) error {
	here := interleave.Options{Shared: c.args.Bool("shared")}
	if c.native == nil {
		got, err := c.at(ctx, "here", address, here)
		if err != nil {
			return err
		}
		return c.judge(got, nil)
	}
	return c.onNative(ctx, func(ctx context.Context, reference string) error {
		var got []interleave.Transcript
		both, inner := errgroup.WithContext(ctx)
		both.Go(func() (err error) {
			c.want, err = c.at(inner, "reference", reference, interleave.Options{})
			return err
		})
		both.Go(func() (err error) { got, err = c.at(inner, "here", address, here); return err })
		if err := both.Wait(); err != nil {
			return err
		}
		if file := c.args.String("record"); file != "" {
			b, err := interleave.Record("PostgreSQL "+c.native.Version, c.want)
			if err == nil {
				err = os.WriteFile(file, b, 0o644)
			}
			if err != nil {
				return fmt.Errorf("record the answers: %w", err)
			}
		}
		return c.judge(got, func(s interleave.Schedule) (bool, error) {
			want, err := interleave.Run(ctx, reference, []interleave.Schedule{s}, interleave.Options{})
			if err != nil {
				return false, err
			}
			got, err := interleave.Run(ctx, address, []interleave.Schedule{s}, here)
			return len(interleave.Compare(want, got)) > 0, err
		})
	})
}

// judge records differences. differs runs a schedule again at both; nil: that is not possible.
func (c *comparison) judge(got []interleave.Transcript, differs func(interleave.Schedule) (bool, error)) error {
	found := interleave.Compare(c.want, got)
	total := 0
	for _, d := range found {
		total += 1 + d.Longer
	}
	repeated := 0
	for _, t := range got {
		repeated += t.Repeated
	}
	c.r.Metrics.Value("schedules_count", float64(len(got)))
	c.r.Metrics.Value("repeated_count", float64(repeated))
	c.r.Metrics.Value("differences_count", float64(total))
	c.r.Metrics.Value("least_count", float64(len(found)))
	var wrong []string
	if len(got) < len(c.list) {
		wrong = append(wrong, fmt.Sprintf("%d of %d schedules were given up: too many had no answer", len(c.list)-len(got), len(c.list)))
	}
	const most = 12
	for i, d := range found {
		if i == most {
			wrong = append(wrong, fmt.Sprintf("and %d more", len(found)-most))
			break
		}
		text := fmt.Sprintf("%v (and in %d longer ones); again: -set schedule=%q", d, d.Longer, d.Schedule)
		if differs != nil {
			s, err := interleave.Parse(d.Schedule)
			if err != nil {
				return err
			}
			small, err := interleave.Shrink(s, differs)
			if err != nil {
				return err
			}
			if len(small) < len(s) {
				text += fmt.Sprintf(", or smaller %q", small)
			}
		}
		wrong = append(wrong, text)
	}
	if c.args.Bool("shared") { // they are meant to differ: the expectation judges how many
		c.r.Check(checkInterleave, "")
		return nil
	}
	c.r.Check(checkInterleave, strings.Join(wrong, "; "))
	return nil
}
