package base

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// hollowed is a database of four files, each in a segment of its own, opened with little of it in memory; most of all but the last is
// rewritten, so that three segments need cleaning, and what is left of them is away.
func hollowed(t *testing.T, st *mem.Store) (c *chain, segments []string) {
	t.Helper()
	c = &chain{t: t, st: st, tree: largeTree(t, 4<<20), o: WriteOptions{FrameBytes: 4 * memfs.ChunkSize, SegmentBytes: 512 << 10}}
	c.next()
	p := pagesOf(t, st, PagesOptions{})
	c.tree, c.last, c.mark, _ = opened(t, p, c.last.Key())
	c.o.Pages = p
	use := c.last.index
	for i := range use.segments {
		segments = append(segments, use.segments[i].key())
	}
	page := slices.Repeat([]byte{7}, memfs.ChunkSize)
	for i := range use.entries {
		e := &use.entries[i]
		for _, r := range e.runs {
			use.split(r.at, r.count, func(segment int, at, n int64) {
				if segment >= 3 {
					return
				}
				f, err := c.tree.Open("/"+e.path, os.O_RDWR, 0)
				check(t, err)
				first := r.first + at - r.at
				for chunk := first; chunk < first+n; chunk++ {
					if (at+chunk-first)%4 != 0 {
						_, err := f.WriteAt(page, chunk*memfs.ChunkSize)
						check(t, err)
					}
				}
				check(t, f.Close())
			})
		}
	}
	return c, segments
}

// TestDamageIsNotCleaned: a damaged or missing segment that needs cleaning stays where it is; the layer is taken, the others are cleaned,
// it is reported once, and reading it is an error until it is restored.
func TestDamageIsNotCleaned(t *testing.T) {
	for _, what := range []string{"damaged", "cut", "gone"} {
		t.Run(what, func(t *testing.T) {
			st := mem.New(mem.Options{})
			c, segments := hollowed(t, st)
			if len(segments) < 4 {
				t.Fatalf("%d segments", len(segments))
			}
			bad, good := segments[1], objects(t, st)
			body := []byte(good[bad])
			switch check(t, st.Delete(t.Context(), bad)); what {
			case "damaged":
				body[len(body)/2] ^= 8
			case "cut":
				body = body[:len(body)/2]
			}
			put := func(body string) {
				_, err := st.Put(t.Context(), bad, []byte(body), "", store.Always())
				check(t, err)
			}
			if what != "gone" {
				put(string(body))
			}
			want := map[string]bool{bad: true}
			for n := range 3 {
				mark := c.tree.Mark()
				var told []string
				c.o.Unreadable = func(key string, err error) { told = append(told, key+": "+err.Error()) }
				c.next()
				check(t, c.settle(mark))
				if len(told) > 1 || (len(told) > 0) != (n == 0) || n == 0 && !strings.HasPrefix(told[0], bad) {
					t.Errorf("layer %d: cannot be read: %q", n, told)
				}
				names := c.last.Segments()
				for i, s := range segments[:3] {
					if slices.Contains(names, s) != want[s] {
						t.Errorf("layer %d: segment %d is named: %v", n, i, !want[s])
					}
				}
				check(t, c.tree.WriteFile("/base/5/1", slices.Repeat([]byte{byte(n)}, 1000), 0o600))
			}
			c.forget()
			if what == "gone" {
				put("")
			}
			if _, _, err := Read(t.Context(), st, c.last.Key(), memfs.New(memfs.Options{}), ReadOptions{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), bad) {
				t.Errorf("read as a whole: %v", err)
			}
			put(good[bad])
			whole(t, c.o.Pages, c.tree)
			c.next()
			if got, want := contents(t, restored(t, st, c.last.Key())), contents(t, c.tree); got != want {
				t.Errorf("restored\n%s\nwant\n%s", got, want)
			}
			if !slices.Contains(c.last.Segments(), bad) {
				t.Error("it is cleaned at once, though it could not be read just now")
			}
			c.o.Pages.o.Clock = hourLater{c.o.Pages.o.Clock}
			c.o.Unreadable = func(key string, err error) { t.Errorf("restored, and an hour later: %s: %v", key, err) }
			if c.next(); slices.Contains(c.last.Segments(), bad) {
				t.Error("it is not cleaned an hour later")
			}
			whole(t, c.o.Pages, c.tree)
		})
	}
}

// hourLater is a clock set forward.
type hourLater struct{ clock.Clock }

func (h hourLater) Monotonic() time.Duration { return h.Clock.Monotonic() + lostFor }

// TestDamageThatIsWritten: a layer that needs an unreadable page fails, and says which object is damaged.
func TestDamageThatIsWritten(t *testing.T) {
	st := mem.New(mem.Options{})
	c, segments := hollowed(t, st)
	check(t, st.Delete(t.Context(), segments[1]))
	_, _, err := Write(t.Context(), st, Key(9, 9), c.tree.Clone(), WriteOptions{Pages: c.o.Pages})
	if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), segments[1]) {
		t.Errorf("written with nothing shared: %v", err)
	}
}

// denied is a store whose segments may not be read.
type denied struct{ *mem.Store }

func (d denied) GetRange(_ context.Context, key string, _, _ int64) (store.Object, error) {
	return store.Object{}, &store.OpError{Op: "get", Key: key, Err: store.ErrDenied}
}

// TestOutageIsNoDamage: while the bucket cannot be read, a layer that has to clean fails, and the next one cleans.
func TestOutageIsNoDamage(t *testing.T) {
	st := mem.New(mem.Options{})
	c, segments := hollowed(t, st)
	pages := c.o.Pages
	out := pagesOf(t, denied{st}, PagesOptions{})
	out.add(c.last.index)
	c.seq++
	_, _, err := Write(t.Context(), st, Key(7, c.seq), c.tree.Clone(), WriteOptions{
		FrameBytes: c.o.FrameBytes, SegmentBytes: c.o.SegmentBytes, Share: c.last, Since: c.mark, Pages: out,
	})
	if !errors.Is(err, store.ErrDenied) {
		t.Fatalf("while it is out: %v", err)
	}
	c.o.Pages, c.o.Unreadable = pages, func(key string, err error) { t.Errorf("%s: %v", key, err) }
	if c.next(); slices.Contains(c.last.Segments(), segments[1]) {
		t.Errorf("afterwards segment %s is not cleaned", segments[1])
	}
}
