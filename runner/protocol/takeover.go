package protocol

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
	"blobpglite/faults/model"
	"blobpglite/faults/storefault"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// protocolTTL is the lease of writers without PostgreSQL, in virtual time.
const protocolTTL = 10 * time.Second

// openWriter opens a database without PostgreSQL. Its clock is n leases later than the first one's.
func openWriter(ctx context.Context, st store.Store, name string, n int, hook point.Hook) (*takeover.Opened, error) {
	return takeover.Open(ctx, takeover.Options{
		Store: st, Writer: name, Address: name + ".example:5432", Create: true, LeaseTTL: protocolTTL, Hook: hook,
		Clock: bench.SkippingClock{Virtual: clock.NewVirtual(virtualStart().Add(time.Duration(2*n) * protocolTTL))},
	})
}

// appendRow appends a record that carries a text.
func appendRow(ctx context.Context, o *takeover.Opened, text string) error {
	_, err := o.Log.Append(ctx, []wal.Op{{Kind: wal.OpReplace, Path: "/row", Data: []byte(text)}})
	return err
}

// rows returns what the records of an opening carry.
func rows(o *takeover.Opened) []string {
	var out []string
	for _, rec := range o.Records {
		for _, op := range rec.Ops {
			out = append(out, string(op.Data))
		}
	}
	return out
}

func takeoversVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "takeovers",
			Doc: "lets several writers take over one database at the same moment, after its lease has expired, round after round on one " +
				"log: one becomes the writer, the others are told who it is, the epoch rises by exactly one, and the log stays sound",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "100", Doc: "consecutive takeovers"},
				{Name: "rivals", Kind: scenario.KindInt, Default: "2", Doc: "concurrent"},
				bench.StoreArg(),
			},
			Metrics: bench.MetricDocs("winners_count", "winners of a round", "epoch_rise_count", "how much the epoch rose in a round", "takeover_ms", "time of the winner's takeover",
				"fences_count", "fences in the log at the end"),
		},
		Run: takeovers,
	}
}

func takeovers(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	st := store.Prefixed(p, "takeovers")
	if args.String("on") == bench.OnMem || r.Store.Memory != nil {
		// If a store answers immediately, two writers hardly ever meet: so it gets a twentieth of a bucket's latency.
		latency := model.DefaultLatency()
		latency.Scale = 0.05
		slow, err := storefault.New(st, storefault.Options{Seed: r.Seed, Latency: latency})
		if err != nil {
			return err
		}
		defer slow.Close()
		st = slow
	}
	rounds, rivals := args.Int("rounds"), args.Int("rivals")
	holder, err := openWriter(ctx, st, "first", 0, nil)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(r.Seed, 7))
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: takeovers", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		next, wrong, err := takeoverOnce(ctx, r, st, holder, round+1, rivals, random)
		if err != nil {
			return err
		}
		r.Check(bench.CheckOneEpoch, wrong)
		if next == nil {
			return nil // failed
		}
		holder = next
	}
	report, err := takeover.Verify(ctx, st)
	r.Check(bench.CheckOneEpoch, bench.Wrongf(err != nil || report.Epoch != uint64(rounds+1) || report.Fences != rounds+1,
		"after %d takeovers: epoch %d, %d fences, %v", rounds, report.Epoch, report.Fences, err))
	r.Metrics.Value("fences_count", float64(report.Fences))
	return nil
}

