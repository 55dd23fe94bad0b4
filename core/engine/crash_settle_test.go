package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"blobpglite/core/point"
	"blobpglite/core/store/mem"
)

// TestCrashBehindALayer: PostgreSQL crashes between a layer's publication and the moment at which the files are told where they are now. They
// are where the layers before have them, so nothing is collected, and nothing that is away is lost.
func TestCrashBehindALayer(t *testing.T) {
	st := mem.New(mem.Options{})
	large(t, st)
	crashed, goOn := make(chan struct{}), make(chan struct{})
	var kill atomic.Bool
	var e *Engine
	e = open(t, st, inLog, cached, func(o *Options) {
		o.Hook = func(_ context.Context, p point.Point) error {
			switch {
			case p == point.ProcessBeforeRestart:
				close(crashed)
				<-goOn
			case p == point.ManifestAfterCAS && kill.CompareAndSwap(true, false):
				c, err := e.server.now()
				if err != nil {
					return err
				}
				c.Kill()
				<-crashed
			}
			return nil
		}
	})
	// Most of each segment is written again, so that the layer cleans them, and a collection behind it would delete them.
	must(t, e, "UPDATE t SET n = n + 1 WHERE id % 9 > 0")
	before := 0
	for key := range objects(t, st) {
		if strings.HasPrefix(key, "page/") {
			before++
		}
	}
	kill.Store(true)
	err := e.Compact(t.Context())
	if !errors.Is(err, ErrCrashed) || before == 0 {
		t.Errorf("the layer: %v", err)
	}
	close(goOn)
	if got := must(t, e, "SELECT count(*) || ' ' || sum(length(pad)) FROM t"); got != "100000 76800000" {
		t.Errorf("behind the crash: %s", got)
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := must(t, e, "SELECT count(*) || ' ' || sum(length(pad)) FROM t"); got != "100000 76800000" {
		t.Errorf("behind another layer: %s", got)
	}
}
