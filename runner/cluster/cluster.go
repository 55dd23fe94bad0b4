// Package cluster is one database with faults: a bucket that can be made faulty, processes that open the database and may be killed,
// clients with a history, and the judges of what they saw.
//
//	c, err := cluster.New(ctx, run, cluster.Options{Mode: engine.ModeLog})
//	m, err := c.Spawn(ctx)                          // a child process, ready
//	_, err = m.Open(ctx)                            // it takes the lease
//	stop := c.Load(ctx, workload.Load{Clients: 3})  // clients work
//	err = c.Verify(ctx, other)                      // what another process has opened matches what the clients were told
//
// A Lifeline (lifeline.go) is a sequence of processes over one database: each ends, and the next one is compared with the history.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
	"blobpglite/runner/bench"
	"blobpglite/runner/check"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

// clusterBucket is the bucket of a cluster's own front.
const clusterBucket = "cluster"

// Cluster is one database with faults: a bucket that can be made faulty, child processes that open the database, clients, and what all of
// them saw.
type Cluster struct {
	r         *bench.Run
	Clock     clock.Clock
	mode      engine.Mode
	Front     *gcsfront.Front // nil on a real bucket
	rules     []gcsfront.Rule
	names     []string // of the rules, as fired() calls them
	spec      node.StoreSpec
	Store     store.Store // the runner's own view of the database
	close     func()
	accounted sync.Once
	seed      uint64
	open      func(*node.OpenArgs)

	History *history.History

	mu      sync.Mutex
	marks   []mark
	changes []check.Change
	serving *Member // the member that clients use; nil: none
	spawned int
	members []*Member

	// What the database held at the last verification, and where the history was at that time.
	State    history.State
	verified int
	made     atomic.Bool // the tables were acknowledged
}

// mark is something that happened, for the timeline.
type mark struct {
	At   int64  `json:"at"`   // in the history's time
	Lane string `json:"lane"` // a node, or "bucket"
	Kind string `json:"kind"` // fault, life, change, refused
	Text string `json:"text"`
}

// Member is a child process of a cluster.
type Member struct {
	*node.Process
	c      *Cluster
	Name   string
	events chan node.Event
	busy   atomic.Bool // opens, or has the database open
}

// Options says how the bucket behaves.
type Options struct {
	Mode    engine.Mode
	Latency time.Duration // of each request at the bucket; zero: none
	Seed    uint64
	Change  func(*node.OpenArgs) // changes to the usual arguments; nil: none
	Rules   []gcsfront.Rule      // in addition to the document's, under the names in fired()
	Names   []string
}

// New makes a new prefix for a database. The document's rules for the seam http apply to it.
func New(ctx context.Context, r *bench.Run, o Options) (*Cluster, error) {
	if r.Store.Memory != nil {
		return nil, errors.New("child processes reach the store over HTTP: use -store fake-gcs or gcs")
	}
	c := &Cluster{r: r, Clock: clock.System(), mode: o.Mode, spec: r.Store.Fresh(r.Cell.Probe), seed: o.Seed, open: o.Change, close: func() {}}
	c.History = history.New(c.Clock)
	var err error
	if c.rules, c.names, err = httpRules(r.Cell.Faults); err != nil {
		return nil, err
	}
	c.rules, c.names = append(c.rules, o.Rules...), append(c.names, o.Names...)
	if c.spec.Endpoint != "" {
		if err := c.ownFront(ctx, o); err != nil {
			return nil, err
		}
	}
	st, err := gcs.Open(ctx, gcs.Options{Bucket: c.spec.Bucket, Prefix: c.spec.Prefix, Endpoint: c.spec.Endpoint})
	if err != nil {
		c.close()
		return nil, err
	}
	c.Store = st
	stop := c.close
	c.close = func() { _ = st.Close(); stop() }
	return c, nil
}

