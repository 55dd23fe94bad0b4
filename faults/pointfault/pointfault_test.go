package pointfault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/point"
)

// childVariable makes the test's own program the process that dies.
const childVariable = "POINTFAULT_CHILD"

func TestMain(m *testing.M) {
	if do := os.Getenv(childVariable); do != "" {
		child(Action(do))
	}
	goleak.VerifyTestMain(m)
}

// child passes a point three times; the second time the rule strikes.
func child(do Action) {
	in, err := New(Options{
		Rules:  []Rule{{Point: point.WalBeforePut, Do: do, Nth: 2}},
		Report: func(e Event) { fmt.Printf("about to %s at %s, passing %d\n", e.Do, e.Point, e.Match) },
	})
	if err != nil {
		panic(err)
	}
	for n := range 3 {
		if err := in.Hook()(context.Background(), point.WalBeforePut); err != nil {
			panic(err)
		}
		fmt.Printf("passed %d\n", n+1)
	}
	os.Exit(0)
}

// run starts a child and reads its output.
func run(t *testing.T, do Action) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(do))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func lines(s *bufio.Scanner) (all []string) {
	for s.Scan() {
		all = append(all, s.Text())
	}
	return all
}

// TestKillIsRealAndReported: the process is gone in the middle of the step, after reporting it.
func TestKillIsRealAndReported(t *testing.T) {
	cmd, out := run(t, Kill)
	got := lines(out)
	err := cmd.Wait()
	want := []string{"passed 1", "about to kill at wal/before-put, passing 2"}
	if !slices.Equal(got, want) {
		t.Errorf("it said %q, want %q", got, want)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v, want SIGKILL", err)
	}
}

// TestStopIsRealAndReported: the process stops at the point, and continues from there.
func TestStopIsRealAndReported(t *testing.T) {
	cmd, out := run(t, Stop)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it is not stopped: %v, %v", status, err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	got := lines(out)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if want := []string{"passed 1", "about to stop at wal/before-put, passing 2", "passed 2", "passed 3"}; !slices.Equal(got, want) {
		t.Errorf("it said %q, want %q", got, want)
	}
}

func TestDecisionsAreSeeded(t *testing.T) {
	pattern := func(seed uint64) string {
		in, err := New(Options{Seed: seed, Rules: []Rule{{Point: point.CommitBeforeAck, Do: Fail, P: 0.5}, {Point: point.WalAfterPut, Do: Fail, P: 0.5}}})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for i := range 60 {
			err := in.Hook()(t.Context(), []point.Point{point.CommitBeforeAck, point.WalAfterPut}[i%2])
			fmt.Fprint(&b, map[bool]int{true: 1}[errors.Is(err, ErrInjected)])
		}
		return b.String()
	}
	if first, again := pattern(1), pattern(1); first != again {
		t.Error("the same seed made other decisions")
	}
	if pattern(1) == pattern(2) {
		t.Error("two seeds made the same decisions")
	}
}

func TestHowOftenAndWhen(t *testing.T) {
	for name, c := range map[string]struct {
		rule Rule
		want []int // passings that fail, of 6; the step is the passing's number
	}{
		"nth":      {Rule{Nth: 2}, []int{2}},
		"every":    {Rule{Every: 3}, []int{3, 6}},
		"always":   {Rule{Every: 1, From: 2, Until: 5}, []int{2, 3, 4}},
		"from":     {Rule{Nth: 1, From: 4}, []int{4}},
		"anywhere": {Rule{Nth: 5, Point: ""}, []int{5}},
	} {
		t.Run(name, func(t *testing.T) {
			c.rule.Do = Fail
			in, err := New(Options{Rules: []Rule{c.rule}})
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for n := 1; n <= 6; n++ {
				in.Step(int64(n))
				if in.Hook()(t.Context(), point.WalBeforePut) != nil {
					got = append(got, n)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("failed at %v, want %v", got, c.want)
			}
			if f := in.Fired(); len(f) != 1 || f[0].Fired != int64(len(c.want)) {
				t.Errorf("counted %+v", f)
			}
			if n := in.Passed()[point.WalBeforePut]; n != 6 {
				t.Errorf("passed %d times", n)
			}
		})
	}
}

func TestParkHoldsOneAndIsReleased(t *testing.T) {
	reported := make(chan Event, 1)
	in, err := New(Options{Rules: []Rule{{Point: point.WalBeforePut, Do: Park, Nth: 1}}, Report: func(e Event) { reported <- e }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- in.Hook()(t.Context(), point.WalBeforePut) }()
	<-reported
	if in.Parked() != 1 {
		t.Errorf("%d parked", in.Parked())
	}
	if err := in.Hook()(t.Context(), point.WalBeforePut); err != nil { // the other callers pass
		t.Error(err)
	}
	in.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := in.Arm([]Rule{{Point: point.GCBeforeDelete, Do: Park, Every: 1}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- in.Hook()(ctx, point.GCBeforeDelete) }()
	<-reported
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a parked step whose context ended: %v", err)
	}
	in.Disarm()
	if err := in.Hook()(t.Context(), point.GCBeforeDelete); err != nil || len(in.Fired()) != 2 {
		t.Errorf("after all rules were taken out: %v, %+v", err, in.Fired())
	}
}

func TestDelayTakesTime(t *testing.T) {
	virtual := clock.NewVirtual(time.Unix(0, 0))
	in, err := New(Options{Clock: virtual, Rules: []Rule{{Do: Delay, Every: 1, For: time.Second}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- in.Hook()(t.Context(), point.BaseAfterIndex) }()
	for {
		select {
		case err := <-done:
			if err != nil || virtual.Monotonic() < time.Second {
				t.Errorf("after %v: %v", virtual.Monotonic(), err)
			}
			return
		default:
			virtual.Advance(100 * time.Millisecond)
		}
	}
}

func TestRulesThatCannotStrikeAreRefused(t *testing.T) {
	for name, r := range map[string]Rule{
		"no such point":  {Point: "wal/sideways", Do: Kill, Nth: 1},
		"no such action": {Point: point.WalBeforePut, Do: "sing", Nth: 1},
		"never":          {Point: point.WalBeforePut, Do: Kill},
		"twice":          {Point: point.WalBeforePut, Do: Kill, Nth: 1, P: 0.5},
		"no time":        {Point: point.WalBeforePut, Do: Delay, Nth: 1},
		"time for what":  {Point: point.WalBeforePut, Do: Kill, Nth: 1, For: time.Second},
		"no step":        {Point: point.WalBeforePut, Do: Kill, Nth: 1, From: 3, Until: 3},
	} {
		if _, err := New(Options{Rules: []Rule{r}}); err == nil {
			t.Errorf("%s: %+v was taken", name, r)
		}
	}
}
