package gcs

import (
	"context"
	"fmt"
	"hash/crc32"

	"cloud.google.com/go/storage"

	"blobpglite/core/store"
)

// Put implements store.Store.
//
// A conditional Put that the service did not plainly accept is resolved by looking at the object:
//
//	what is seen                     IfAbsent          IfGen(g)
//	an object with our write id      success           success
//	another writer's object          ErrConflict       ErrConflict; ErrUnknown if one of our requests got no
//	                                                   answer: it may have been applied, and replaced since
//	the object of generation g       -                 not applied so far: send it again
//	nothing                          send it again     ErrConflict, or ErrUnknown as above
//	no answer                        send it again     send it again
//
// After a refusal (rulings: refused, denied, credentials) nothing was changed, and the object is not read.
//
// store.CreateOnce answers the same question for its callers, and cannot be used here: by the contract a Put is
// decided by the write id, which the service keeps with the object, so no body is fetched.
//
// When the attempts or the time run out, the error is ErrUnknown if a request got no answer (or a refusal whose
// reason could not be seen), otherwise what the service said. If the caller repeats the Put after ErrUnknown, it is
// decided afresh: an ErrConflict then only says that the repetition was not applied.
func (s *Store) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	if err := s.fits(key, store.CheckPut(key, body, writeID, cond)); err != nil {
		return 0, &store.OpError{Op: "put", Key: s.url(key), Err: err}
	}
	p := &put{s: s, key: key, body: body, writeID: writeID, cond: cond}
	gen, err := p.run(ctx)
	if err != nil {
		return 0, err
	}
	s.bucketSeen.Store(true)
	return gen, nil
}

// CopyFrom implements store.Copier, from any prefix of the same bucket. The service copies the bytes. A request that
// got no answer, or found the name taken, is resolved as for Put. The source's metadata is not copied.
func (s *Store) CopyFrom(ctx context.Context, key string, from store.Store, source, writeID string) (store.Attrs, error) {
	from, source = store.Unviewed(from, source)
	other, ok := from.(*Store)
	if !ok || other.o.Bucket != s.o.Bucket || other.o.Endpoint != s.o.Endpoint {
		return store.Attrs{}, &store.OpError{Op: "copy", Key: s.url(key), Err: store.ErrElsewhere}
	}
	err := s.fits(key, store.CheckPut(key, nil, writeID, store.IfAbsent()))
	if err == nil {
		err = other.fits(source, store.CheckKey(source))
	}
	if err != nil {
		return store.Attrs{}, &store.OpError{Op: "copy", Key: s.url(key), Err: err}
	}
	p := &put{s: s, key: key, source: other.prefix + source, writeID: writeID, cond: store.IfAbsent()}
	gen, err := p.run(ctx)
	if err != nil {
		return store.Attrs{}, err
	}
	s.bucketSeen.Store(true)
	return store.Attrs{Key: key, Gen: gen, WriteID: writeID, Size: p.size}, nil
}

// put is one logical write and what is known about it.
type put struct {
	s       *Store
	key     string
	body    []byte
	source  string // of a copy, its full name; empty: the body is sent
	size    int64  // of what was copied
	writeID string
	cond    store.Cond

	unanswered bool // a request may have been applied, or may still be
	unseen     bool // the object could not be read after the last refusal
	last       answer
	lastErr    error
}

func (p *put) run(ctx context.Context) (store.Gen, error) {
	_, conditional := p.cond.Precondition()
	for n := range p.s.o.Attempts {
		if err := p.s.pauseAfter(ctx, n, p.lastErr); err != nil {
			return 0, p.failed(ctx, interrupted(err, p.lastErr))
		}
		gen, err := p.send(ctx)
		p.unseen = false
		switch p.last {
		case answerOK:
			return gen, nil
		case answerTransient:
			p.unanswered = true
		case answerThrottled, answerPrecondition:
		default:
			if !p.s.again(p.last, n) {
				return 0, p.failed(ctx, err)
			}
		}
		if err := ctx.Err(); err != nil {
			return 0, p.failed(ctx, interrupted(err, p.lastErr))
		}
		if !conditional || p.last >= answerRefused || p.last == answerNoBucket { // nothing was decided
			continue
		}
		if gen, done, err := p.look(ctx); done {
			return gen, err
		}
	}
	return 0, p.failed(ctx, fmt.Errorf("%d attempts, the last: %w", p.s.o.Attempts, p.lastErr))
}

// send makes the writing request.
func (p *put) send(ctx context.Context) (store.Gen, error) {
	if p.source != "" {
		return p.copy(ctx)
	}
	return p.upload(ctx)
}