// ownFront serves an emulator of the cluster's own: its faults affect no other cluster, and it is as small as the database.
func (c *Cluster) ownFront(ctx context.Context, o Options) error {
	var latency *gcsfront.Latency
	rules := c.rules
	if o.Latency > 0 {
		rules = append([]gcsfront.Rule{{Phase: gcsfront.Before, Do: gcsfront.Delay, Every: 1, Delay: o.Latency}}, rules...)
	}
	front, err := gcsfront.New(gcsfront.Options{
		Buckets: []string{clusterBucket}, Seed: o.Seed, Latency: latency, Rules: rules, Observe: c.observe,
	})
	if err != nil {
		return err
	}
	endpoint, stop, err := front.Serve(ctx)
	if err != nil {
		return err
	}
	c.r.On(front)
	c.Front, c.close = front, stop
	c.spec.Bucket, c.spec.Endpoint = clusterBucket, endpoint
	return nil
}

// observe is called with everything that the bucket carried out.
func (c *Cluster) observe(g gcsfront.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.TrimPrefix(g.Key, c.spec.Prefix+"/")
	c.changes = append(c.changes, check.Change{
		At: g.At, Delete: g.Op == gcsfront.OpDelete, Key: key, Status: g.Status, Bytes: g.Bytes, WriteID: g.WriteID,
	})
	kind := "change"
	if !g.Done() {
		kind = "refused"
	}
	c.marks = append(c.marks, mark{At: c.History.Now(), Lane: "bucket", Kind: kind, Text: fmt.Sprintf("%s %s %d", g.Op, key, g.Status)})
}

