package isolation

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alone = "session a step end { end } step rows { rows; rows } step fail { raise n fail; rows } step nothing {} step tell { tell ch } " +
	"step copy { copy } step vanish { vanish }\nsession b step b {}\n"

const locks = "setup { free L; free M } teardown { free L; free M }\n" +
	"session a step take { take L } step free { free L } step more { take M } step less { free M }\n" +
	"session b step wait { raise soon take L } step told { raise first raise second take M } step free_b { free L } step late { take L; raise after } step late_b { later before take L }\n"

const chain = "session a step a { take L } session b step b { take M } session c step c { take N }\n" +
	"session d step hold { take L; take M; take N } step free { free L; free M; free N } step some { free L; free M } step last { free N }\n" +
	"session e step e { take M raise now take N }\n"

func TestRun(t *testing.T) {
	const table = "n|word\n-+----\n1|x   \n(1 row)\n\n"
	for _, tt := range []struct {
		name, spec, want string
		err              error
	}{
		{"results", alone + "permutation rows fail nothing b", "step rows: rows; rows\n" + table + table +
			"a: NOTICE:  n\nstep fail: raise n fail; rows\nERROR:  it failed\n" + "step nothing: \nstep b: \n", nil},
		{"notifications", alone + "permutation tell b", "step tell: tell ch\na: NOTIFY \"ch\" with payload \"p\" from a\n" +
			"a: NOTIFY \"ch\" with payload \"\" from PID 4711\nstep b: \n", nil},
		{"a session's end", alone + "permutation end b", "step end: end\nFATAL:  the end\n" + vanished + "\nstep b: \n", nil},
		{"behind a session's end", alone + "permutation end rows", "step end: end\nFATAL:  the end\n" + vanished +
			"\nfailed to send query for step rows: no connection to the server\n\n", ErrEnded},
		{"a session vanishes", alone + "permutation vanish", "PQconsumeInput failed: " + vanished + "\n", ErrEnded},
		{"an answer for nobody", alone + "permutation copy", "step copy: copy\nunexpected answer in step copy: *pgproto3.CopyOutResponse\n", ErrEnded},
		{"a lock", locks + "permutation take wait free free_b", "step take: take L\nb: NOTICE:  soon\n" +
			"step wait: raise soon take L <waiting ...>\nstep free: free L\nstep wait: <... completed>\nstep free_b: free L\n", nil},
		{"a wait for one's own session", locks + "permutation wait take free_b free", "b: NOTICE:  soon\nstep wait: raise soon take L\n" +
			"step take: take L <waiting ...>\nstep free_b: free L\nstep take: <... completed>\nstep free: free L\n", nil},
		{"counts as waiting", locks + "permutation wait(*) free_b", "step wait: raise soon take L <waiting ...>\nb: NOTICE:  soon\n" +
			"step wait: <... completed>\nstep free_b: free L\n", nil},
		{"counts as waiting to the end", locks + "permutation wait(*)", "step wait: raise soon take L <waiting ...>\nb: NOTICE:  soon\n" +
			"step wait: <... completed>\n", nil},
		{"the other step ends", locks + "permutation more told less(told) free", "step more: take M\nb: NOTICE:  first\nb: NOTICE:  second\n" +
			"step told: raise first raise second take M <waiting ...>\nstep less: free M <waiting ...>\nstep told: <... completed>\n" +
			"step less: <... completed>\nstep free: free L\n", nil},
		{"notices first", locks + "permutation take late free(late notices 1) more less", "step take: take L\n" +
			"step late: take L; raise after <waiting ...>\nstep free: free L <waiting ...>\nb: NOTICE:  after\nstep late: <... completed>\n" +
			"step free: <... completed>\nstep more: take M\nstep less: free M\n", nil},
		{"notices that do not come", locks + "permutation told take(told notices 1)", "b: NOTICE:  first\nb: NOTICE:  second\n" +
			"step told: raise first raise second take M\nstep take: take L <waiting ...>\nfailed to complete permutation due to mutually-blocking steps\n", ErrEnded},
		{"a chain of steps", chain + "permutation hold a(b) b(c) c free", "step hold: take L; take M; take N\nstep a: take L <waiting ...>\n" +
			"step b: take M <waiting ...>\nstep c: take N <waiting ...>\nstep free: free L; free M; free N\nstep c: <... completed>\n" +
			"step b: <... completed>\nstep a: <... completed>\n", nil},
		{"a notice of a step that still waits", chain + "permutation hold a(e notices 1) e some last", "step hold: take L; take M; take N\n" +
			"step a: take L <waiting ...>\nstep e: take M raise now take N <waiting ...>\nstep some: free L; free M\ne: NOTICE:  now\n" +
			"step a: <... completed>\nstep last: free N\nstep e: <... completed>\n", nil},
		{"a notice that is late", locks + "permutation take late_b free", "step take: take L\nb: NOTICE:  before\n" +
			"step late_b: later before take L <waiting ...>\nstep free: free L\nstep late_b: <... completed>\n", nil},
		{"a setup fails", "setup { fail } session a step x {}", "setup failed: ERROR:  it failed\nDETAIL:  a detail\n", ErrEnded},
		{"an empty setup", "session a setup {} step x {}", "setup of session a failed: ", ErrEnded},
		{"a teardown fails", "setup { rows } teardown { fail } session a step x {} teardown { rows; fail } session b step y {} permutation x",
			table + "step x: \nteardown of session a failed: ERROR:  it failed\nDETAIL:  a detail\nteardown failed: ERROR:  it failed\nDETAIL:  a detail\n", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			if got, err := steps(t, newFake(t), tt.spec); !errors.Is(err, tt.err) || got != tt.want {
				t.Errorf("%s: %v, printed\n%s\nwant %v\n%s", tt.name, err, got, tt.err, tt.want)
			}
		})
	}
}

