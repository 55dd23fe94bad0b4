// Package rehearsal stands in for gcloud and Cloud Run on this machine, so that the code that drives them can be tried from end to end
// without leaving the machine.
//
//	g := rehearsal.New(rehearsal.Options{Program: pgserve, Endpoint: emulator})
//	s, err := cloudrun.New(cloudrun.Options{..., Run: g.Run, Pause: 20 * time.Millisecond})
//	...
//	err = g.Close(ctx)
//
// It understands only the command lines of package cloudrun; what gcloud would refuse, such as a service that does not exist or a revision
// name that is taken, it refuses. It uses the Cloud Run emulator: a deployment runs the program as a child process with the given
// environment, and starts an instance; instances are told to end by scaling to zero, by a newer revision, and when their tag is removed.
// Their logs have Cloud Logging's form.
//
// It has the limits of the Cloud Run emulator: see cloud/runemu/platform.
package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/cloud/runemu/platform"
)

// Options of New. Both are required.
type Options struct {
	Program  string // pgserve
	Endpoint string // of the emulator that is the bucket
}

// Gcloud is the stand-in. It is safe for concurrent use.
type Gcloud struct {
	o Options

	mu      sync.Mutex // of commands: one at a time
	service *service   // nil: there is none

	logs    sync.Mutex
	entries []entry
}

// service is the only possible service.
type service struct {
	name     string
	platform *platform.Platform
	front    *httptest.Server
	asleep   atomic.Bool // scaled to zero by hand: requests are refused
	latest   platform.Revision
	serving  string
	pinned   bool
	names    map[string]bool // of revisions
	tags     map[string]tagged
}

// tagged is a revision at an address of its own.
type tagged struct {
	revision string
	server   *httptest.Server
}

// entry is a line of the logs, in Cloud Logging's form.
type entry struct {
	Timestamp time.Time         `json:"timestamp"`
	Severity  string            `json:"severity"`
	LogName   string            `json:"logName"`
	Text      string            `json:"textPayload,omitempty"`
	JSON      map[string]any    `json:"jsonPayload,omitempty"`
	Labels    map[string]string `json:"labels"`
	Resource  resource          `json:"resource"`
}

type resource struct {
	Type   string            `json:"type"`
	Labels map[string]string `json:"labels"`
}

// New makes a stand-in without a service.
func New(o Options) *Gcloud { return &Gcloud{o: o} }

// Run does what a gcloud command line would do, and returns what gcloud would print.
func (g *Gcloud) Run(ctx context.Context, args []string) ([]byte, error) {
	c := parse(args)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, command := range []struct {
		words string
		do    func(context.Context, line) (any, error)
	}{
		{"run services list", g.list}, {"run services describe", g.describe}, {"run services update-traffic", g.traffic},
		{"run services update", g.scale}, {"run services delete", g.delete}, {"run deploy", g.deploy}, {"logging read", g.read},
	} {
		rest, ok := c.after(command.words)
		if !ok {
			continue
		}
		c.words = rest
		answer, err := command.do(ctx, c)
		if err != nil || answer == nil {
			return nil, err
		}
		return json.Marshal(answer)
	}
	return nil, fmt.Errorf("the rehearsal does not know gcloud %s", strings.Join(c.words, " "))
}

// line is a command line.
type line struct {
	words []string
	flags map[string]string
}

func parse(args []string) line {
	c := line{flags: map[string]string{}}
	for _, a := range args {
		if flag, ok := strings.CutPrefix(a, "--"); ok {
			name, value, _ := strings.Cut(flag, "=")
			c.flags[name] = value
		} else {
			c.words = append(c.words, a)
		}
	}
	return c
}

// after returns what follows the command's words, one word: a service or a filter. A list has none.
func (c line) after(words string) ([]string, bool) {
	command := strings.Fields(words)
	if len(c.words) < len(command) || strings.Join(c.words[:len(command)], " ") != words {
		return nil, false
	}
	return c.words[len(command):], true
}

// needs rejects a command line without these flags.
func (c line) needs(flags ...string) error {
	for _, f := range flags {
		if _, ok := c.flags[f]; !ok {
			return fmt.Errorf("argument --%s: must be specified", f)
		}
	}
	return nil
}

// target is the service that a command names.
func (g *Gcloud) target(c line, flags ...string) (*service, error) {
	if err := c.needs(append(flags, "project", "region", "quiet")...); err != nil {
		return nil, err
	}
	if len(c.words) != 1 || g.service == nil || g.service.name != c.words[0] {
		return nil, fmt.Errorf("cannot find service %q", c.words)
	}
	return g.service, nil
}

func (g *Gcloud) list(_ context.Context, c line) (any, error) {
	if err := c.needs("project", "region", "filter", "format"); err != nil {
		return nil, err
	}
	all := []map[string]any{}
	if g.service != nil && c.flags["filter"] == "metadata.name="+g.service.name {
		all = append(all, map[string]any{"metadata": map[string]string{"name": g.service.name}})
	}
	return all, nil
}

