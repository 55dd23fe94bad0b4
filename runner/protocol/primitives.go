package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// The kinds of conditional writes.
const (
	kindCreate = "create"
	kindSwap   = "swap"
)

func kindArg() scenario.Arg {
	return scenario.Arg{
		Name: "kind", Default: kindCreate, OneOf: []string{kindCreate, kindSwap},
		Doc: "create: create if absent; swap: compare and swap on one generation",
	}
}

func conditionsVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "conditions",
			Doc: "makes puts whose condition holds, which must be stored, and puts whose condition does not hold (the name exists, the " +
				"generation is stale, there is no object), which must be refused and change nothing",
			Args: []scenario.Arg{kindArg(), {Name: "rounds", Kind: scenario.KindInt, Default: "20", Doc: "each with its own name"}, bench.StoreArg()},
			Metrics: append(bench.MetricDocs("stored_count", "puts whose condition held", "refused_count", "puts whose condition did not"),
				bench.WireDocs()...),
		},
		Run: conditions,
	}
}

func conditions(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	c := &conditionTry{p: p}
	rounds := args.Int("rounds")
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: conditions", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		c.key, c.gen, c.body = fmt.Sprintf("conditions/%06d", round), 0, nil
		if args.String("kind") == kindSwap {
			err = c.swaps(ctx)
		} else {
			err = c.creates(ctx)
		}
		if err != nil {
			return err
		}
		r.Check(checkConditions, c.wrong)
	}
	r.Metrics.Value("stored_count", float64(c.stored))
	r.Metrics.Value("refused_count", float64(c.refused))
	p.Measure(r)
	return nil
}

// conditionTry is one name, what must be stored there, and what was seen that must not be.
type conditionTry struct {
	p               *bench.Place
	key             string
	gen             store.Gen // 0: nothing
	body            []byte
	wrong           string
	stored, refused int
}

func (c *conditionTry) creates(ctx context.Context) error {
	return errors.Join(
		c.put(ctx, store.IfAbsent(), true),
		c.put(ctx, store.IfAbsent(), false),
		c.put(ctx, store.IfAbsent(), false),
	)
}

func (c *conditionTry) swaps(ctx context.Context) error {
	err := c.put(ctx, store.IfGen(4711), false) // over nothing
	if err == nil {
		err = c.put(ctx, store.IfAbsent(), true)
	}
	first := c.gen
	if err == nil {
		err = c.put(ctx, store.IfGen(first), true)
	}
	if err == nil {
		err = c.put(ctx, store.IfGen(first), false) // stale
	}
	if err == nil {
		err = c.put(ctx, store.IfGen(c.gen+1_000_000), false) // not yet there
	}
	if err == nil {
		err = c.put(ctx, store.IfGen(c.gen), true)
	}
	return err
}

// put tries a put that must be stored, or refused, and checks what is there afterwards.
func (c *conditionTry) put(ctx context.Context, cond store.Cond, holds bool) error {
	body := []byte(store.NewWriteID())
	gen, err := c.p.Put(ctx, c.key, body, store.NewWriteID(), cond)
	switch {
	case err != nil && !errors.Is(err, store.ErrConflict):
		return err
	case (err == nil) != holds:
		c.say("%s: a put whose condition holds: %t, ended with: %v", c.key, holds, err)
	case err == nil && gen <= c.gen:
		c.say("%s: generation %d was followed by %d", c.key, c.gen, gen)
	}
	if err == nil {
		c.gen, c.body = gen, body
		c.stored++
	} else {
		c.refused++
	}
	o, err := c.p.Get(ctx, c.key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if c.gen != 0 {
			c.say("%s: what was stored is not there", c.key)
		}
	case err != nil:
		return err
	case o.Gen != c.gen || !bytes.Equal(o.Body, c.body):
		c.say("%s: generation %d holds %q, stored was %q as %d", c.key, o.Gen, o.Body, c.body, c.gen)
	}
	return nil
}

func (c *conditionTry) say(format string, args ...any) {
	if c.wrong == "" {
		c.wrong = fmt.Sprintf(format, args...)
	}
}

func readAfterWriteVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "readafterwrite",
			Doc: "creates, swaps and deletes, and after each acknowledgement immediately reads and lists through another client, which " +
				"must see exactly what was acknowledged",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "50", Doc: "each with its own name"},
				{Name: "size", Kind: scenario.KindSize, Default: "1KB", Doc: "of the body"},
				bench.StoreArg(),
			},
			Metrics: bench.MetricDocs("reads_count", "reads and lists compared"),
		},
		Run: readAfterWrite,
	}
}

func readAfterWrite(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	other, err := p.Another(ctx)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(r.Seed, 4))
	rounds, reads := args.Int("rounds"), 0
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: writing and reading", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		key := fmt.Sprintf("read/%06d", round)
		var gen store.Gen
		for _, step := range []string{"create", "swap", "swap", "delete"} {
			body := randomBody(random, int(args.Size("size")))
			switch step {
			case "create":
				gen, err = p.Put(ctx, key, body, store.NewWriteID(), store.IfAbsent())
			case "swap":
				gen, err = p.Put(ctx, key, body, store.NewWriteID(), store.IfGen(gen))
			default:
				gen, body = 0, nil
				err = p.Delete(ctx, key)
			}
			if err != nil {
				return err
			}
			wrong, err := seen(ctx, other, key, gen, body)
			if err != nil {
				return err
			}
			reads += 2
			r.Check(checkReadAfterWrite, wrong)
		}
	}
	r.Metrics.Value("reads_count", float64(reads))
	return nil
}