// Mark records an event for the timeline.
func (c *Cluster) Mark(lane, kind, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks = append(c.marks, mark{At: c.History.Now(), Lane: lane, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// End kills all members and removes the bucket.
func (c *Cluster) End() {
	c.mu.Lock()
	members := c.members
	c.members = nil
	c.mu.Unlock()
	for _, m := range members {
		m.Kill()
	}
	c.Account()
	c.close()
}

// Account adds the bucket's operations, and the strikes of its rules, to the run.
func (c *Cluster) Account() {
	c.accounted.Do(func() {
		if c.Front == nil {
			return
		}
		c.r.AddOps(bench.OpsOf(c.Front.Counters().Ops))
		fired := c.Front.Fired()
		for i, f := range fired[len(fired)-len(c.names):] { // the latency's own rule comes first
			c.r.Struck(c.names[i], f.Fired)
		}
	})
}

// Spawn starts a child process that is ready to open the database.
func (c *Cluster) Spawn(ctx context.Context) (*Member, error) {
	c.mu.Lock()
	c.spawned++
	m := &Member{c: c, Name: fmt.Sprintf("n%d", c.spawned), events: make(chan node.Event, 256)}
	c.mu.Unlock()
	p, err := node.Spawn(ctx, node.Options{
		Progress: func(string, int64, int64) {},
		Event: func(e node.Event) {
			m.c.Mark(m.Name, "fault", "%s", e.Rule) // it may belong to another cluster by now
			c.r.Struck(e.Rule, 1)
			select {
			case m.events <- e:
			default: // the buffer is full: nothing waits for so many
			}
		},
	})
	if err != nil {
		return nil, err
	}
	m.Process = p
	c.mu.Lock()
	c.members = append(c.members, m)
	c.mu.Unlock()
	if err := m.Do(ctx, node.Warm, nil, nil); err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}

// disown releases a member that has opened nothing, so that it lives on; adopt gives it to another cluster.
func (c *Cluster) disown(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(c.members, func(o *Member) bool { return o == m })
}

func (c *Cluster) adopt(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.c = c
	c.spawned++
	m.Name = fmt.Sprintf("n%d", c.spawned)
	c.members = append(c.members, m)
}

// openArgs are those of every member.
func (c *Cluster) openArgs(m *Member) node.OpenArgs {
	args := node.OpenArgs{
		Store: c.spec, Create: true, Mode: c.mode, Writer: m.Name, LeaseTTL: clusterTTL, AcquireTimeout: 30 * time.Second,
		CommitDeadline: 20 * time.Second, RestoreBudget: -1,
	}
	if c.open != nil {
		c.open(&args)
	}
	if c.Front == nil {
		args.HTTPRules, args.HTTPSeed = c.rules, c.seed
	}
	return args
}

// clusterTTL is the lease of a writer that is about to be killed: the next opening waits for it.
const clusterTTL = 250 * time.Millisecond

// Open opens the database in a member. The experiment has to judge a *node.Error or *node.EndedError.
func (m *Member) Open(ctx context.Context, change ...func(*node.OpenArgs)) (node.OpenResult, error) {
	args := m.c.openArgs(m)
	for _, do := range change {
		do(&args)
	}
	var opened node.OpenResult
	m.c.Mark(m.Name, "life", "opens")
	m.busy.Store(true)
	err := m.Do(ctx, node.Open, args, &opened)
	if err == nil {
		m.c.Mark(m.Name, "life", "serves epoch %d", opened.Opened.Epoch)
	} else {
		m.c.Mark(m.Name, "life", "not open: %v", err)
	}
	return opened, err
}

// Arm puts rules in force in a member.
func (m *Member) Arm(ctx context.Context, seed uint64, rules ...pointfault.Rule) error {
	return m.Do(ctx, node.Faults, node.FaultsArgs{Rules: rules, Seed: seed}, nil)
}

// Strike sends a signal, and records it for the timeline.
func (m *Member) Strike(a procfault.Action) error {
	m.c.Mark(m.Name, "fault", "%s", a)
	return m.Signal(a)
}

// AwaitFault waits until a rule is about to strike. False: none did within the time, or the process has ended.
func (m *Member) AwaitFault(ctx context.Context, within time.Duration) (node.Event, bool) {
	t := m.c.Clock.NewTimer(within)
	defer t.Stop()
	select {
	case e := <-m.events:
		return e, true
	case <-t.C():
	case <-ctx.Done():
	case <-m.Ended():
		select {
		case e := <-m.events:
			return e, true
		default:
		}
	}
	return node.Event{}, false
}

// Query implements workload.Conn: clients talk to a member.
func (m *Member) Query(ctx context.Context, sql string) ([][][]string, []string, error) {
	return queryIn(ctx, m, node.QueryArgs{SQL: sql})
}

func queryIn(ctx context.Context, m *Member, args node.QueryArgs) ([][][]string, []string, error) {
	var out node.QueryResult
	err := m.Do(ctx, node.Query, args, &out)
	return out.Rows, out.Tags, err
}

// In returns a separate session of the member.
func (m *Member) In(session int64, isolation string) workload.Conn {
	return memberSession{m, node.InSession{Session: session, Isolation: isolation}}
}

// memberSession queries a member in one session.
type memberSession struct {
	m  *Member
	in node.InSession
}

func (s memberSession) Query(ctx context.Context, sql string) ([][][]string, []string, error) {
	return queryIn(ctx, s.m, node.QueryArgs{SQL: sql, InSession: s.in})
}

func (s memberSession) Copy(ctx context.Context, token int64, rows, rowBytes int) error {
	return s.m.Do(ctx, node.Copy, node.CopyArgs{Token: token, Rows: rows, RowBytes: rowBytes, Seed: s.m.c.seed, InSession: s.in}, nil)
}

func (s memberSession) In(session int64, isolation string) workload.Conn {
	return s.m.In(session, isolation)
}

// Copy sends one COPY.
func (m *Member) Copy(ctx context.Context, token int64, rows, rowBytes int) error {
	return m.Do(ctx, node.Copy, node.CopyArgs{Token: token, Rows: rows, RowBytes: rowBytes, Seed: m.c.seed}, nil)
}

// Serve makes clients use a member; nil: they wait.
func (c *Cluster) Serve(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = m
}

// target is where clients go now.
func (c *Cluster) target() (workload.Conn, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serving == nil {
		return nil, ""
	}
	select {
	case <-c.serving.Ended():
		return nil, ""
	default:
	}
	return c.serving, c.serving.Name
}

// Load lets clients work until the returned function is called, which waits for running requests.
func (c *Cluster) Load(ctx context.Context, l workload.Load) (stop func() error) {
	l.History, l.Outcome, l.Clock = c.History, c.Outcome, c.Clock
	if l.Target == nil {
		l.Target = c.target
	}
	if l.Latency == nil {
		l.Latency = func(d time.Duration) { c.r.Metrics.Duration("request_ms", d) }
	}
	inner, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.Run(inner) }()
	return func() error {
		cancel()
		return <-done
	}
}

// Acknowledged waits until n more operations were acknowledged.
func (c *Cluster) Acknowledged(ctx context.Context, n int) error {
	const look, limit = 2 * time.Millisecond, 20 * time.Second
	from, end := c.History.Len(), c.Clock.Monotonic()+limit
	for history.Count(c.History.Ops(from), history.OK) < n {
		if c.Clock.Monotonic() > end {
			return fmt.Errorf("clients got fewer than %d answers within %v", n, limit)
		}
		if err := c.Clock.Sleep(ctx, look); err != nil {
			return err
		}
	}
	return nil
}

// Outcome returns the outcome of a request that ended with an error. If it is not certain, it is unknown.
func (c *Cluster) Outcome(err error) history.Outcome {
	var failed *node.Error
	if !errors.As(err, &failed) {
		return history.Unknown // the process ended, or something between us did
	}
	switch failed.Code {
	case node.CodeSQL, node.CodeClosed, node.CodeNotOpen:
		return history.Failed
	case node.CodeFenced:
		// In mode log a fenced commit is not in the log and never will be. In mode snapshot the swap may have been applied, its reply lost,
		// and a rival's made on top of it.
		if c.mode == engine.ModeLog {
			return history.Failed
		}
	}
	return history.Unknown
}

// Objects reads the database's objects, records and manifest with their bodies.
func (c *Cluster) Objects(ctx context.Context) ([]check.Object, error) {
	return bench.ObjectsOf(ctx, c.Store)
}

// httpRules are the document's rules for the seam http.
func httpRules(faults []scenario.Fault) (rules []gcsfront.Rule, names []string, err error) {
	for _, f := range faults {
		if f.Args.String("seam") != bench.SeamHTTP {
			continue
		}
		if n := f.Args.String("node"); n != "*" {
			return nil, nil, fmt.Errorf("fault %q: node %q: the seam http is at the bucket and strikes all nodes: write \"*\"", f.Name, n)
		}
		r := gcsfront.Rule{
			Op: gcsfront.Op(f.Args.String("op")), KeyClass: f.Args.String("key"), Phase: gcsfront.Phase(f.Args.String("phase")),
			Do: gcsfront.Action(f.Args.String("do")), Probability: f.Args.Float("p"), Delay: f.Args.Duration("delay"),
		}
		if n := f.Args.Int("count"); n != 0 {
			return nil, nil, fmt.Errorf("fault %q: the seam http knows no count", f.Name)
		}
		rules, names = append(rules, r), append(names, f.Name)
	}
	return rules, names, nil
}

// Sabotage is how often another session cancels a client's statement, or ends its session.
const Sabotage = 30 * time.Millisecond

// Only makes clients use a single member, as long as it lives.
func Only(m *Member) workload.Target {
	return func() (workload.Conn, string) {
		select {
		case <-m.Ended():
			return nil, ""
		default:
			return m, m.Name
		}
	}
}

// PowerCut ends all processes, and drops requests on their way to the bucket.
func (c *Cluster) PowerCut() {
	c.Mark("bucket", "fault", "power cut")
	if c.Front != nil {
		c.Front.PowerCut()
	}
	for _, m := range c.Everyone() {
		if m.busy.Load() {
			_ = m.Strike(procfault.Kill)
		}
	}
	c.r.Struck("power cut", 1)
}

// Everyone returns the living members, and those that have just ended.
func (c *Cluster) Everyone() []*Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.members)
}

// Picture returns the timeline so far.
func (c *Cluster) Picture() string {
	c.mu.Lock()
	marks := slices.Clone(c.marks)
	c.mu.Unlock()
	return timeline(marks, c.History.Ops(0))
}
