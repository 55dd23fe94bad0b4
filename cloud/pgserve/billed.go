package main

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/store/gcs"
)

// billedClasses are what a bucket's requests are counted by, and each's count.
func billedClasses() map[string]func(gcs.Billed) int64 {
	return map[string]func(gcs.Billed) int64{
		"a": func(b gcs.Billed) int64 { return b.ClassA }, "b": func(b gcs.Billed) int64 { return b.ClassB },
		"delete": func(b gcs.Billed) int64 { return b.Delete }, "not_billed": func(b gcs.Billed) int64 { return b.Free },
	}
}

// registerBilled makes metrics of what the bucket was asked for, retries included, where there is one.
func (c *config) registerBilled(registry prometheus.Registerer) error {
	if c.billed == nil {
		return nil
	}
	var errs []error
	for class, of := range billedClasses() {
		errs = append(errs, registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "blobpglite_store_requests_total", Help: "requests at the bucket as they are billed, retries included: a is put and list, b is get; not_billed: answered with an error",
			ConstLabels: prometheus.Labels{"class": class},
		}, func() float64 { return float64(of(c.billed())) })))
	}
	return errors.Join(errs...)
}

// billedAttrs are for the last line of the log: nobody can ask an instance that has gone for its metrics.
func (c *config) billedAttrs() []any {
	if c.billed == nil {
		return nil
	}
	b := c.billed()
	return []any{"class_a", b.ClassA, "class_b", b.ClassB, "deleted", b.Delete, "not_billed", b.Free}
}
