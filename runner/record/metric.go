package record

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Metric is the distribution of one measured quantity. The numbers are in Unit;
// Min and Max are exact to a tick (see unitOf), the percentiles are within 0.1 %.
type Metric struct {
	Name string  `json:"name" expr:"name"`
	Unit string  `json:"unit" expr:"unit"`
	N    int64   `json:"n" expr:"n"`
	Min  float64 `json:"min" expr:"min"`
	P50  float64 `json:"p50" expr:"p50"`
	P90  float64 `json:"p90" expr:"p90"`
	P99  float64 `json:"p99" expr:"p99"`
	Max  float64 `json:"max" expr:"max"`
	// Hist is an HdrHistogram in V2 compressed form, base64. It counts ticks, a fixed fraction of the unit (see unitOf), so that histograms
	// of one metric merge. Percentiles are never averaged.
	Hist string `json:"hist" expr:"-"`
}

// Bounds of a histogram: three significant digits up to 10^13 ticks, which is four months in microseconds, or ten terabytes.
const (
	histSignificantFigures = 3
	histMaxTicks           = 10_000_000_000_000
)

// unit is how a suffix of a metric's name is measured.
type unit struct {
	suffix string
	name   string
	// ticks is how many histogram ticks make one unit.
	ticks float64
	// perSecond is how many units make one second; 0 for units that are not times.
	perSecond float64
}

// unitOf finds the unit by the name's ending: every metric carries its unit last.
func unitOf(metric string) (unit, error) {
	for _, u := range []unit{
		{"_ms", "ms", 1000, 1e3},       // ticks are microseconds
		{"_us", "us", 1000, 1e6},       // ticks are nanoseconds
		{"_bytes", "bytes", 1, 0},      //
		{"_ratio", "ratio", 10_000, 0}, // ticks are 1/10000
		{"_per_s", "per_s", 1000, 0},   // ticks are 1/1000
		{"_count", "count", 1, 0},      //
		{"_usd", "usd", 1e6, 0},        // ticks are millionths of a dollar
	} {
		if strings.HasSuffix(metric, u.suffix) {
			return u, nil
		}
	}
	return unit{}, fmt.Errorf("metric %q ends in no unit: use _ms, _us, _bytes, _ratio, _per_s, _count or _usd", metric)
}

// Metrics collects values and turns them into Metric lines. Use NewMetrics. It is safe for concurrent use. List reports the first value
// that could not be recorded (a name without a unit, a negative number).
type Metrics struct {
	mu     sync.Mutex
	err    error
	series map[string]*series
}

type series struct {
	unit     unit
	hist     *hdrhistogram.Histogram
	min, max float64
}

// NewMetrics returns an empty set.
func NewMetrics() *Metrics {
	return &Metrics{series: map[string]*series{}}
}

// Duration records a time under a name that ends in _ms or _us.
func (m *Metrics) Duration(name string, d time.Duration) {
	u, err := unitOf(name)
	if err == nil && u.perSecond == 0 {
		err = fmt.Errorf("metric %q is no time: its name must end in _ms or _us", name)
	}
	if err != nil {
		m.fail(err)
		return
	}
	m.Value(name, d.Seconds()*u.perSecond)
}

// Value records a number in the unit that the name ends in.
func (m *Metrics) Value(name string, v float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.seriesOf(name)
	if err == nil {
		err = s.add(name, v)
	}
	if err != nil && m.err == nil {
		m.err = err
	}
}

func (m *Metrics) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
}

func (m *Metrics) seriesOf(name string) (*series, error) {
	if s, ok := m.series[name]; ok {
		return s, nil
	}
	u, err := unitOf(name)
	if err != nil {
		return nil, err
	}
	s := &series{unit: u, hist: hdrhistogram.New(1, histMaxTicks, histSignificantFigures)}
	m.series[name] = s
	return s, nil
}

func (s *series) add(name string, v float64) error {
	if math.IsNaN(v) || v < 0 || v*s.unit.ticks > histMaxTicks {
		return fmt.Errorf("record %s: %v %s is out of range (0 to %g)", name, v, s.unit.name, histMaxTicks/s.unit.ticks)
	}
	ticks := math.Round(v * s.unit.ticks)
	if err := s.hist.RecordValue(int64(ticks)); err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	v = ticks / s.unit.ticks // nothing finer than a tick is kept
	if s.hist.TotalCount() == 1 {
		s.min, s.max = v, v
	}
	s.min, s.max = min(s.min, v), max(s.max, v)
	return nil
}

// List returns one Metric for each name, sorted by name, and the first error of any recording.
func (m *Metrics) List() ([]Metric, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	list := make([]Metric, 0, len(m.series))
	for name, s := range m.series {
		if s.hist.TotalCount() == 0 {
			continue
		}
		metric, err := summarize(name, s.unit, s.hist, s.min, s.max)
		if err != nil {
			return nil, err
		}
		list = append(list, metric)
	}
	slices.SortFunc(list, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func summarize(name string, u unit, h *hdrhistogram.Histogram, lo, hi float64) (Metric, error) {
	encoded, err := h.EncodeV2()
	if err != nil {
		return Metric{}, fmt.Errorf("encode the histogram of %s: %w", name, err)
	}
	// A percentile is the upper edge of a bucket; it never lies outside what was seen.
	at := func(p float64) float64 {
		return min(max(float64(h.ValueAtPercentile(p))/u.ticks, lo), hi)
	}
	return Metric{
		Name: name, Unit: u.name, N: h.TotalCount(),
		Min: lo, P50: at(50), P90: at(90), P99: at(99), Max: hi,
		Hist: string(encoded),
	}, nil
}

// Histogram returns the distribution, in ticks, and the number of ticks in one unit.
func (m Metric) Histogram() (h *hdrhistogram.Histogram, ticks float64, err error) {
	u, err := unitOf(m.Name)
	if err != nil {
		return nil, 0, err
	}
	h, err = hdrhistogram.Decode([]byte(m.Hist))
	if err != nil {
		return nil, 0, fmt.Errorf("read the histogram of %s: %w", m.Name, err)
	}
	return h, u.ticks, nil
}

// Merge adds up the distributions of one metric from several lines.
func Merge(metrics ...Metric) (Metric, error) {
	if len(metrics) == 0 {
		return Metric{}, fmt.Errorf("merge metrics: none given")
	}
	first := metrics[0]
	sum, _, err := first.Histogram()
	if err != nil {
		return Metric{}, err
	}
	lo, hi := first.Min, first.Max
	for _, m := range metrics[1:] {
		if m.Name != first.Name {
			return Metric{}, fmt.Errorf("merge metrics: %s and %s differ", first.Name, m.Name)
		}
		h, _, err := m.Histogram()
		if err != nil {
			return Metric{}, err
		}
		if dropped := sum.Merge(h); dropped != 0 {
			return Metric{}, fmt.Errorf("merge %s: %d values do not fit", m.Name, dropped)
		}
		lo, hi = min(lo, m.Min), max(hi, m.Max)
	}
	u, err := unitOf(first.Name)
	if err != nil {
		return Metric{}, err
	}
	return summarize(first.Name, u, sum, lo, hi)
}
