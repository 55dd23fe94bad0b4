package file_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/file"
	"blobpglite/faults/diskfault"
)

// version is what a key may hold; gen 0: nothing.
type version struct {
	body string
	gen  store.Gen
}

// model is what the store must hold: for each key the acknowledged version, and the possible results of a write without an answer.
type model struct {
	sure  map[string]version
	maybe map[string][]version
	last  map[string]store.Gen // highest generation seen
}

func (m *model) saw(key string, v version) { m.last[key] = max(m.last[key], v.gen) }

// step does one operation.
func (m *model) step(t *testing.T, st *file.Store, random *rand.Rand, n int) {
	t.Helper()
	key := fmt.Sprintf("wal/%d", random.IntN(3))
	v := version{body: fmt.Sprintf("version %d %0*d", n, random.IntN(1500), 0)}
	current := m.sure[key]
	var err error
	switch what := random.IntN(5); {
	case what == 0:
		v.body = ""
		err = st.Delete(t.Context(), key)
	case what == 1:
		v.gen, err = st.Put(t.Context(), key, []byte(v.body), "", store.Always())
	case current.gen == 0:
		v.gen, err = st.Put(t.Context(), key, []byte(v.body), store.NewWriteID(), store.IfAbsent())
	default:
		v.gen, err = st.Put(t.Context(), key, []byte(v.body), store.NewWriteID(), store.IfGen(current.gen))
	}
	switch {
	case err != nil:
		m.maybe[key] = append(m.maybe[key], v)
	default:
		if v.gen != 0 && v.gen <= m.last[key] {
			t.Errorf("%s: generation %d after %d", key, v.gen, m.last[key])
		}
		m.sure[key] = v
		m.saw(key, v)
	}
}

// check reads everything, and takes what it finds as certain from then on.
func (m *model) check(t *testing.T, st *file.Store) {
	t.Helper()
	for n := range 3 {
		key := fmt.Sprintf("wal/%d", n)
		o, err := st.Get(t.Context(), key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", key, err)
			continue
		}
		got := version{string(o.Body), o.Gen}
		ok := got == m.sure[key]
		for _, v := range m.maybe[key] {
			ok = ok || got.body == v.body && (v.gen == 0) == (v.body != "" || got.gen == 0)
		}
		if !ok {
			t.Errorf("%s holds generation %d, %.20q; acknowledged is %d, %.20q, and %d writes have no answer", key, got.gen, got.body,
				m.sure[key].gen, m.sure[key].body, len(m.maybe[key]))
		}
		m.sure[key] = got
		m.saw(key, got)
	}
	m.maybe = map[string][]version{}
}

func openOn(t *testing.T, p *diskfault.Process) (*file.Store, error) {
	return file.Open(t.Context(), file.Options{Dir: "/db", Create: true, Disk: p})
}

// TestPowerCuts cuts the power at every step of short lives, one after another on the same disk: what was acknowledged or read is there,
// the rest is there as a whole or not at all, and no generation is used twice.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	const lives, writes = 6, 4
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 2))
		d := diskfault.New(seed)
		m := &model{sure: map[string]version{}, maybe: map[string][]version{}, last: map[string]store.Gen{}}
		for life := range lives {
			d.CutAt(1 + random.IntN(160))
			if st, err := openOn(t, d.Process()); err == nil {
				m.alive(t, st, random, life*writes, writes)
			} else if !errors.Is(err, diskfault.ErrGone) {
				t.Errorf("seed %d, life %d: %v", seed, life, err)
			}
			d = d.PowerCut()
		}
		st, err := openOn(t, d.Process())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		m.check(t, st)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// alive writes until the power is cut.
func (m *model) alive(t *testing.T, st *file.Store, random *rand.Rand, from, writes int) {
	t.Helper()
	if _, err := st.Get(t.Context(), "wal/0"); errors.Is(err, diskfault.ErrGone) {
		return
	}
	for n := range writes {
		m.step(t, st, random, from+n)
		for _, unanswered := range m.maybe {
			if len(unanswered) > 0 {
				return // the power is gone
			}
		}
	}
}

// TestDeathThenPowerCut: a process dies at any step of a write; another one sees the outcome, and then the power is cut: what it saw
// remains.
func TestDeathThenPowerCut(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"create", "swap", "delete"} {
		for seed := range uint64(30) {
			for at := 1; ; at++ {
				if !deathAt(t, what, seed, at) {
					break
				}
			}
			if t.Failed() {
				t.Fatalf("%s, seed %d", what, seed)
			}
		}
	}
}

// deathAt runs one case, and reports whether the write was cut short.
func deathAt(t *testing.T, what string, seed uint64, at int) bool {
	t.Helper()
	d := diskfault.New(seed)
	victim := d.Process()
	first, err := openOn(t, victim)
	if err != nil {
		t.Fatal(err)
	}
	second, err := openOn(t, d.Process())
	if err != nil {
		t.Fatal(err)
	}
	var gen store.Gen
	if what != "create" {
		if gen, err = first.Put(t.Context(), "k", []byte("old"), store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	victim.KillAt(at)
	switch what {
	case "create":
		_, err = first.Put(t.Context(), "k", []byte("new"), store.NewWriteID(), store.IfAbsent())
	case "swap":
		_, err = first.Put(t.Context(), "k", []byte("new"), store.NewWriteID(), store.IfGen(gen))
	case "delete":
		err = first.Delete(t.Context(), "k")
	}
	victim.Kill()
	seen, getErr := second.Get(t.Context(), "k")
	if getErr != nil && !errors.Is(getErr, store.ErrNotFound) {
		t.Errorf("dead at step %d: %v", at, getErr)
	}
	third, openErr := openOn(t, d.PowerCut().Process())
	if openErr != nil {
		t.Fatalf("dead at step %d, after the power cut: %v", at, openErr)
	}
	if after, err := third.Get(t.Context(), "k"); after.Gen != seen.Gen || string(after.Body) != string(seen.Body) || (err == nil) != (getErr == nil) {
		t.Errorf("dead at step %d: generation %d (%q) was read, after the power cut %d (%q), %v", at, seen.Gen, seen.Body, after.Gen, after.Body, err)
	}
	return err != nil
}
