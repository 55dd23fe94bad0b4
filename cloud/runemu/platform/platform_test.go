package platform

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childVariable makes the test's own program the service that the platform runs.
const childVariable = "TWIN_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childVariable); mode != "" {
		child(mode)
		return
	}
	os.Exit(m.Run())
}

// child is a service. Its mode: plain, stubborn (does not end at SIGTERM), broken (ends immediately).
func child(mode string) {
	if mode == "broken" {
		fmt.Println("it does not work")
		os.Exit(3)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	var held [][]byte
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("K_REVISION"), " ", os.Getpid()) })
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/grow", func(w http.ResponseWriter, r *http.Request) {
		mib, err := strconv.Atoi(r.FormValue("mib"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b := make([]byte, mib<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
		<-r.Context().Done()
	})
	go func() {
		<-signals
		if mode != "stubborn" {
			os.Exit(0)
		}
	}()
	if err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux); err != nil {
		fmt.Println(err, len(held))
		os.Exit(1)
	}
}

// emulated is a platform under test.
type emulated struct {
	*Platform
	t     *testing.T
	front *httptest.Server
	mu    sync.Mutex
	seen  []Event
	more  chan struct{}
}

func newEmulated(t *testing.T, mode string, change ...func(*Options)) *emulated {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tw := &emulated{t: t, more: make(chan struct{}, 1)}
	o := Options{Revision: Revision{Name: "one", Program: self, Env: []string{childVariable + "=" + mode}}, MemoryMiB: 256}
	for _, c := range change {
		c(&o)
	}
	o.Event = func(e Event) {
		tw.mu.Lock()
		tw.seen = append(tw.seen, e)
		tw.mu.Unlock()
		select {
		case tw.more <- struct{}{}:
		default:
		}
	}
	if tw.Platform, err = New(o); err != nil {
		t.Fatal(err)
	}
	tw.front = httptest.NewServer(tw)
	t.Cleanup(func() {
		tw.front.CloseClientConnections()
		if err := tw.Close(context.Background()); err != nil {
			t.Error(err)
		}
		tw.front.Close()
		if n := len(tw.Instances()); n > 0 {
			t.Errorf("%d instances are left", n)
		}
	})
	return tw
}

// happened waits for an event of an instance (0: any).
func (tw *emulated) happened(instance int, what string) {
	tw.t.Helper()
	for {
		tw.mu.Lock()
		found := slices.ContainsFunc(tw.seen, func(e Event) bool { return e.What == what && (instance == 0 || e.Instance == instance) })
		tw.mu.Unlock()
		if found {
			return
		}
		select {
		case <-tw.more:
		case <-tw.t.Context().Done():
			tw.t.Fatal("the test ends")
		}
	}
}

func (tw *emulated) count(what string) int {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	n := 0
	for _, e := range tw.seen {
		if e.What == what {
			n++
		}
	}
	return n
}

func (tw *emulated) get(path string) (int, string) {
	tw.t.Helper()
	return get(tw.t, tw.front.URL+path)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// stopped says whether the system has stopped a process; true if the system does not tell.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "T")
}

// TestFrozenBetweenRequests: an instance is started for a request, has CPU while it serves, and none after.
func TestFrozenBetweenRequests(t *testing.T) {
	tw := newEmulated(t, "plain")
	if n := len(tw.Instances()); n != 0 {
		t.Fatalf("%d instances without a request", n)
	}
	for range 3 {
		status, body := tw.get("/who")
		if status != 200 || !strings.HasPrefix(body, "one ") {
			t.Fatal(status, body)
		}
		tw.settled()
		i := tw.Instances()
		if len(i) != 1 || !i[0].Frozen {
			t.Fatalf("%+v", i)
		}
		for !stopped(t, i[0].PID) { // a signal takes its time
		}
	}
	if b := tw.Bill(); b.Requests != 3 || b.Active < 300*time.Millisecond || b.Active > b.Life+time.Second || b.USD <= 0 {
		t.Errorf("%+v", b)
	}
}

// busy waits until the first instance has a request.
func (tw *emulated) busy() {
	tw.t.Helper()
	for {
		if i := tw.Instances(); len(i) > 0 && i[0].Requests > 0 {
			return
		}
		runtime.Gosched()
	}
}

// settled waits until no instance has a request.
func (tw *emulated) settled() {
	tw.t.Helper()
	for {
		tw.mu.Lock()
		n := len(tw.seen)
		tw.mu.Unlock()
		if !slices.ContainsFunc(tw.Instances(), func(s Status) bool { return s.Requests > 0 || s.State == "starting" }) {
			return
		}
		for {
			tw.mu.Lock()
			more := len(tw.seen) > n
			tw.mu.Unlock()
			if more {
				break
			}
			<-tw.more
		}
	}
}

func TestAlwaysOn(t *testing.T) {
	tw := newEmulated(t, "plain", func(o *Options) { o.CPU, o.MinInstances = Always, 1 })
	tw.happened(1, "ready")
	tw.get("/who")
	if i := tw.Instances(); i[0].Frozen || tw.count("freeze") > 0 {
		t.Errorf("%+v", i)
	}
	if b := tw.Bill(); b.Life <= 0 || b.USD <= 0 {
		t.Errorf("%+v", b)
	}
}