// steps runs a specification and returns the output of its first permutation.
func steps(t *testing.T, f *fake, text string) (string, error) {
	t.Helper()
	spec, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = spec.Run(t.Context(), Options{Config: f.config(t), Clock: clock.System(), MaxWait: time.Second}, &out)
	_, printed, _ := strings.Cut(out.String(), "\nstarting permutation:")
	return printed[strings.Index(printed, "\n")+1:], err
}

func TestRunGivesUp(t *testing.T) {
	for _, tt := range []struct {
		name, spec string
		deaf       bool
		want       string
		err        error
	}{
		{"a step is canceled", "session a step x { hang } step y { rows }", false,
			"isolationtester: canceling step x after 1 seconds\nstep x: hang\nERROR:  it was canceled\nstep y: rows\nn|word\n-+----\n1|x   \n(1 row)\n\n", nil},
		{"a step that cannot be", "session a step x { hang }", true,
			"isolationtester: canceling step x after 1 seconds\nstep x timed out after 2 seconds\n", ErrEnded},
		{"steps that wait for each other", locks + "permutation take wait more(wait) free", false, "step take: take L\nb: NOTICE:  soon\n" +
			"step wait: raise soon take L <waiting ...>\nstep more: take M <waiting ...>\nstep more timed out after 2 seconds\nactive steps are: more wait\n", ErrEnded},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.deaf = tt.deaf
			if got, err := steps(t, f, tt.spec); !errors.Is(err, tt.err) || got != tt.want {
				t.Errorf("%s: %v, printed\n%s\nwant %v\n%s", tt.name, err, got, tt.err, tt.want)
			}
		})
	}
}

func TestRunTellsItsSessions(t *testing.T) {
	f := newFake(t)
	spec, err := Parse("session a step x {} step unused {}\nsession \"b 2\" step y {}\npermutation y x")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := spec.Run(t.Context(), Options{Config: f.config(t), Clock: clock.System()}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "unused step name: unused\nParsed test spec with 2 sessions\n\nstarting permutation: y x\nstep y: \nstep x: \n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if want := []string{"control connection", "a", "b 2"}; !slices.Equal(f.names, want) {
		t.Errorf("sessions %q, want %q", f.names, want)
	}
}

func TestRunWithoutAServer(t *testing.T) {
	spec, err := Parse("session a step x {}")
	if err != nil {
		t.Fatal(err)
	}
	config := newFake(t).config(t)
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is there") }
	var out strings.Builder
	if err := spec.Run(t.Context(), Options{Config: config, Clock: clock.System()}, &out); !errors.Is(err, ErrEnded) || !strings.Contains(out.String(), "Connection 0 failed:") {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

// TestRunEndsWithItsContext: nothing is left behind, whatever a statement is doing.
func TestRunEndsWithItsContext(t *testing.T) {
	f := newFake(t)
	spec, err := Parse("session a step x { raise now hang }")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &watched{word: "now", seen: cancel}
	if err := spec.Run(ctx, Options{Config: f.config(t), Clock: clock.System()}, out); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
}

// watched is notified when a word is printed.
type watched struct {
	word string
	seen func()
}

func (w *watched) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.word) {
		w.seen()
	}
	return len(b), nil
}