// takeoverOnce lets rivals concurrently open what holder has, and returns the new holder.
func takeoverOnce(ctx context.Context, r *bench.Run, st store.Store, holder *takeover.Opened, round, rivals int, random *rand.Rand) (*takeover.Opened, string, error) {
	text := fmt.Sprintf("row of round %d", round)
	if random.IntN(2) == 0 { // half of the takeovers find a fence as the tail
		if err := appendRow(ctx, holder, text); err != nil {
			return nil, "", err
		}
	}
	opened, errs := make([]*takeover.Opened, rivals), make([]error, rivals)
	clk := clock.System()
	at := clk.Monotonic()
	var took atomic.Int64
	bench.AtOnce(rivals, func(i int) {
		opened[i], errs[i] = openWriter(ctx, st, fmt.Sprintf("round %d rival %d", round, i), round, nil)
		if errs[i] == nil {
			took.Store(int64(clk.Monotonic() - at))
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	var next *takeover.Opened
	winners := 0
	for i, o := range opened {
		if errs[i] == nil {
			winners++
			next = o
		} else if !errors.Is(errs[i], lease.ErrLocked) && !errors.Is(errs[i], takeover.ErrRival) {
			return nil, fmt.Sprintf("round %d: a rival was told: %v", round, errs[i]), nil
		}
	}
	r.Metrics.Value("winners_count", float64(winners))
	if winners != 1 {
		return nil, fmt.Sprintf("round %d: %d writers opened the database: %v", round, winners, errors.Join(errs...)), nil
	}
	r.Metrics.Duration("takeover_ms", time.Duration(took.Load()))
	r.Metrics.Value("epoch_rise_count", float64(next.Epoch-holder.Epoch))
	if next.Epoch != holder.Epoch+1 {
		return next, fmt.Sprintf("round %d: epoch %d was followed by %d", round, holder.Epoch, next.Epoch), nil
	}
	err := appendRow(ctx, holder, "a zombie's")
	return next, bench.Wrongf(!errors.Is(err, wal.ErrFenced), "round %d: the predecessor's append ended with: %v", round, err), nil
}

// parker stops a writer at a point, once, until it is released.
type parker struct {
	at     point.Point
	armed  atomic.Bool
	parked chan struct{} // closed when the writer is there
	resume chan struct{} // closed to let it go
}

func newParker(at point.Point) *parker {
	return &parker{at: at, parked: make(chan struct{}), resume: make(chan struct{})}
}

func (p *parker) hook(ctx context.Context, at point.Point) error {
	if at == p.at && p.armed.CompareAndSwap(true, false) {
		close(p.parked)
		select {
		case <-p.resume:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func zombiesVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "zombies",
			Doc: "parks a writer in the middle of a commit until its lease has expired and another writer has opened the database and " +
				"committed; then the first continues: whatever it tries is refused, and the log holds exactly what was acknowledged",
			Args: []scenario.Arg{
				{Name: "at", Default: string(point.WalBeforePut),
					OneOf: []string{string(point.WalBeforePut), string(point.WalAfterPut), string(point.ManifestBeforeCAS)},
					Doc: "where it is parked: before its record is created (refused), after (durable: its successor has it, and the next " +
						"one is refused), or before it swaps the manifest to a layer that its successor has overtaken"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "100", Doc: "each with its own database"},
				bench.StoreArg(),
			},
			Metrics: bench.MetricDocs("refused_count", "zombies refused in a round", "zombies_count", "zombies that were woken"),
		},
		Run: zombies,
	}
}

func zombies(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	rounds := args.Int("rounds")
	at := point.Point(args.String("at"))
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: zombies", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		z := &zombie{st: store.Prefixed(p, fmt.Sprintf("zombie/%06d", round)), at: at, rows: 1 + round%3}
		if err := z.live(ctx); err != nil {
			return err
		}
		r.Metrics.Value("zombies_count", 1)
		refused := 0.0
		if z.refused {
			refused = 1
		}
		r.Metrics.Value("refused_count", refused)
		r.Check(bench.CheckRefused, z.wrong)
	}
	return nil
}

// zombie is one round: a writer, its successor, and what was acknowledged to either.
type zombie struct {
	st           store.Store
	at           point.Point
	rows         int
	acknowledged []string
	refused      bool
	wrong        string
}

func (z *zombie) commit(ctx context.Context, o *takeover.Opened, text string) error {
	err := appendRow(ctx, o, text)
	if err == nil {
		z.acknowledged = append(z.acknowledged, text)
	}
	return err
}

// publish makes the manifest start after everything that a writer has appended.
func (z *zombie) publish(ctx context.Context, o *takeover.Opened, hook point.Hook) error {
	at := o.Log.Tail()
	key := base.Key(o.Epoch, at.Seq)
	if _, _, err := base.Write(ctx, z.st, key, memfs.New(memfs.Options{}), base.WriteOptions{}); err != nil {
		return err
	}
	_, err := manifest.Publish(ctx, z.st, manifest.Options{Epoch: o.Epoch, Writer: "experiment", Hook: hook}, manifest.Layer{
		Key: key, Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:]),
	})
	return err
}

