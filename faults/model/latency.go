package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Work is the kind of a request, as far as its latency is concerned.
type Work uint8

// The kinds of work.
const (
	Get    Work = iota // a body, or attributes
	Put                // an upload, or any other mutation
	List               // one page
	Delete             //
)

// Latency is a model of how long the service takes: lognormal, with a median and a spread that depend on the size of the body. Each curve
// holds its points by ascending size; between them the median and the spread are interpolated, and beyond the last one the median continues
// at the last slope.
type Latency struct {
	Get    []LatencyPoint // bodies and attributes
	Put    []LatencyPoint // uploads and all other mutations
	List   []LatencyPoint // a page
	Delete []LatencyPoint
	Scale  float64 // multiplies every sample; 0: 1
}

// LatencyPoint is one point of a curve.
type LatencyPoint struct {
	Bytes  int64
	Median time.Duration
	Sigma  float64 // of the logarithm: the largest of 20 samples lies near Median*exp(1.87*Sigma)
}

// DefaultLatency is a bucket seen from the same region. Source: the experiments that preceded this project, 20 samples each (median and
// largest): conditional PUT of 1 KB 44 and 62 ms, of 1 MB 60 and 134, of 16 MB 228 and 838; GET of 1 KB 38 ms. What was not measured is
// borrowed: GET grows with size as PUT does, a list is a GET, a delete a PUT of 1 KB.
func DefaultLatency() *Latency {
	const kb, mb = 1 << 10, 1 << 20
	put := []LatencyPoint{
		{Bytes: kb, Median: 44 * time.Millisecond, Sigma: 0.18},
		{Bytes: mb, Median: 60 * time.Millisecond, Sigma: 0.43},
		{Bytes: 16 * mb, Median: 228 * time.Millisecond, Sigma: 0.70},
	}
	get := []LatencyPoint{
		{Bytes: kb, Median: 38 * time.Millisecond, Sigma: 0.18},
		{Bytes: mb, Median: 54 * time.Millisecond, Sigma: 0.43},
		{Bytes: 16 * mb, Median: 222 * time.Millisecond, Sigma: 0.70},
	}
	return &Latency{Get: get, Put: put, List: get[:1], Delete: put[:1]}
}

// Sampler draws from a model. Create it with NewSampler; it is safe for concurrent use.
type Sampler struct {
	model *Latency

	mu     sync.Mutex
	random *rand.Rand
}

// NewSampler checks the model and seeds the draws. A nil model takes no time at all.
func NewSampler(model *Latency, seed uint64) (*Sampler, error) {
	if model == nil {
		return &Sampler{}, nil
	}
	for _, curve := range [][]LatencyPoint{model.Get, model.Put, model.List, model.Delete} {
		for i, p := range curve {
			if p.Bytes < 0 || p.Median < 0 || p.Sigma < 0 || (i > 0 && p.Bytes <= curve[i-1].Bytes) {
				return nil, fmt.Errorf("latency point %+v: sizes must ascend, nothing be negative", p)
			}
		}
	}
	if model.Scale < 0 {
		return nil, fmt.Errorf("latency scale %g: must not be negative", model.Scale)
	}
	return &Sampler{model: model, random: rand.New(rand.NewPCG(seed, math.MaxUint64))}, nil
}

// Sample draws the latency of one request with size bytes of body, up or down.
func (s *Sampler) Sample(work Work, size int64) time.Duration {
	if s.model == nil {
		return 0
	}
	curve := s.model.Put
	switch work {
	case Get:
		curve = s.model.Get
	case List:
		curve = s.model.List
	case Delete:
		curve = s.model.Delete
	}
	median, sigma := at(curve, size)
	s.mu.Lock()
	normal := s.random.NormFloat64()
	s.mu.Unlock()
	scale := s.model.Scale
	if scale == 0 {
		scale = 1
	}
	return time.Duration(scale * median * math.Exp(sigma*normal))
}

// at returns the median (nanoseconds) and spread of a curve at a size.
func at(curve []LatencyPoint, size int64) (median, sigma float64) {
	if len(curve) == 0 {
		return 0, 0
	}
	if len(curve) == 1 || size <= curve[0].Bytes {
		return float64(curve[0].Median), curve[0].Sigma
	}
	i := 1
	for i < len(curve)-1 && size > curve[i].Bytes {
		i++
	}
	a, b := curve[i-1], curve[i]
	along := float64(size-a.Bytes) / float64(b.Bytes-a.Bytes) // above 1 beyond the last point
	median = float64(a.Median) + along*float64(b.Median-a.Median)
	sigma = a.Sigma + min(along, 1)*(b.Sigma-a.Sigma)
	return max(median, 0), sigma
}
