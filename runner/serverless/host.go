package serverless

import (
	"context"
	"net/http"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/check"
	"blobpglite/runner/cloudrun"
)

// host is where pgserve runs as a service: the Cloud Run emulator, or Cloud Run. Verbs say what happens to the service; a host makes that
// happen, and tells of it what it knows.
type host interface {
	// begin makes a revision of what the run says now (its flags and its prefix) the service. No instance exists.
	begin(ctx context.Context, o platform.Options) error
	// end makes that no instance exists. failed: what was done in between went wrong.
	end(ctx context.Context, failed bool) error

	// address is the service's; prepare makes a request one that it takes.
	address() string
	prepare(r *http.Request)

	// deploy makes a revision with all traffic, and returns when it serves. The name is unique below begin.
	Replace(ctx context.Context, name string) error
	// beside makes a revision without traffic, at an address of its own, until done.
	beside(ctx context.Context, name string) (url string, done func(context.Context) error, err error)
	// current is the instance that serves; retired waits until it has gone.
	current() (instanceOf, error)
	retired(ctx context.Context, i instanceOf) (retirement, error)
	// sleep waits until the platform has let the idle instance go; leave does not wait for it to be idle.
	sleep(ctx context.Context) (retirement, error)
	Leave(ctx context.Context) (retirement, error)

	// memory is the most that instances had resident, 0 if that is not known, and whether one passed its limit.
	memory() (peak int64, passed bool)
	// quiet waits so long, and until nothing is under way any more that a request has begun.
	quiet(ctx context.Context, d time.Duration) error
	// asked is how often the bucket was asked for anything; records how many records of data are in the log.
	asked(ctx context.Context) (int64, error)
	records(ctx context.Context) (int, error)
	// changes are those of the bucket below the prefix, as far as the host knows.
	changes(ctx context.Context) ([]check.Change, error)
}

// instanceOf is an instance of a revision: what retired waits for.
type instanceOf struct {
	instance int    // of the emulator
	revision string // of Cloud Run
}

// retirement is the end of an instance.
type retirement struct {
	told, ended time.Time // SIGTERM, and the end; zero: not known
	how         string    // endedWell, or what was heard instead
}

// endedWell is how an instance ends that did what it was told.
const endedWell = cloudrun.HowWell

// took is how long it took to end; 0 if it was never told.
func (r retirement) took() time.Duration {
	if r.told.IsZero() {
		return 0
	}
	return r.ended.Sub(r.told)
}