func (g *Gcloud) describe(_ context.Context, c line) (any, error) {
	s, err := g.target(c, "format")
	if err != nil {
		return nil, err
	}
	traffic := []map[string]any{{"revisionName": s.serving, "percent": 100}}
	for tag, t := range s.tags {
		traffic = append(traffic, map[string]any{"revisionName": t.revision, "tag": tag, "url": t.server.URL})
	}
	return map[string]any{"status": map[string]any{"url": s.front.URL, "traffic": traffic}}, nil
}

// revision parses what to deploy.
func (g *Gcloud) revision(c line) (platform.Revision, error) {
	r := platform.Revision{Name: c.words[0] + "-" + c.flags["revision-suffix"], Program: g.o.Program, Args: []string{"-listen", "", "-endpoint", g.o.Endpoint}, CPU: platform.InRequests}
	if _, always := c.flags["no-cpu-throttling"]; always {
		r.CPU = platform.Always
	}
	var err error
	memory := c.flags["memory"]
	switch {
	case strings.HasSuffix(memory, "Mi"):
		r.MemoryMiB, err = strconv.Atoi(strings.TrimSuffix(memory, "Mi"))
	case strings.HasSuffix(memory, "Gi"):
		r.MemoryMiB, err = strconv.Atoi(strings.TrimSuffix(memory, "Gi"))
		r.MemoryMiB *= 1024
	default:
		err = errors.New("write Mi or Gi")
	}
	if err != nil {
		return r, fmt.Errorf("argument --memory: %q: %w", memory, err)
	}
	// ^;^A=b;C=d: a delimiter other than the comma. See gcloud topic escaping.
	rest, found := strings.CutPrefix(c.flags["set-env-vars"], "^")
	delimiter, list, ok := strings.Cut(rest, "^")
	if !found || !ok || delimiter == "" {
		return r, fmt.Errorf("argument --set-env-vars: %q names no delimiter", c.flags["set-env-vars"])
	}
	r.Env = strings.Split(list, delimiter)
	return r, nil
}

func (g *Gcloud) deploy(ctx context.Context, c line) (any, error) {
	if err := c.needs("project", "region", "quiet", "image", "service-account", "revision-suffix", "memory", "cpu", "set-env-vars"); err != nil {
		return nil, err
	}
	if len(c.words) != 1 {
		return nil, fmt.Errorf("deploy: one service, not %q", c.words)
	}
	r, err := g.revision(c)
	if err != nil {
		return nil, err
	}
	if g.service == nil {
		if err := g.create(c.words[0]); err != nil {
			return nil, err
		}
	}
	s := g.service
	switch {
	case s.name != c.words[0]:
		return nil, fmt.Errorf("the rehearsal has one service, %s, not %s too", s.name, c.words[0])
	case s.names[r.Name]:
		return nil, fmt.Errorf("revision %s exists already", r.Name)
	}
	s.names[r.Name], s.latest = true, r
	if _, without := c.flags["no-traffic"]; without {
		return nil, s.tag(ctx, c.flags["tag"], r)
	}
	if s.pinned {
		return nil, nil // the traffic stays where it is
	}
	return nil, s.serve(ctx, r)
}

// create creates the service; nothing serves yet.
func (g *Gcloud) create(name string) error {
	p, err := platform.New(platform.Options{Revision: platform.Revision{Name: "none", Program: g.o.Program}, Event: func(e platform.Event) { g.heard(name, e) }})
	if err != nil {
		return err
	}
	s := &service{name: name, platform: p, names: map[string]bool{}, tags: map[string]tagged{}}
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.asleep.Load() {
			http.Error(w, "the service is scaled to zero", http.StatusServiceUnavailable)
			return
		}
		p.ServeHTTP(w, r)
	}))
	g.service = s
	return nil
}

// serve gives a revision all traffic, once an instance of it is up.
func (s *service) serve(ctx context.Context, r platform.Revision) error {
	if err := s.platform.Deploy(ctx, r); err != nil {
		return err
	}
	s.serving = r.Name
	return nil
}

// tag gives a revision an address of its own, and starts an instance.
func (s *service) tag(ctx context.Context, tag string, r platform.Revision) error {
	if tag == "" {
		return errors.New("a revision without traffic and without a tag cannot be reached")
	}
	handler := s.platform.Tagged(r)
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "/livez", nil)
	if err != nil {
		return err
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, q)
	if w.Code != http.StatusOK {
		return fmt.Errorf("the revision %s is not ready: %s", r.Name, w.Body)
	}
	s.pinned = true
	s.tags[tag] = tagged{r.Name, httptest.NewServer(handler)}
	return nil
}

