package serverless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/core/store"
	"blobpglite/core/wal"
	"blobpglite/runner/check"
	"blobpglite/runner/cloudrun"
)

// cloudHost is pgserve on Cloud Run, and a real bucket. It knows about instances what their logs say, and about the bucket what an
// occasional listing shows, and what the instance counts of its own requests.
//
// Each run of pgserve with flags, a prefix or a size of its own is a revision. A deployment starts an instance; begin has it end again, so
// that requests find what they find on the emulator: nothing.
type cloudHost struct {
	service *Service
	*cloudrun.Service

	at      cloudrun.Addresses
	options platform.Options
	serving string      // the revision's suffix
	is      string      // what it was made from
	awake   atomic.Bool // there may be an instance

	listed map[string]store.Attrs // of the prefix, the last time
	seen   []check.Change
	prefix string // of those
}

var _ host = (*cloudHost)(nil)

// revision returns the run's current settings, under the next name.
func (h *cloudHost) revision() cloudrun.Revision {
	n := h.service.Run.Cloud.NextRevision()
	r := cloudrun.Revision{
		Suffix: fmt.Sprintf("r%d", n), Env: environment(h.service.flags),
		Memory: fmt.Sprintf("%dMi", h.options.MemoryMiB), Always: h.options.CPU == platform.Always,
	}
	if h.service.prefix != "" {
		r.Bucket = "gs://" + h.service.bucket + "/" + h.service.prefix
	}
	return r
}

// environment converts pgserve flags, each a name and a value, to the corresponding variables: -lease-ttl 2s is PGSERVE_LEASE_TTL=2s.
func environment(flags []string) map[string]string {
	env := map[string]string{}
	for pair := range slices.Chunk(flags, 2) {
		env["PGSERVE_"+strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(pair[0], "-"), "-", "_"))] = pair[1]
	}
	return env
}

// begin deploys, unless the requested revision already serves. Of the options the memory and the CPU's mode count; Cloud Run decides how
// long an idle instance is kept.
func (h *cloudHost) begin(ctx context.Context, o platform.Options) error {
	if o.MemoryMiB == 0 {
		o.MemoryMiB = defaultMemoryMiB
	}
	h.options = o
	is := fmt.Sprint(o.MemoryMiB, o.CPU == platform.Always, h.service.prefix, h.service.flags)
	if is != h.is {
		h.is = "" // until it is
		if err := h.Replace(ctx, ""); err != nil {
			return err
		}
		if _, err := h.Leave(ctx); err != nil {
			return err
		}
		h.is = is
	}
	return h.listLog(ctx)
}

// end ends the instance. After a failure it does not wait for anything: at the end the service goes with all its instances.
func (h *cloudHost) end(ctx context.Context, failed bool) error {
	if failed || ctx.Err() != nil {
		h.is = "" // unknown; deploy anew
		return nil
	}
	_, err := h.Leave(ctx)
	return err
}

func (h *cloudHost) address() string { return h.at.URL }

func (h *cloudHost) prepare(r *http.Request) {
	r.Header.Set("Authorization", "Bearer "+h.Token())
	h.awake.Store(true)
}

// Replace makes a revision. Cloud Run's names are numbered, whatever the caller calls it.
func (h *cloudHost) Replace(ctx context.Context, _ string) error {
	r := h.revision()
	h.awake.Store(true)
	h.serving = r.Suffix
	if err := h.Deploy(ctx, r); err != nil {
		return err
	}
	if h.at.URL != "" {
		return nil
	}
	var err error
	h.at, err = h.Addresses(ctx)
	return err
}

// beside deploys with a tag. Once that is removed, the revision's instance ends at some time; its lease has expired by then.
func (h *cloudHost) beside(ctx context.Context, tag string) (string, func(context.Context) error, error) {
	r := h.revision()
	r.Tag = tag
	if err := h.Deploy(ctx, r); err != nil {
		return "", nil, err
	}
	at, err := h.Addresses(ctx)
	if err == nil && at.Tags[tag] == "" {
		err = fmt.Errorf("the revision %s has no address by its tag %s", r.Suffix, tag)
	}
	return at.Tags[tag], func(ctx context.Context) error { return h.Untag(ctx, tag) }, err
}

func (h *cloudHost) current() (instanceOf, error) { return instanceOf{revision: h.serving}, nil }

func (h *cloudHost) retired(ctx context.Context, i instanceOf) (retirement, error) {
	l, err := h.Retired(ctx, i.revision)
	return retirement{told: l.Told, ended: l.Ended, how: l.How}, errors.Join(err, h.listLog(ctx))
}