// copy makes the service copy the object. Within a bucket that is one request, whatever the size.
func (p *put) copy(ctx context.Context) (gen store.Gen, err error) {
	p.last, p.lastErr = p.s.attempt(ctx, kindCopy, func(ctx context.Context, h *handle) error {
		c := p.s.object(h, p.key).If(storage.Conditions{DoesNotExist: true}).CopierFrom(h.bucket.Object(p.source))
		c.ContentType = contentType
		c.Metadata = map[string]string{writeIDField: p.writeID}
		attrs, err := c.Run(ctx)
		if err != nil {
			return err
		}
		gen, p.size = store.Gen(attrs.Generation), attrs.Size
		return nil
	})
	return gen, p.lastErr
}

// contentType is that of all objects.
const contentType = "application/octet-stream"

// upload sends the object in one request, which the SDK does not repeat.
func (p *put) upload(ctx context.Context) (gen store.Gen, err error) {
	p.last, p.lastErr = p.s.attempt(ctx, p.kind(), func(ctx context.Context, h *handle) error {
		object := p.s.object(h, p.key)
		if g, conditional := p.cond.Precondition(); conditional {
			object = object.If(storage.Conditions{GenerationMatch: int64(g), DoesNotExist: g == 0})
		}
		w := object.NewWriter(ctx)
		w.ChunkSize = 0 // a single request
		w.ContentType = contentType
		w.CRC32C = crc32.Checksum(p.body, crc32.MakeTable(crc32.Castagnoli))
		w.SendCRC32C = true // a truncated upload is refused
		if p.writeID != "" {
			w.Metadata = map[string]string{writeIDField: p.writeID}
		}
		_, writeErr := w.Write(p.body)
		if err := w.Close(); err != nil { // says why the write failed
			return err
		}
		if writeErr != nil {
			return writeErr
		}
		gen = store.Gen(w.Attrs().Generation)
		return nil
	})
	return gen, p.lastErr
}

func (p *put) kind() kind {
	switch g, conditional := p.cond.Precondition(); {
	case p.source != "":
		return kindCopy
	case !conditional:
		return kindPut
	case g == 0:
		return kindCreate
	}
	return kindSwap
}

// look reads back what is stored under the key and decides, if it can. It makes one request: the caller's loop
// repeats it.
func (p *put) look(ctx context.Context) (gen store.Gen, done bool, err error) {
	var attrs store.Attrs
	a, err := p.s.attempt(ctx, kindRead, func(ctx context.Context, h *handle) (err error) {
		attrs, err = p.s.stat(ctx, h, p.key)
		return err
	})
	if a == answerMissing {
		attrs, a = store.Attrs{}, answerOK
	}
	wanted, _ := p.cond.Precondition()
	switch {
	case a != answerOK:
		p.unseen = true
		p.lastErr = fmt.Errorf("%w; looking at the object failed: %w", p.lastErr, err)
		return 0, false, nil
	case attrs.Gen != 0 && attrs.WriteID == p.writeID:
		p.size = attrs.Size
		return attrs.Gen, true, nil
	case attrs.Gen == wanted:
		return 0, false, nil
	case wanted != 0 && p.unanswered:
		return 0, true, p.failed(ctx, fmt.Errorf("the object has been replaced in the meantime (it is at generation %d, not %d), by this write "+
			"and then another one, or by another one alone: %w", attrs.Gen, wanted, p.lastErr))
	default:
		return 0, true, &store.OpError{Op: p.op(), Key: p.s.url(p.key), Gen: attrs.Gen, Err: store.ErrConflict}
	}
}

// failed returns the error of a write whose attempts or time ran out.
func (p *put) failed(ctx context.Context, err error) error {
	unknown := p.unanswered || p.unseen || p.last == answerPrecondition
	return p.s.failed(ctx, p.op(), p.kind(), p.key, p.last, err, unknown)
}

func (p *put) op() string {
	if p.source != "" {
		return "copy"
	}
	return "put"
}

// Delete implements store.Store. A delete whose reply was lost is sent again, and then deletes whatever has the key:
// delete only names that are never written again.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.fits(key, store.CheckKey(key)); err != nil {
		return &store.OpError{Op: "delete", Key: s.url(key), Err: err}
	}
	unanswered := false
	a, err := s.repeat(ctx, kindDelete, func(ctx context.Context, h *handle) error {
		err := s.object(h, key).Delete(ctx)
		unanswered = unanswered || classify(kindDelete, err) == answerTransient
		return err
	})
	if a == answerOK || a == answerMissing {
		return nil
	}
	return s.failed(ctx, "delete", kindDelete, key, a, err, unanswered)
}