func TestIdleInstanceEnds(t *testing.T) {
	tw := newEmulated(t, "plain", func(o *Options) { o.Idle = 10 * time.Millisecond })
	tw.get("/who")
	tw.happened(1, "exit")
	if n := tw.count("kill"); n != 0 {
		t.Error("it was killed")
	}
	if _, body := tw.get("/who"); body == "" {
		t.Error("no new instance")
	}
}

// TestTimePasses: everything due in that time happens, in order, and without real waiting.
func TestTimePasses(t *testing.T) {
	var told []time.Duration
	tw := newEmulated(t, "plain", func(o *Options) {
		o.Idle, o.Passed = 15*time.Minute, func(d time.Duration) { told = append(told, d) }
	})
	tw.get("/who")
	pass := func(d time.Duration) {
		t.Helper()
		if err := tw.Pass(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	pass(10 * time.Minute)
	if tw.count("term") != 0 {
		t.Error("it was let go before its time")
	}
	tw.get("/who") // rests anew
	pass(10 * time.Minute)
	if tw.count("exit") != 0 {
		t.Error("its last request was 10 minutes ago, and it was let go")
	}
	pass(time.Hour)
	if tw.count("exit") != 1 {
		t.Error("it was not let go in an hour")
	}
	let := told[len(told)-2] // of the moment in between
	if at := let - 20*time.Minute; at < 4*time.Minute || at > 5*time.Minute || told[len(told)-1] < 79*time.Minute {
		t.Errorf("time has passed by %v", told)
	}
	if b := tw.Bill(); b.Life < 24*time.Minute || b.Life > 26*time.Minute || b.Active > 10*time.Second {
		t.Errorf("%v billed of %v alive", b.Active, b.Life)
	}
	tw.get("/who")
	if tw.count("start") != 2 {
		t.Error("the next request found an instance")
	}
}

func TestStubbornInstanceIsKilled(t *testing.T) {
	tw := newEmulated(t, "stubborn", func(o *Options) { o.Grace = 50 * time.Millisecond })
	tw.get("/who")
	gone := tw.Gone(1)
	if err := tw.Shut(1); err != nil {
		t.Fatal(err)
	}
	<-gone
	if tw.count("term") != 1 || tw.count("kill") != 1 {
		t.Errorf("term %d, kill %d", tw.count("term"), tw.count("kill"))
	}
}

// TestRevisionSwitch: both are alive for a while, requests go to the new one, and the old one finishes its own.
func TestRevisionSwitch(t *testing.T) {
	tw := newEmulated(t, "plain", func(o *Options) { o.Grace = 200 * time.Millisecond })
	tw.get("/who")
	tw.settled()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, "GET", tw.front.URL+"/hold", nil)
		if err == nil {
			_, err = http.DefaultClient.Do(r)
		}
		held <- err
	}()
	tw.busy()
	next := tw.o.Revision
	next.Name = "two"
	if err := tw.Deploy(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if i := tw.Instances(); len(i) != 2 || i[0].State != "draining" || i[1].State != "ready" {
		t.Fatalf("%+v", i)
	}
	if _, body := tw.get("/who"); !strings.HasPrefix(body, "two ") {
		t.Error(body)
	}
	cancel()
	<-held
	tw.happened(1, "exit")
	if err := tw.Deploy(t.Context(), next); err == nil {
		t.Error("the same revision was deployed again")
	}
	broken := next
	broken.Name, broken.Env = "three", []string{childVariable + "=broken"}
	if err := tw.Deploy(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "it does not work") {
		t.Error(err)
	}
	if _, body := tw.get("/who"); !strings.HasPrefix(body, "two ") {
		t.Errorf("after a deployment that failed: %s", body)
	}
}

// TestRevisionHasItsOwn: a revision's mode of CPU and its memory are its own, where it says so.
func TestRevisionHasItsOwn(t *testing.T) {
	tw := newEmulated(t, "plain")
	next := tw.o.Revision
	next.Name, next.CPU, next.MemoryMiB = "two", Always, 100
	if err := tw.Deploy(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if i := tw.Instances(); len(i) != 1 || i[0].Frozen || tw.count("freeze") > 0 {
		t.Errorf("%+v, frozen %d times", i, tw.count("freeze"))
	}
	if residentBytes(os.Getpid()) > 0 {
		if status, _ := tw.get("/grow?mib=150"); status != http.StatusBadGateway {
			t.Error("above the revision's memory, below the platform's:", status)
		}
		tw.happened(1, "out of memory")
	}
	next.Name, next.CPU = "three", "often"
	if err := tw.Deploy(t.Context(), next); err == nil {
		t.Error("a strange CPU was taken")
	}
}

func TestTaggedRevisionIsBeyondTheLimit(t *testing.T) {
	tw := newEmulated(t, "plain")
	tw.get("/who")
	tagged := tw.o.Revision
	tagged.Name = "canary"
	s := httptest.NewServer(tw.Tagged(tagged))
	defer s.Close()
	if _, body := get(t, s.URL+"/who"); !strings.HasPrefix(body, "canary ") {
		t.Error(body)
	}
	if n := len(tw.Instances()); n != 2 {
		t.Errorf("%d instances", n)
	}
}

func TestCrashesBackOff(t *testing.T) {
	tw := newEmulated(t, "broken", func(o *Options) { o.MaxQueue = 10 * time.Second })
	status, body := tw.get("/who")
	if status != http.StatusTooManyRequests || !strings.Contains(body, "crashed") {
		t.Errorf("%d %s", status, body)
	}
	tw.happened(0, "back off")
}

func TestCrashInARequest(t *testing.T) {
	tw := newEmulated(t, "plain")
	tw.get("/who")
	tw.settled()
	answer := make(chan int, 1)
	go func() { status, _ := tw.get("/hold"); answer <- status }()
	tw.busy()
	if err := tw.Crash(1); err != nil {
		t.Fatal(err)
	}
	if status := <-answer; status != http.StatusBadGateway {
		t.Error(status)
	}
	if status, _ := tw.get("/who"); status != 200 {
		t.Error("one crash is not forgiven:", status)
	}
}

// TestCrashBeforeItRuns: an instance that crashes before it has a process ends, and callers that wait for it to be ready are told.
func TestCrashBeforeItRuns(t *testing.T) {
	tw := newEmulated(t, "plain", func(o *Options) { o.StartDelay = 200 * time.Millisecond })
	next := tw.o.Revision
	next.Name = "two"
	deployed := make(chan error, 1)
	go func() { deployed <- tw.Deploy(t.Context(), next) }()
	tw.happened(1, "start")
	if err := tw.Crash(1); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-deployed:
		if err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody was told that the instance will never be ready")
	}
}

func TestMemoryLimit(t *testing.T) {
	if residentBytes(os.Getpid()) == 0 {
		t.Log("this system does not tell a process's memory: there is no limit to test")
		return
	}
	tw := newEmulated(t, "plain")
	if status, _ := tw.get("/grow?mib=300"); status != http.StatusBadGateway {
		t.Error(status)
	}
	tw.happened(1, "out of memory")
}

func TestQueue(t *testing.T) {
	tw := newEmulated(t, "plain", func(o *Options) { o.Concurrency, o.MaxQueue = 1, 50*time.Millisecond })
	tw.get("/who")
	tw.settled()
	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan struct{})
	go func() {
		defer close(held)
		if r, err := http.NewRequestWithContext(ctx, "GET", tw.front.URL+"/hold", nil); err == nil {
			_, _ = http.DefaultClient.Do(r)
		}
	}()
	tw.busy()
	if status, _ := tw.get("/who"); status != http.StatusTooManyRequests {
		t.Error(status)
	}
	cancel()
	<-held
}

