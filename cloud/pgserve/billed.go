package main

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/store/gcs"
)

// billedClasses returns the classes in which a bucket's requests are billed, and how to read each one's count.
func billedClasses() map[string]func(gcs.Billed) int64 {
	return map[string]func(gcs.Billed) int64{
		"a": func(b gcs.Billed) int64 { return b.ClassA }, "b": func(b gcs.Billed) int64 { return b.ClassB },
		"delete": func(b gcs.Billed) int64 { return b.Delete }, "not_billed": func(b gcs.Billed) int64 { return b.Free },
	}
}

// registerBilled registers metrics of the requests sent to the bucket, retries included. Without a bucket it does nothing.
func (c *config) registerBilled(registry prometheus.Registerer) error {
	if c.billed == nil {
		return nil
	}
	var errs []error
	for class, of := range billedClasses() {
		errs = append(errs, registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "blobpglite_store_requests_total", Help: "requests to the bucket as they are billed, retries included: a is put and list, b is get; not_billed: answered with an error",
			ConstLabels: prometheus.Labels{"class": class},
		}, func() float64 { return float64(of(c.billed())) })))
	}
	return errors.Join(errs...)
}

// billedAttrs returns the counts for the last line of the log: an instance that has ended has no metrics to read.
func (c *config) billedAttrs() []any {
	if c.billed == nil {
		return nil
	}
	b := c.billed()
	return []any{"class_a", b.ClassA, "class_b", b.ClassB, "deleted", b.Delete, "not_billed", b.Free}
}
