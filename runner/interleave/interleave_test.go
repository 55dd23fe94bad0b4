package interleave

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func schedules(t *testing.T, texts ...string) []Schedule {
	t.Helper()
	var list []Schedule
	for _, text := range texts {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func runAt(t *testing.T, f *fake, o Options, texts ...string) []Transcript {
	t.Helper()
	all, err := Run(t.Context(), f.address(), schedules(t, texts...), o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The test must find what it is meant to: two clients that share one state.
func TestFindsASharedSession(t *testing.T) {
	texts := []string{"A:lock B:unlock", "A:set B:show", "A:parse B:describe", "A:parse A:show B:describe", "A:set B:disconnect B:show"}
	want := runAt(t, startFake(t, false, false), Options{}, texts...)
	if found := Compare(want, runAt(t, startFake(t, false, false), Options{}, texts...)); len(found) > 0 {
		t.Errorf("two good servers differ: %v", found)
	}
	found := Compare(want, runAt(t, startFake(t, true, false), Options{}, texts...))
	var got []string
	for _, d := range found {
		got = append(got, d.Schedule)
	}
	if want := []string{"A:set B:show", "A:parse B:describe"}; !slices.Equal(got, want) {
		t.Fatalf("differences in %q, want %q", got, want)
	}
	if d := found[0]; d.Longer != 1 || d.Want != `B show: row "" | done OK | ready I` || d.Got != `B show: row "A" | done OK | ready I` {
		t.Errorf("the difference is %+v", d)
	}
	if got, want := found[0].String(), `A:set B:show: here "B show: row \"A\" ...", where PostgreSQL says "B show: row \"\" ..."`; got != want {
		t.Errorf("it reads\n%s, want\n%s", got, want)
	}
}

// And the same fault, made by the test's own clients at a good server.
func TestFindsASharedConnection(t *testing.T) {
	f := startFake(t, false, false)
	texts := []string{"A:set B:show", "A:parse B:describe", "A:lock B:lock"}
	want := runAt(t, f, Options{}, texts...)
	if found := Compare(want, runAt(t, f, Options{Shared: true}, texts...)); len(found) != len(texts) {
		t.Errorf("differences %v, want one in each of %q", found, texts)
	}
}

func TestWhoWaits(t *testing.T) {
	f := startFake(t, false, false)
	for text, want := range map[string][]string{
		"A:lock B:lock B:show A:show A:unlock": {
			`A lock: row "" | done OK | ready I`,
			`B lock: LOG 00000 process B still waiting for a lock after _ ms`,
			`B show: later`,
			`A show: row "" | done OK | ready I`,
			`A unlock: row "true" | done OK | ready I`,
			`B lock: row "" | done OK | ready I`,
			`B show: row "" | done OK | ready I`,
		},
		"A:lock B:lock A:disconnect": {
			`A lock: row "" | done OK | ready I`,
			`B lock: LOG 00000 process B still waiting for a lock after _ ms`,
			`A disconnect: and again authenticated | ready I`,
			`B lock: row "" | done OK | ready I`,
		},
		"A:lock B:lock B:vanish B:show A:unlock": {
			`A lock: row "" | done OK | ready I`,
			`B lock: LOG 00000 process B still waiting for a lock after _ ms`,
			`B vanish: while it waits`,
			`B vanish: and again authenticated | ready I`,
			`B show: row "" | done OK | ready I`,
			`A unlock: row "true" | done OK | ready I`,
			`B vanished: and its session has ended`,
		},
	} {
		got := runAt(t, f, Options{}, text)[0].Lines
		if len(got) < len(want)+2 || !slices.Equal(got[2:len(want)+2], want) {
			t.Errorf("%s:\n%s\nwant behind two lines\n%s", text, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// A silent server must not cause endless waiting, nor count as equal.
func TestNoAnswer(t *testing.T) {
	f := startFake(t, false, true)
	all := runAt(t, f, Options{Limit: 200 * time.Millisecond}, "A:lock B:lock A:unlock", "A:set B:show")
	if got := strings.Join(all[0].Lines, "\n"); !strings.Contains(got, "nothing, though it waits for no lock") || !strings.Contains(got, "given up") {
		t.Errorf("the transcript is\n%s", got)
	}
	if got := all[1].Lines; len(got) < 4 || got[3] != `B show: row "" | done OK | ready I` {
		t.Errorf("the schedule after it: %q", got)
	}
	f.listener.Close()
	if _, err := Run(t.Context(), f.address(), schedules(t, "A:set"), Options{}); err == nil {
		t.Error("there is no server, and no error")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "A", "C:set", "A:nothing", "A:set,B:show"} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
}

// Equal schedules have one name.
func TestNormal(t *testing.T) {
	for text, want := range map[string]string{
		"B:set A:show":                  "A:set B:show",
		"A:set B:nextval A:nextval":     "A:set B:nextval A:nextval",
		"B:nextval A:set A:nextval":     "A:nextval B:set B:nextval",
		"A:listen B:temp A:temp":        "A:listen B:temp A:temp",
		"B:temp A:listen A:temp":        "A:listen B:temp A:temp",
		"A:begin B:show B:set":          "A:begin B:show B:set",
		"B:lock A:lock B:show A:unlock": "A:lock A:show B:lock B:unlock",
	} {
		s := schedules(t, text)[0].normal()
		if s.String() != schedules(t, want)[0].normal().String() {
			t.Errorf("%q is %q, and %q is %q", text, s, want, schedules(t, want)[0].normal())
		}
		if s.normal().String() != s.String() {
			t.Errorf("%q is not normal twice: %q, %q", text, s, s.normal())
		}
	}
}

// A plan has each schedule once, begins with the known ones, and is the same for the same seed.
func TestPlan(t *testing.T) {
	p := Plan{All: 2, Core: 2, Samples: 100, Longest: 6, Seed: 3}
	list := p.Schedules()
	seen := map[string]bool{}
	longest, bound := 0, p.Longest
	for i, s := range list {
		if seen[s.String()] {
			t.Errorf("%q is there twice", s)
		}
		seen[s.String()] = true
		longest = max(longest, len(s))
		if i < len(Known()) {
			bound = max(bound, len(s))
		}
		if i < len(Known()) && s.String() != Known()[i].Schedule {
			t.Errorf("schedule %d is %q, not the known %q", i, s, Known()[i].Schedule)
		}
	}
	for _, text := range []string{"A:set B:show", "A:nextval B:currval", "A:temp B:tmp", "A:begin B:show", "A:lock B:try"} {
		if !seen[text] {
			t.Errorf("%q is not in the plan", text)
		}
	}
	if seen["A:set B:nextval"] {
		t.Error("a schedule whose clients have nothing to do with each other is in the plan")
	}
	if longest != bound {
		t.Errorf("the longest has %d actions, want %d", longest, bound)
	}
	for i, s := range p.Schedules() {
		if s.String() != list[i].String() {
			t.Fatalf("the same plan has %q and %q", list[i], s)
		}
	}
	other := Plan{All: 2, Core: 2, Samples: 100, Longest: 6, Seed: 4}.Schedules()
	if slices.EqualFunc(list, other, func(a, b Schedule) bool { return a.String() == b.String() }) {
		t.Error("another seed has the same plan")
	}
}

// The recording matches the plan, and is complete.
func TestRecordedIsThePlan(t *testing.T) {
	r, err := Recorded()
	if err != nil {
		t.Fatal(err)
	}
	list := RecordedPlan().Schedules()
	if len(list) != len(r.Transcripts) {
		t.Fatalf("%d schedules are recorded, the plan has %d: record them again", len(r.Transcripts), len(list))
	}
	for i, s := range list {
		if s.String() != r.Transcripts[i].Schedule {
			t.Fatalf("schedule %d is recorded as %q, and is %q in the plan: record them again", i, r.Transcripts[i].Schedule, s)
		}
		for _, line := range r.Transcripts[i].Lines {
			if strings.Contains(line, "given up") || strings.Contains(line, "a stranger") {
				t.Errorf("%q is recorded with %q", s, line)
			}
		}
	}
	if r.Find("A:set B:show") < 0 || r.Find("A:nothing") >= 0 {
		t.Error("a schedule is not found, or one that there is not")
	}
}

func TestRecordingKeepsWhatItIsGiven(t *testing.T) {
	all := []Transcript{{Schedule: "A:set B:show", Lines: []string{"A set: done", "B show: row"}}, {Schedule: "A:set", Lines: []string{"A set: done"}}}
	b, err := Record("PostgreSQL 18.0", all)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecording(b)
	if err != nil || r.Server != "PostgreSQL 18.0" || r.Meaning != meaning() || len(Compare(all, r.Transcripts)) > 0 || len(r.Transcripts) != 2 {
		t.Errorf("read as %+v (%v)", r, err)
	}
	for _, b := range [][]byte{nil, b[:len(b)/2], []byte("interleave")} {
		if r, err := decodeRecording(b); err == nil {
			t.Errorf("%q was read as %v", b, r)
		}
	}
}

func TestShrink(t *testing.T) {
	s := schedules(t, "A:begin A:set B:temp B:show A:commit")[0]
	small, err := Shrink(s, func(s Schedule) (bool, error) {
		return schedules(t, "A:set B:show")[0].within(s), nil
	})
	if err != nil || small.String() != "A:set B:show" {
		t.Errorf("%q (%v)", small, err)
	}
}

// Only the parts of the server's texts that cannot be the same twice are left out.
func TestWords(t *testing.T) {
	w := newWords()
	w.know(4711, "A")
	w.know(4712, "B")
	for text, want := range map[string]string{
		"process 4711 still waiting for ExclusiveLock on advisory lock [16384,0,1,1] after 5.041 ms": "process A still waiting for ExclusiveLock on advisory lock [_,0,1,1] after _ ms",
		"Process holding the lock: 4712. Wait queue: 4711, 4712.":                                    "Process holding the lock: B. Wait queue: A, B.",
		"Process 4711 waits for ShareLock on transaction 745; blocked by process 4713.":              "Process A waits for ShareLock on transaction _; blocked by process a stranger.",
		"PID 4711 is not a PostgreSQL backend process":                                               "PID A is not a PostgreSQL backend process",
		"relation 16390 of database 5":                                                               "relation _ of database _",
		"table \"pg_temp_3.tmp\" has 4711 rows":                                                      "table \"pg_temp_N.tmp\" has 4711 rows",
		"prepared statement \"p\" does not exist":                                                    "prepared statement \"p\" does not exist",
		"Key (id)=(10) already exists in 2 processes":                                                "Key (id)=(10) already exists in 2 processes",
	} {
		if got := w.text(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got, want := join([]string{"done", "parameter b=2", "parameter a=1", "two\nlines", "ready I"}), "done | parameter a=1 | parameter b=2 | two / lines | ready I"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