func TestShare(t *testing.T) {
	tw := newEmulated(t, "plain", func(o *Options) { o.Share = 0.5 })
	if status, _ := tw.get("/who"); status != 200 {
		t.Error(status)
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no program":      {},
		"a missing one":   {Revision: Revision{Program: "/nowhere/at/all"}},
		"a strange CPU":   {Revision: Revision{Program: os.Args[0]}, CPU: "often"},
		"a strange share": {Revision: Revision{Program: os.Args[0]}, Share: 2},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestCost follows the price table.
func TestCost(t *testing.T) {
	b := Bill{Requests: 1_000_000, Active: 1000 * time.Second, Life: 5000 * time.Second, VCPU: 1, MemoryGiB: 0.5}
	for _, c := range []struct {
		o    Options
		want float64
	}{
		{Options{CPU: InRequests}, 0.40 + 1000*(0.000024+0.5*0.0000025)},
		{Options{CPU: Always}, 5000 * (0.000018 + 0.5*0.000002)},
		{Options{CPU: InRequests, MinInstances: 1}, 0.40 + 1000*(0.000024+0.5*0.0000025) + 4000*(0.0000025+0.5*0.0000025)},
	} {
		if got := b.Cost(c.o); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%+v: %v, want %v", c.o, got, c.want)
		}
	}
	free := Bill{Requests: FreeRequests + 1_000_000, Active: (FreeVCPUSeconds + 1000) * time.Second, VCPU: 1, MemoryGiB: 0.5}
	if got, want := free.BeyondFree(), 0.40+1000*RequestVCPUSecond; got < want-1e-9 || got > want+1e-9 {
		t.Errorf("beyond the free tier: %v, want %v", got, want)
	}
	if got := b.BeyondFree(); got != 0 {
		t.Errorf("within the free tier: %v", got)
	}
	var a account
	at := time.Now()
	a.begin(at)
	a.billed(at.Add(10*time.Millisecond), false)
	a.billed(at.Add(time.Second), true)
	a.billed(at.Add(1150*time.Millisecond), false)
	a.end(at.Add(2 * time.Second))
	if a.active != 300*time.Millisecond || a.life != 2*time.Second {
		t.Errorf("%v of %v", a.active, a.life)
	}
}
