package gcsfront

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// maxClockStep bounds the wait for the wall clock, from which the emulator makes generations, to pass the last one.
const maxClockStep = time.Second

// apply performs a request on the emulator: mutations one at a time, with the conditions that the emulator ignores. A request that arrived
// before a power cut is dropped.
func (f *Front) apply(r *http.Request, q *request, body []byte, cuts int64) *reply {
	if !q.op.mutates() {
		f.mu.RLock()
		defer f.mu.RUnlock()
		f.powered(cuts)
		return f.forward(r, q, body)
	}
	if !f.limiter.Allow(q.bucket + "/" + q.key) {
		return failure(http.StatusTooManyRequests, "object %q is written more often than its name allows", q.key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.powered(cuts)
	if problem := f.nextGeneration(); problem != nil {
		return problem
	}
	reply := f.forward(r, q, body)
	f.lastMicros = clock.System().Now().UnixMicro()
	f.tell(q, reply)
	return reply
}

// nextGeneration waits until a new generation will be above all earlier ones: the emulator takes them from the machine's wall clock, in
// microseconds. mu is held.
func (f *Front) nextGeneration() *reply {
	machine := clock.System()
	for machine.Now().UnixMicro() <= f.lastMicros {
		if machine.Monotonic() > maxClockStep || machine.Sleep(f.life, time.Microsecond) != nil {
			return failure(http.StatusServiceUnavailable, "the machine's clock was set back: generations would not rise")
		}
	}
	return nil
}

// forward checks conditions and passes the request on. mu is held, at least for reading.
func (f *Front) forward(r *http.Request, q *request, body []byte) *reply {
	if problem := f.checkConditions(q); problem != nil {
		return problem
	}
	target := *r.URL
	if q.op == OpList {
		query := r.URL.Query()
		wanted, err := strconv.Atoi(query.Get("maxResults"))
		if err != nil || wanted <= 0 || wanted > store.PageSize {
			query.Set("maxResults", strconv.Itoa(store.PageSize))
		}
		target.RawQuery = query.Encode()
	}
	inner := r.Clone(context.WithoutCancel(r.Context())) // a request that has arrived is carried out
	inner.URL = &target
	inner.Body = http.NoBody
	if len(body) > 0 {
		inner.Body = readCloser{bytes.NewReader(body)}
	}
	inner.ContentLength = int64(len(body))
	inner.TransferEncoding = nil
	rec := &recorder{header: http.Header{}}
	f.handler.ServeHTTP(rec, inner)
	if q.op == OpDelete && rec.status == http.StatusOK {
		return &reply{status: http.StatusNoContent, header: http.Header{}}
	}
	return &reply{status: rec.status, header: rec.header, body: rec.body.Bytes()}
}

// checkConditions answers a request whose conditions do not hold, for the verbs where the emulator would not look. An absent object is left
// to the emulator: 404 takes precedence over any condition.
func (f *Front) checkConditions(q *request) *reply {
	switch q.op {
	case OpGet, OpStat:
		if live := f.generation(q.bucket, q.key); live != 0 {
			return check(live, q.conditions.match, q.conditions.notMatch, http.StatusNotModified)
		}
	case OpDelete, OpPatch:
		if live := f.generation(q.bucket, q.key); live != 0 {
			return check(live, q.conditions.match, q.conditions.notMatch, http.StatusPreconditionFailed)
		}
	case OpCopy:
		if live := f.generation(q.sourceBucket, q.sourceKey); live != 0 {
			if problem := check(live, q.conditions.sourceMatch, q.conditions.sourceNotMatch, http.StatusPreconditionFailed); problem != nil {
				return problem
			}
		}
		return f.checkDestination(q)
	case OpCompose:
		for _, source := range q.sources {
			if problem := f.checkComposeSource(q, source); problem != nil {
				return problem
			}
		}
		return f.checkDestination(q)
	}
	return nil
}

func (f *Front) checkDestination(q *request) *reply {
	if q.conditions.match == nil && q.conditions.notMatch == nil {
		return nil
	}
	return check(f.generation(q.bucket, q.key), q.conditions.match, q.conditions.notMatch, http.StatusPreconditionFailed)
}

func (f *Front) checkComposeSource(q *request, source composeSource) *reply {
	live := f.generation(q.bucket, source.Name)
	generation, err := number(source.Generation)
	if err != nil {
		return failure(http.StatusBadRequest, "compose: source %q: %v", source.Name, err)
	}
	match, err := number(source.ObjectPreconditions.IfGenerationMatch)
	if err != nil {
		return failure(http.StatusBadRequest, "compose: source %q: %v", source.Name, err)
	}
	if live == 0 || (generation != nil && *generation != live) {
		return failure(http.StatusNotFound, "compose: no source object %q", source.Name)
	}
	return check(live, match, nil, http.StatusPreconditionFailed)
}

func number(n json.Number) (*int64, error) {
	if n == "" {
		return nil, nil
	}
	v, err := n.Int64()
	if err != nil {
		return nil, fmt.Errorf("%q is not a generation", n)
	}
	return &v, nil
}

// check compares a live generation (0: absent) with the conditions.
func check(live int64, match, notMatch *int64, notMatchStatus int) *reply {
	if match != nil && *match != live {
		return failure(http.StatusPreconditionFailed, "the generation is %d, the condition wants %d", live, *match)
	}
	if notMatch != nil && *notMatch == live {
		return failure(notMatchStatus, "the generation is %d, the condition wants another", live)
	}
	return nil
}

// generation returns the live generation of an object; 0: absent.
func (f *Front) generation(bucket, key string) int64 {
	o, err := f.emulator.GetObjectStreaming(bucket, key)
	if err != nil {
		return 0
	}
	defer o.Close()
	return o.Generation
}