func (g *Gcloud) traffic(ctx context.Context, c line) (any, error) {
	s, err := g.target(c)
	if err != nil {
		return nil, err
	}
	if tag, ok := c.flags["remove-tags"]; ok {
		t, ok := s.tags[tag]
		if !ok {
			return nil, fmt.Errorf("there is no tag %q", tag)
		}
		delete(s.tags, tag)
		err = s.shut(func(revision string) bool { return revision == t.revision })
		t.server.CloseClientConnections()
		t.server.Close()
	}
	if _, ok := c.flags["to-latest"]; ok && s.pinned {
		s.pinned = false
		err = errors.Join(err, s.serve(ctx, s.latest))
	}
	return nil, err
}

// shut tells the instances of revisions to go.
func (s *service) shut(which func(revision string) bool) error {
	var failed error
	for _, i := range s.platform.Instances() {
		if !which(i.Revision) {
			continue
		}
		if err := s.platform.Shut(i.ID); err != nil && s.platform.Gone(i.ID) != nil { // otherwise it has gone by itself
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (g *Gcloud) scale(_ context.Context, c line) (any, error) {
	s, err := g.target(c, "scaling")
	if err != nil {
		return nil, err
	}
	switch to := c.flags["scaling"]; to {
	case "auto":
		s.asleep.Store(false)
		return nil, nil
	case "0":
		s.asleep.Store(true)
		return nil, s.shut(func(revision string) bool { return revision == s.serving })
	default:
		return nil, fmt.Errorf("argument --scaling: the rehearsal knows 0 and auto, not %q", to)
	}
}

func (g *Gcloud) delete(ctx context.Context, c line) (any, error) {
	s, err := g.target(c)
	if err != nil {
		return nil, err
	}
	g.service = nil
	for _, t := range s.tags {
		t.server.CloseClientConnections()
	}
	s.front.CloseClientConnections()
	err = s.platform.Close(ctx)
	for _, t := range s.tags {
		t.server.Close()
	}
	s.front.Close()
	return nil, err
}

// Close ends the service, if its caller has not deleted it.
func (g *Gcloud) Close(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.service == nil {
		return nil
	}
	_, err := g.delete(ctx, line{words: []string{g.service.name}, flags: map[string]string{"project": "", "region": "", "quiet": ""}})
	return err
}

// heard keeps what an instance writes, and how it ends if not well.
func (g *Gcloud) heard(service string, e platform.Event) {
	l := entry{
		Timestamp: e.At, Severity: "DEFAULT", LogName: "projects/rehearsal/logs/run.googleapis.com%2Fstderr", Labels: map[string]string{"instanceId": strconv.Itoa(e.Instance)},
		Resource: resource{"cloud_run_revision", map[string]string{"service_name": service, "revision_name": e.Revision}},
	}
	switch {
	case e.What == "log" && json.Unmarshal([]byte(e.Detail), &l.JSON) == nil:
		l.special()
	case e.What == "log":
		l.Text = e.Detail
	case e.What == "out of memory" || e.What == "exit" && e.Detail != "exit 0":
		l.LogName, l.Severity = "projects/rehearsal/logs/run.googleapis.com%2Fvarlog%2Fsystem", "WARNING"
		l.Text = "Container ended: " + e.Detail
	default:
		return
	}
	g.logs.Lock()
	defer g.logs.Unlock()
	g.entries = append(g.entries, l)
}

// special extracts the entry's own fields from a structured line. Source: cloud.google.com/logging/docs/structured-logging, read November
// 2026.
func (l *entry) special() {
	if text, ok := l.JSON["time"].(string); ok {
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			l.Timestamp = at
			delete(l.JSON, "time")
		}
	}
	if severity, ok := l.JSON["severity"].(string); ok {
		l.Severity = severity
		delete(l.JSON, "severity")
	}
}

func (g *Gcloud) read(_ context.Context, c line) (any, error) {
	if err := c.needs("project", "order", "limit", "format"); err != nil {
		return nil, err
	}
	if len(c.words) != 1 {
		return nil, fmt.Errorf("one filter, not %q", c.words)
	}
	// The parts of a filter that the rehearsal honours.
	revision := regexp.MustCompile(`resource\.labels\.revision_name="([^"]*)"`).FindStringSubmatch(c.words[0])
	from := regexp.MustCompile(`timestamp>="([^"]*)"`).FindStringSubmatch(c.words[0])
	if revision == nil || from == nil {
		return nil, fmt.Errorf("the filter %q names no revision or no time", c.words[0])
	}
	at, err := time.Parse(time.RFC3339Nano, from[1])
	if err != nil {
		return nil, fmt.Errorf("the filter's time: %w", err)
	}
	g.logs.Lock()
	defer g.logs.Unlock()
	all := []entry{}
	for _, e := range g.entries {
		if e.Resource.Labels["revision_name"] == revision[1] && !e.Timestamp.Before(at) {
			all = append(all, e)
		}
	}
	return all, nil
}