// sleep does not wait until Cloud Run lets an idle instance go, which may take a quarter of an hour: it scales to zero.
func (h *cloudHost) sleep(ctx context.Context) (retirement, error) {
	l, err := h.Sleep(ctx, h.serving)
	if err != nil {
		return retirement{}, err
	}
	h.awake.Store(false)
	return retirement{told: l.Told, ended: l.Ended, how: l.How}, h.listLog(ctx)
}

func (h *cloudHost) Leave(ctx context.Context) (retirement, error) {
	if !h.awake.Load() {
		return retirement{how: endedWell}, nil
	}
	return h.sleep(ctx)
}

// memory is not reported by Cloud Run; an instance that exceeds its limit does not answer, and its logs say so.
func (h *cloudHost) memory() (int64, bool) { return 0, false }

// quiet queries the instance for its count until that stays the same: each time the instance has CPU for a moment, continues with what it
// has begun, such as a layer, and counts what was done while it had none.
func (h *cloudHost) quiet(ctx context.Context, d time.Duration) error {
	const pause, alike, most = 300 * time.Millisecond, 3, 200
	if err := h.service.Clock.Sleep(ctx, d); err != nil {
		return err
	}
	last, times := int64(-1), 0
	for range most {
		n, err := h.asked(ctx)
		if err != nil {
			return err
		}
		if n != last {
			last, times = n, 0
		}
		if times++; times == alike {
			return nil
		}
		if err := h.service.Clock.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	return fmt.Errorf("an instance without requests still asks the bucket after %v: %d requests so far", most*pause, last)
}

// asked is what the instance has counted: operations of the store, whatever their results.
func (h *cloudHost) asked(ctx context.Context) (int64, error) {
	r, err := h.service.send(ctx, http.MethodGet, h.address()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("read /metrics: status %d", r.StatusCode)
	}
	return sumOf(r.Body, "blobpglite_store_operations_total")
}

// sumOf adds up a counter of Prometheus's text format, over all its labels.
func sumOf(text io.Reader, name string) (int64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return 0, fmt.Errorf("read /metrics: %w", err)
	}
	if families[name] == nil {
		return 0, fmt.Errorf("read /metrics: there is no %s", name)
	}
	sum := 0.0
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	return int64(sum), nil
}

// records counts those in the log: nothing may have been collected.
func (h *cloudHost) records(ctx context.Context) (int, error) {
	if err := h.listLog(ctx); err != nil {
		return 0, err
	}
	n := 0
	for key, a := range h.listed {
		if strings.HasPrefix(key, "wal/") && !strings.HasPrefix(a.WriteID, wal.FenceID) {
			n++
		}
	}
	return n, nil
}

// changes are the differences between one listing and the next.
func (h *cloudHost) changes(ctx context.Context) ([]check.Change, error) {
	err := h.listLog(ctx)
	return h.seen, err
}

// listLog lists the log and records what has changed there since the last time.
func (h *cloudHost) listLog(ctx context.Context) error {
	if h.service.prefix == "" {
		return nil
	}
	if h.prefix != h.service.prefix {
		h.prefix, h.listed, h.seen = h.service.prefix, map[string]store.Attrs{}, nil
	}
	st, done, err := h.service.Store(ctx)
	if err != nil {
		return err
	}
	defer done()
	now := map[string]store.Attrs{}
	for _, folder := range []string{"wal/", "part/"} {
		for a, err := range st.List(ctx, folder, "") {
			if err != nil {
				return fmt.Errorf("list the log: %w", err)
			}
			now[a.Key] = a
		}
	}
	h.seen = append(h.seen, changesBetween(h.listed, now)...)
	h.listed = now
	return nil
}

// changesBetween is the least that must have happened between two listings, in the order of the names.
func changesBetween(before, now map[string]store.Attrs) []check.Change {
	var all []check.Change
	for key, a := range before {
		b, there := now[key]
		switch {
		case there && a.Gen == b.Gen:
			continue
		case !there, strings.HasPrefix(b.WriteID, wal.FenceID):
			// A fence may come too late, to a name that was collected; anything else that takes a name again has written it twice.
			all = append(all, check.Change{Delete: true, Key: key})
		}
		if there {
			all = append(all, check.Change{Key: key, Bytes: b.Size, WriteID: b.WriteID})
		}
	}
	for key, b := range now {
		if _, known := before[key]; !known {
			all = append(all, check.Change{Key: key, Bytes: b.Size, WriteID: b.WriteID})
		}
	}
	slices.SortStableFunc(all, func(a, b check.Change) int { return strings.Compare(a.Key, b.Key) })
	return all
}
