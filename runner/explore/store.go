package explore

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// call is a thread's request to the store, and the answer.
type call struct {
	verb    verb
	key     string // of a list: its prefix
	after   string
	body    []byte
	id      string
	cond    store.Cond
	object  store.Object
	gen     store.Gen
	listed  []store.Attrs
	err     error
	resting bool // its process promised to ask for nothing
}

type verb uint8

const (
	verbGet verb = iota
	verbList
	verbPut
	verbDelete
)

func (v verb) String() string { return [...]string{"get", "list", "put", "delete"}[v] }

func (c *call) writes() bool { return c.verb >= verbPut }

// text names the request: "put wal/3", numbers without their zeros.
func (c *call) text() string {
	s := c.verb.String() + " " + short(c.key)
	if c.after != "" {
		s += " after " + short(c.after)
	}
	return s
}

// short drops the zeros that make keys sort.
func short(key string) string {
	parts := strings.FieldsFunc(key, func(r rune) bool { return r == '/' || r == '-' })
	for _, p := range parts {
		if digits := strings.TrimLeft(p, "0"); len(p) == 20 && digits != "" {
			key = strings.Replace(key, p, digits, 1)
		} else if len(p) == 20 {
			key = strings.Replace(key, p, "0", 1)
		}
	}
	return key
}

// unwound is the panic that takes down a dead process's thread, through the code it is in.
type unwound struct{}

// port is a thread's way to the bucket. Every call waits until it is granted.
type port struct{ t *thread }

var _ store.Store = port{}

func (p port) ask(c *call) {
	c.resting = p.t.proc.resting
	if !p.t.yield(c) {
		panic(unwound{})
	}
}

func (p port) Get(_ context.Context, key string) (store.Object, error) {
	c := &call{verb: verbGet, key: key}
	p.ask(c)
	return c.object, c.err
}

func (p port) Put(_ context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	c := &call{verb: verbPut, key: key, body: body, id: id, cond: cond}
	p.ask(c)
	return c.gen, c.err
}

func (p port) Delete(_ context.Context, key string) error {
	c := &call{verb: verbDelete, key: key}
	p.ask(c)
	return c.err
}

func (p port) List(_ context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		c := &call{verb: verbList, key: prefix, after: after}
		p.ask(c)
		for _, a := range c.listed {
			if !yield(a, nil) {
				return
			}
		}
		if c.err != nil {
			yield(store.Attrs{}, c.err)
		}
	}
}

// direct is the way of the fresh process at the end: nothing waits in it.
type direct struct {
	w    *world
	proc *process
}

var _ store.Store = direct{}

func (d direct) do(c *call) *call {
	d.w.apply(c, d.proc)
	return c
}

func (d direct) Get(_ context.Context, key string) (store.Object, error) {
	c := d.do(&call{verb: verbGet, key: key})
	return c.object, c.err
}

func (d direct) Put(_ context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	c := d.do(&call{verb: verbPut, key: key, body: body, id: id, cond: cond})
	return c.gen, c.err
}

func (d direct) Delete(_ context.Context, key string) error {
	return d.do(&call{verb: verbDelete, key: key}).err
}

func (d direct) List(_ context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		c := d.do(&call{verb: verbList, key: prefix, after: after})
		for _, a := range c.listed {
			if !yield(a, nil) {
				return
			}
		}
		if c.err != nil {
			yield(store.Attrs{}, c.err)
		}
	}
}

// skipping is a process's clock: it moves when the process sleeps.
type skipping struct{ *clock.Virtual }

func newSkipping(ahead time.Duration) skipping {
	return skipping{clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(ahead))}
}

func (s skipping) Sleep(ctx context.Context, d time.Duration) error {
	s.Advance(max(d, 0))
	return ctx.Err()
}

func failed(c *call, err error) error {
	return &store.OpError{Op: c.verb.String(), Key: c.key, Err: fmt.Errorf("%w: by the schedule", err)}
}
