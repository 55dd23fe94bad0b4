package serverless

import (
	"context"
	"net/http"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/check"
	"blobpglite/runner/cloudrun"
)

// host is where pgserve runs as a service: the Cloud Run emulator, or Cloud Run. Verbs say what happens to the service; a host makes it
// happen, and reports what it knows about that.
type host interface {
	// begin makes a revision from the run's current settings (its flags and its prefix) the service. No instance exists.
	begin(ctx context.Context, o platform.Options) error
	// end makes sure that no instance exists. failed: what was done in between went wrong.
	end(ctx context.Context, failed bool) error

	// address is the service's; prepare turns a request into one that it accepts.
	address() string
	prepare(r *http.Request)

	// Replace makes a revision with all traffic, and returns when it serves. The name is unique since begin.
	Replace(ctx context.Context, name string) error
	// beside makes a revision without traffic, at an address of its own, until done.
	beside(ctx context.Context, name string) (url string, done func(context.Context) error, err error)
	// current is the serving instance; retired waits until it has gone.
	current() (instanceOf, error)
	retired(ctx context.Context, i instanceOf) (retirement, error)
	// sleep waits until the platform has let the idle instance go; leave does not wait for it to be idle.
	sleep(ctx context.Context) (retirement, error)
	Leave(ctx context.Context) (retirement, error)

	// memory is the most that instances had resident, 0 if that is not known, and whether one exceeded its limit.
	memory() (peak int64, passed bool)
	// quiet waits for d, and until nothing that a request has begun is under way any more.
	quiet(ctx context.Context, d time.Duration) error
	// asked is the number of requests to the bucket; records the number of data records in the log.
	asked(ctx context.Context) (int64, error)
	records(ctx context.Context) (int, error)
	// changes are those of the bucket below the prefix, as far as the host knows.
	changes(ctx context.Context) ([]check.Change, error)
}

// instanceOf is an instance of a revision: retired waits for it.
type instanceOf struct {
	instance int    // of the emulator
	revision string // of Cloud Run
}

// retirement is the end of an instance.
type retirement struct {
	told, ended time.Time // SIGTERM, and the end; zero: not known
	how         string    // endedWell, or what was heard instead
}

// endedWell is how an instance ends that did as told.
const endedWell = cloudrun.HowWell

// took is how long it took to end; 0 if it was never told to.
func (r retirement) took() time.Duration {
	if r.told.IsZero() {
		return 0
	}
	return r.ended.Sub(r.told)
}
