package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
	"blobpglite/runner/check"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/record"
	"blobpglite/runner/workload"
)

// clusterBucket is the bucket of a cluster's own front.
const clusterBucket = "cluster"

// cluster is one database under fire: a bucket that can be made faulty, child processes that open it, clients, and what
// all of them saw.
type cluster struct {
	r         *Run
	clk       clock.Clock
	mode      engine.Mode
	front     *gcsfront.Front // nil on a real bucket
	rules     []gcsfront.Rule
	names     []string // of the rules, as fired() calls them
	spec      node.StoreSpec
	st        store.Store // the runner's own view of the database
	close     func()
	accounted sync.Once
	seed      uint64
	open      func(*node.OpenArgs)

	h *history.History

	mu      sync.Mutex
	marks   []mark
	changes []check.Change
	serving *member // where clients go; nil: nowhere
	spawned int
	members []*member

	// What the database held when it was verified last, and where the history was then.
	state    history.State
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

// member is a child process of a cluster.
type member struct {
	*node.Process
	c      *cluster
	name   string
	events chan node.Event
	busy   atomic.Bool // opens, or has the database open
}

// clusterOptions are how the bucket behaves.
type clusterOptions struct {
	mode    engine.Mode
	latency time.Duration // of each request at the bucket; zero: none
	seed    uint64
	change  func(*node.OpenArgs) // what is different from the usual; nil: nothing
	rules   []gcsfront.Rule      // beside the document's, with what fired() calls them
	names   []string
}

// newCluster makes a fresh database's place. The document's rules for the seam http are in force there.
func (r *Run) newCluster(ctx context.Context, o clusterOptions) (*cluster, error) {
	if r.Store.Memory != nil {
		return nil, errors.New("child processes reach the store over HTTP: use -store fake-gcs or gcs")
	}
	c := &cluster{r: r, clk: clock.System(), mode: o.mode, spec: r.Store.place(r.Cell.Probe), seed: o.seed, open: o.change, close: func() {}}
	c.h = history.New(c.clk)
	var err error
	if c.rules, c.names, err = httpRules(r.Cell.Faults); err != nil {
		return nil, err
	}
	c.rules, c.names = append(c.rules, o.rules...), append(c.names, o.names...)
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
	c.st = st
	stop := c.close
	c.close = func() { _ = st.Close(); stop() }
	return c, nil
}

// ownFront serves an emulator of the cluster's own: its faults strike nobody else, and it is as small as the database.
func (c *cluster) ownFront(ctx context.Context, o clusterOptions) error {
	var latency *gcsfront.Latency
	rules := c.rules
	if o.latency > 0 {
		rules = append([]gcsfront.Rule{{Phase: gcsfront.Before, Do: gcsfront.Delay, Every: 1, Delay: o.latency}}, rules...)
	}
	front, err := gcsfront.New(gcsfront.Options{
		Buckets: []string{clusterBucket}, Seed: o.seed, Latency: latency, Rules: rules, Observe: c.observe,
	})
	if err != nil {
		return err
	}
	endpoint, stop, err := front.Serve(ctx)
	if err != nil {
		return err
	}
	c.front, c.close = front, stop
	c.spec.Bucket, c.spec.Endpoint = clusterBucket, endpoint
	return nil
}

// observe hears of what the bucket carried out.
func (c *cluster) observe(g gcsfront.Change) {
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
	c.marks = append(c.marks, mark{At: c.h.Now(), Lane: "bucket", Kind: kind, Text: fmt.Sprintf("%s %s %d", g.Op, key, g.Status)})
}

// mark notes something for the timeline.
func (c *cluster) mark(lane, kind, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks = append(c.marks, mark{At: c.h.Now(), Lane: lane, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// end kills whoever lives and takes the bucket away.
func (c *cluster) end() {
	c.mu.Lock()
	members := c.members
	c.members = nil
	c.mu.Unlock()
	for _, m := range members {
		m.Kill()
	}
	c.account()
	c.close()
}

// account tells the run what the bucket was asked, and which of its rules struck.
func (c *cluster) account() {
	c.accounted.Do(func() {
		if c.front == nil {
			return
		}
		c.r.addOps(opsOf(c.front.Counters().Ops))
		fired := c.front.Fired()
		for i, f := range fired[len(fired)-len(c.names):] { // the latency's own rule comes first
			c.r.struck(c.names[i], f.Fired)
		}
	})
}

func opsOf(o store.Ops) record.Ops {
	return record.Ops{ClassA: o.ClassA, ClassB: o.ClassB, Delete: o.Delete, BytesUp: o.BytesUp, BytesDown: o.BytesDown}
}

// spawn starts a child that is ready to open.
func (c *cluster) spawn(ctx context.Context) (*member, error) {
	c.mu.Lock()
	c.spawned++
	m := &member{c: c, name: fmt.Sprintf("n%d", c.spawned), events: make(chan node.Event, 256)}
	c.mu.Unlock()
	p, err := node.Spawn(ctx, node.Options{
		Progress: func(string, int64, int64) {},
		Event: func(e node.Event) {
			m.c.mark(m.name, "fault", "%s", e.Rule) // it may belong to another cluster by now
			c.r.struck(e.Rule, 1)
			select {
			case m.events <- e:
			default: // nobody waits for so many
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

// disown lets a member live on that has opened nothing; adopt gives it to another cluster.
func (c *cluster) disown(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(c.members, func(o *member) bool { return o == m })
}

func (c *cluster) adopt(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.c = c
	c.spawned++
	m.name = fmt.Sprintf("n%d", c.spawned)
	c.members = append(c.members, m)
}

// openArgs are those of every member.
func (c *cluster) openArgs(m *member) node.OpenArgs {
	args := node.OpenArgs{
		Store: c.spec, Create: true, Mode: c.mode, Writer: m.name, LeaseTTL: clusterTTL, AcquireTimeout: 30 * time.Second,
		CommitDeadline: 20 * time.Second, RestoreBudget: -1,
	}
	if c.open != nil {
		c.open(&args)
	}
	if c.front == nil {
		args.HTTPRules, args.HTTPSeed = c.rules, c.seed
	}
	return args
}

// clusterTTL is the lease of a writer that is going to be killed: the next opening waits for it.
const clusterTTL = 250 * time.Millisecond

// open opens the database in a member. An *node.Error or *node.EndedError is the experiment's to judge.
func (m *member) open(ctx context.Context, change ...func(*node.OpenArgs)) (node.OpenResult, error) {
	args := m.c.openArgs(m)
	for _, do := range change {
		do(&args)
	}
	var opened node.OpenResult
	m.c.mark(m.name, "life", "opens")
	m.busy.Store(true)
	err := m.Do(ctx, node.Open, args, &opened)
	if err == nil {
		m.c.mark(m.name, "life", "serves epoch %d", opened.Opened.Epoch)
	} else {
		m.c.mark(m.name, "life", "not open: %v", err)
	}
	return opened, err
}

// arm puts rules in force in a member.
func (m *member) arm(ctx context.Context, seed uint64, rules ...pointfault.Rule) error {
	return m.Do(ctx, node.Faults, node.FaultsArgs{Rules: rules, Seed: seed}, nil)
}

// signal sends a signal, and notes it.
func (m *member) signal(a procfault.Action) error {
	m.c.mark(m.name, "fault", "%s", a)
	return m.Signal(a)
}

// fault waits until a rule is about to strike. False: it did not within the time, or the process ended before.
func (m *member) fault(ctx context.Context, within time.Duration) (node.Event, bool) {
	t := m.c.clk.NewTimer(within)
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

// Query makes a member what clients talk to.
func (m *member) Query(ctx context.Context, sql string) ([][][]string, []string, error) {
	return queryIn(ctx, m, node.QueryArgs{SQL: sql})
}

func queryIn(ctx context.Context, m *member, args node.QueryArgs) ([][][]string, []string, error) {
	var out node.QueryResult
	err := m.Do(ctx, node.Query, args, &out)
	return out.Rows, out.Tags, err
}

// In is a session of its own.
func (m *member) In(session int64, isolation string) workload.Conn {
	return memberSession{m, node.InSession{Session: session, Isolation: isolation}}
}

// memberSession asks a member in one session.
type memberSession struct {
	m  *member
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
func (m *member) Copy(ctx context.Context, token int64, rows, rowBytes int) error {
	return m.Do(ctx, node.Copy, node.CopyArgs{Token: token, Rows: rows, RowBytes: rowBytes, Seed: m.c.seed}, nil)
}

// serve sends the clients to a member; nil: to nobody.
func (c *cluster) serve(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = m
}

// target is where clients go now.
func (c *cluster) target() (workload.Conn, string) {
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
	return c.serving, c.serving.name
}

// load lets clients work until the returned function is called, which waits for the requests under way.
func (c *cluster) load(ctx context.Context, l workload.Load) (stop func() error) {
	l.History, l.Outcome, l.Clock = c.h, c.outcome, c.clk
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

// acknowledged waits until clients were told of n more operations.
func (c *cluster) acknowledged(ctx context.Context, n int) error {
	const look, limit = 2 * time.Millisecond, 20 * time.Second
	from, end := c.h.Len(), c.clk.Monotonic()+limit
	for history.Count(c.h.Ops(from), history.OK) < n {
		if c.clk.Monotonic() > end {
			return fmt.Errorf("clients got fewer than %d answers within %v", n, limit)
		}
		if err := c.clk.Sleep(ctx, look); err != nil {
			return err
		}
	}
	return nil
}

// outcome says how a request ended that ended with an error. What is not certain is unknown.
func (c *cluster) outcome(err error) history.Outcome {
	var failed *node.Error
	if !errors.As(err, &failed) {
		return history.Unknown // the process ended, or something between us did
	}
	switch failed.Code {
	case node.CodeSQL, node.CodeClosed, node.CodeNotOpen:
		return history.Failed
	case node.CodeFenced:
		// In mode log a fenced commit is not in the log and never will be. In mode snapshot the swap may have been applied,
		// its reply lost, and a rival's made on top of it.
		if c.mode == engine.ModeLog {
			return history.Failed
		}
	}
	return history.Unknown
}

// objects reads the database's objects, records and manifest with their bodies.
func (c *cluster) objects(ctx context.Context) ([]check.Object, error) { return objectsOf(ctx, c.st) }

func objectsOf(ctx context.Context, st store.Store) ([]check.Object, error) {
	const atOnce = 16 // of a bucket that is far away
	var list []check.Object
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("list the bucket: %w", err)
		}
		list = append(list, check.Object{Key: a.Key, Size: a.Size})
	}
	gone := make([]bool, len(list))
	getting, inner := errgroup.WithContext(ctx)
	getting.SetLimit(atOnce)
	for i, o := range list {
		if o.Key != "manifest" && !strings.HasPrefix(o.Key, "wal/") {
			continue
		}
		getting.Go(func() error {
			whole, err := st.Get(inner, o.Key)
			if errors.Is(err, store.ErrNotFound) {
				gone[i] = true // collected meanwhile
				return nil
			}
			list[i].Body = whole.Body
			return err
		})
	}
	if err := getting.Wait(); err != nil {
		return nil, err
	}
	kept := list[:0]
	for i, o := range list {
		if !gone[i] {
			kept = append(kept, o)
		}
	}
	return kept, nil
}

// httpRules are the document's rules for the seam http.
func httpRules(faults []scenarioFault) (rules []gcsfront.Rule, names []string, err error) {
	for _, f := range faults {
		if f.Args.String("seam") != seamHTTP {
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
