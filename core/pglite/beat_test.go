package pglite

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// aloneVariable tells a child process of these tests that it may come to a standstill.
const aloneVariable = "BLOBPGLITE_TEST_ALONE"

// alone runs a test that on failure would stop its whole process, including the test's time limit, in a process of its own, which is then
// killed. In that process it returns true.
func alone(t *testing.T) bool {
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	testRuntime(t) // compile what has to be compiled here
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), aloneVariable+"=yes")
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		t.Fatalf("the process stood still:\n%s", out)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

// beater is a beat of any kind.
type beater interface {
	aim(*uint32)
	quiesce()
	close()
}

// TestBeat: it beats where it is aimed, nowhere else, and stops after a while without a target.
func TestBeat(t *testing.T) {
	const every = time.Millisecond
	for name, start := range map[string]func() (beater, error){
		"of this system": func() (beater, error) { return newBeat(every) },
		"goroutine":      func() (beater, error) { return newTickBeat(every), nil },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := start()
			if err != nil {
				t.Fatal(err)
			}
			words := make([]uint32, 3)
			soon := func(what string, f func() bool) {
				t.Helper()
				for end := time.Now().Add(10 * time.Second); !f(); runtime.Gosched() {
					if time.Now().After(end) {
						t.Fatal(what)
					}
				}
			}
			beats := func(i int) {
				t.Helper()
				atomic.StoreUint32(&words[i], 0)
				soon("it does not beat where it is aimed", func() bool { return atomic.LoadUint32(&words[i]) != 0 })
			}
			for round := range 200 {
				i := round % 2
				b.aim(&words[i])
				beats(i)
				beats(i)
				b.aim(&words[2])
				b.quiesce()
				if atomic.StoreUint32(&words[i], 0); round%20 == 0 {
					beats(2)
				}
				if words[i] != 0 {
					t.Fatal("it beats where it was aimed before")
				}
			}
			b.aim(nil)
			soon("it goes on for nobody", func() bool { return resting(b) })
			b.aim(&words[0])
			beats(0)
			b.close()
			atomic.StoreUint32(&words[0], 0)
			<-time.After(10 * every)
			if words[0] != 0 {
				t.Fatal("it beats after its end")
			}
		})
	}
}

func tickerRests(b *tickBeat) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.parked
}