// seen says how what a client sees differs from a generation (0: nothing) and its body.
func seen(ctx context.Context, st store.Store, key string, gen store.Gen, body []byte) (string, error) {
	o, err := st.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	if err != nil {
		o.Gen = 0
	}
	if o.Gen != gen || gen != 0 && !bytes.Equal(o.Body, body) {
		return fmt.Sprintf("%s: read generation %d (%d bytes), acknowledged was %d (%d bytes)", key, o.Gen, len(o.Body), gen, len(body)), nil
	}
	listed := store.Gen(0)
	for a, err := range st.List(ctx, key, "") {
		if err != nil {
			return "", err
		}
		listed = a.Gen
	}
	return bench.Wrongf(listed != gen, "%s: listed generation %d, acknowledged was %d", key, listed, gen), nil
}

// randomBody makes bytes that do not compress.
func randomBody(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func primitiveLatencyVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "latency",
			Doc:  "measures GET, PUT and conditional PUT, one after the other, from one client",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the body"},
				{Name: "samples", Kind: scenario.KindInt, Default: "50", Doc: "of each"},
				bench.StoreArg(),
			},
			Metrics: bench.MetricDocs("get_ms", "GET of a whole object", "put_ms", "PUT without a condition, over an existing name",
				"create_ms", "PUT that creates if absent", "swap_ms", "PUT that compares and swaps"),
		},
		Run: primitiveLatency,
	}
}

func primitiveLatency(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	samples, size := args.Int("samples"), int64(args.Size("size"))
	body := randomBody(rand.New(rand.NewPCG(r.Seed, 5)), int(size))
	batch := max(latencyBatch, int(latencyBytes/max(size, 1)))
	for from := 0; from < samples; from += batch {
		if err := timeBatch(ctx, r, p, body, from, min(from+batch, samples), samples); err != nil {
			return err
		}
	}
	return nil
}

// A batch has this many names, or this many bytes, whichever is more.
const (
	latencyBatch = 10
	latencyBytes = 32 << 20
)

// timeBatch measures on some names, one kind of request after the other: no name is written again before all the others of the batch, as a
// bucket takes about one write per second and name. What was written is deleted, so that memory does not fill.
func timeBatch(ctx context.Context, r *bench.Run, p *bench.Place, body []byte, from, to, samples int) error {
	clk := clock.System()
	gens := make([]store.Gen, samples)
	key := func(i int) string { return fmt.Sprintf("latency/%06d", i) }
	for _, pass := range []struct {
		metric string
		do     func(i int) error
	}{
		{"create_ms", func(i int) (err error) {
			gens[i], err = p.Put(ctx, key(i), body, store.NewWriteID(), store.IfAbsent())
			return err
		}},
		{"get_ms", func(i int) error { _, err := p.Get(ctx, key(i)); return err }},
		{"swap_ms", func(i int) error {
			_, err := p.Put(ctx, key(i), body, store.NewWriteID(), store.IfGen(gens[i]))
			return err
		}},
		{"put_ms", func(i int) error { _, err := p.Put(ctx, key(i), body, store.NewWriteID(), store.Always()); return err }},
		{"", func(i int) error { return p.Delete(ctx, key(i)) }},
	} {
		for i := from; i < to; i++ {
			r.Progress(fmt.Sprintf("%s %s: measuring", r.Cell.Probe, r.Cell.Label), int64(from), int64(samples))
			at := clk.Monotonic()
			if err := pass.do(i); err != nil {
				return err
			}
			if pass.metric != "" {
				r.Metrics.Duration(pass.metric, clk.Monotonic()-at)
			}
		}
	}
	return nil
}

func emulatorVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "emulator",
			Doc: "checks every known difference between the emulator and the service: the bare emulator still shows it, the front " +
				"corrects or refuses it, and what the front relies on holds",
			Metrics: bench.MetricDocs("rows_count", "rows of the table of required answers", "lies_count", "rows that the bare emulator "+
				"gets wrong",
				"refused_count", "rows that the front refuses instead of correcting"),
		},
		Run: emulatorTable,
	}
}

func emulatorTable(ctx context.Context, r *bench.Run, _ scenario.Args) error {
	r.Progress(r.Cell.Probe+": the emulator's table", 0, 0)
	found, err := gcsfront.Fidelity(ctx)
	if err != nil {
		return err
	}
	lies, refused := 0, 0
	for _, f := range found {
		if f.Bare != "" && !f.BareFaithful {
			lies++
		}
		if f.Refused {
			refused++
		}
		r.Check(checkEmulator, bench.Wrongf(f.Surprise() != "", "%s: %s", f.Name, f.Surprise()))
	}
	r.Metrics.Value("rows_count", float64(len(found)))
	r.Metrics.Value("lies_count", float64(lies))
	r.Metrics.Value("refused_count", float64(refused))
	return nil
}