// live goes through the round. The error is of the harness.
func (z *zombie) live(ctx context.Context) error {
	parker := newParker(z.at)
	first, err := openWriter(ctx, z.st, "first", 0, parker.hook)
	if err != nil {
		return err
	}
	for i := range z.rows {
		if err := z.commit(ctx, first, fmt.Sprintf("first %d", i)); err != nil {
			return err
		}
	}
	parker.armed.Store(true)
	ended := make(chan error, 1)
	go func() {
		if z.at == point.ManifestBeforeCAS {
			ended <- z.publish(ctx, first, parker.hook)
		} else {
			ended <- appendRow(ctx, first, "in mid-commit")
		}
	}()
	select {
	case <-parker.parked:
	case err := <-ended:
		return fmt.Errorf("the writer never came to %s: %w", z.at, err)
	}
	second, err := openWriter(ctx, z.st, "second", 1, nil)
	if err == nil {
		err = z.commit(ctx, second, "second 0")
	}
	if err == nil && z.at == point.ManifestBeforeCAS {
		err = z.publish(ctx, second, nil)
	}
	close(parker.resume)
	late := <-ended
	if err != nil {
		return err
	}
	if second.Epoch != first.Epoch+1 {
		z.wrong = fmt.Sprintf("epoch %d was followed by %d", first.Epoch, second.Epoch)
		return nil
	}
	z.judge(late, second)
	if z.wrong == "" {
		return z.afterwards(ctx, first, second)
	}
	return nil
}

// judge says whether what was under way ended as it must.
func (z *zombie) judge(late error, second *takeover.Opened) {
	var fenced *wal.FencedError
	switch z.at {
	case point.WalBeforePut:
		z.refused = errors.As(late, &fenced)
		if !z.refused || fenced.By != "second" || fenced.Epoch != second.Epoch {
			z.wrong = fmt.Sprintf("an append that its successor had fenced ended with: %v", late)
		}
	case point.WalAfterPut:
		// It was durable when it was parked: its successor has read it, and it may be acknowledged.
		found := rows(second)
		if late != nil || len(found) == 0 || found[len(found)-1] != "in mid-commit" {
			z.wrong = fmt.Sprintf("a durable append ended with: %v; its successor starts from %q", late, found)
		}
	default:
		z.refused = errors.Is(late, manifest.ErrFenced)
		if !z.refused {
			z.wrong = fmt.Sprintf("the swap of the manifest that its successor had swapped ended with: %v", late)
		}
	}
}

// afterwards lets both continue, and a third one read what there is.
func (z *zombie) afterwards(ctx context.Context, first, second *takeover.Opened) error {
	err := appendRow(ctx, first, "a zombie's")
	if !errors.Is(err, wal.ErrFenced) {
		z.wrong = fmt.Sprintf("the zombie's next append ended with: %v", err)
		return nil
	}
	z.refused = true
	if err := first.Lease.Renew(ctx); !errors.Is(err, lease.ErrLost) {
		z.wrong = fmt.Sprintf("the zombie's renewal ended with: %v", err)
		return nil
	}
	if err := z.commit(ctx, second, "second 1"); err != nil {
		return err
	}
	third, err := openWriter(ctx, z.st, "third", 2, nil)
	if err != nil {
		return err
	}
	want := z.expected()
	if got := fmt.Sprintf("%q", rows(third)); got != fmt.Sprintf("%q", want) {
		z.wrong = fmt.Sprintf("the log holds %s, acknowledged was %q", got, want)
	}
	return nil
}

// expected is what the log must hold after its newest layer.
func (z *zombie) expected() []string {
	var want []string
	for i, text := range z.acknowledged {
		switch {
		case z.at == point.ManifestBeforeCAS && i < z.rows+1: // in the layer
		case z.at == point.WalAfterPut && i == z.rows:
			want = append(want, "in mid-commit", text)
		default:
			want = append(want, text)
		}
	}
	return want
}
