package gcsfront

import (
	"fmt"
	"net/http"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"blobpglite/core/clock"
)

// Change is a request that tried to change something, and its outcome.
type Change struct {
	At      time.Time
	Op      Op
	Key     string
	Status  int    // 2xx: the change was made. The client may never learn of it
	Bytes   int64  // of an upload
	WriteID string // of an upload, from its metadata
}

// Done says whether the change was made.
func (c Change) Done() bool { return c.Status < http.StatusMultipleChoices }

// tell reports a change. f.mu is held.
func (f *Front) tell(q *request, r *reply) {
	if f.observe != nil {
		f.observe(Change{At: clock.System().Now(), Op: q.op, Key: q.key, Status: r.status, Bytes: q.contentBytes, WriteID: q.writeID})
	}
}

// PowerCut drops every request that has arrived and was not yet carried out: none of them ever will be. Without it a request continues
// after its client has died, like one on its way to the service.
func (f *Front) PowerCut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cuts.Add(1)
}

// powered aborts a request that arrived before a power cut. f.mu is held, at least for reading.
func (f *Front) powered(cuts int64) {
	if f.cuts.Load() != cuts {
		panic(http.ErrAbortHandler) // closes the connection; the client has gone
	}
}

// Mute, while on, loses every reply: requests are carried out, but clients get no answer.
func (f *Front) Mute(on bool) { f.muted.Store(on) }

// Muted is how many replies Mute has lost.
func (f *Front) Muted() int64 { return f.unheard.Load() }

// Stored is an object held by the emulator.
type Stored struct {
	Bucket, Key string
	Bytes       int64
}

// Stored lists what the emulator holds, by bucket and key. This is not a request: nothing counts, delays or fails it, even after Serve has
// ended.
func (f *Front) Stored() (all []Stored, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, bucket := range f.buckets {
		list, err := f.emulator.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{}) // all of it, without a limit
		if err != nil {
			return nil, fmt.Errorf("list what the emulator holds: %w", err)
		}
		for _, o := range list.Objects {
			all = append(all, Stored{bucket, o.Name, o.Size})
		}
	}
	return all, nil
}
