// Package model is what the fault injectors have in common: how long the service takes, how often it lets one name be written, and how a
// rule picks the requests it strikes.
//
//	sampler, err := model.NewSampler(model.DefaultLatency(), seed)
//	limiter, err := model.NewLimiter(model.DefaultRate(), clk)
//	if !limiter.Allow(key) { return errThrottled }
//	err = clk.Sleep(ctx, sampler.Sample(model.Put, int64(len(body))))
//
// A model is not the service: it has no outages, no warm-up, and no correlation between one request and the next.
package model

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Often is how often a rule strikes, of the requests it matches. Exactly one field is set.
type Often struct {
	Every       int     // each time the rule has matched that often: 1 is always
	Nth         int     // only the nth match
	Probability float64 // at each match, seeded; at most 1
}

// Check returns an error unless exactly one field is set, to something that can happen.
func (o Often) Check() error {
	ways := 0
	for _, set := range []bool{o.Every != 0, o.Nth != 0, o.Probability != 0} {
		if set {
			ways++
		}
	}
	if ways != 1 || o.Every < 0 || o.Nth < 0 || o.Probability < 0 || o.Probability > 1 {
		return fmt.Errorf("every %d, nth %d, probability %g: set exactly one, positive, and the probability at most 1",
			o.Every, o.Nth, o.Probability)
	}
	return nil
}

// Due reports whether the rule strikes now, after matching matched requests including this one.
func (o Often) Due(matched int64, random *rand.Rand) bool {
	switch {
	case o.Every > 0:
		return matched%int64(o.Every) == 0
	case o.Nth > 0:
		return matched == int64(o.Nth)
	default:
		return random.Float64() < o.Probability
	}
}

// String reads `every=3`, `nth=1` or `p=0.02`.
func (o Often) String() string {
	switch {
	case o.Every > 0:
		return fmt.Sprintf("every=%d", o.Every)
	case o.Nth > 0:
		return fmt.Sprintf("nth=%d", o.Nth)
	default:
		return fmt.Sprintf("p=%g", o.Probability)
	}
}

// KeyIn reports whether a key belongs to a class: the class is a segment of the key, or several. "wal" holds
// "db/wal/7" and not "db/walnut"; the empty class holds every key.
func KeyIn(class, key string) bool {
	return class == "" || strings.Contains("/"+key+"/", "/"+strings.Trim(class, "/")+"/")
}
