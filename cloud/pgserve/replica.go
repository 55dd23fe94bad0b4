package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/engine"
	"blobpglite/core/keeper"
	"blobpglite/core/replica"
	"blobpglite/core/store"
)

// checkReplica rejects flags that contradict -replica.
func (c *config) checkReplica() error {
	if c.replica && (c.store == "mem" || c.store == "fake-gcs") {
		return fmt.Errorf("-replica needs a database to follow, and -store %s ends with the process: give -bucket", c.store)
	}
	for _, address := range c.announce {
		if !isWeb(address) {
			return fmt.Errorf("-announce %q is not an HTTP address: write one such as https://reader.example", address)
		}
	}
	return nil
}

// isWeb says whether an address is that of an HTTP service.
func isWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// follow creates the replica, with -replica.
func (s *service) follow(st store.Store) error {
	o := s.engineOptions(store.ReadOnly(st))
	o.Create = false
	var err error
	s.replica, err = replica.New(replica.Options{Engine: o, Poll: s.c.poll, Idle: s.c.rest, MaxLag: s.c.maxLag, WaitLimit: s.c.waitLimit})
	return err
}

// following returns the replica, as long as the service is one; nil: it is the writer.
func (s *service) following() *replica.Replica {
	if s.promoted.Load() {
		return nil
	}
	return s.replica
}

// health returns what /healthz reports of a replica.
func (s *service) health() map[string]any {
	r := s.following()
	if r == nil {
		return nil
	}
	st := r.Status()
	told := map[string]any{
		"record": st.Seq, "epoch": st.Epoch, "position": st.Position.String(), "layer": st.Layer, "moves": st.Moves,
	}
	if st.Stopped != "" {
		told["stopped"] = st.Stopped
	} else {
		told["behind_ms"] = st.Behind.Milliseconds()
	}
	if st.Trouble != "" {
		told["trouble"] = st.Trouble
	}
	return map[string]any{"replica": told}
}

// routes returns a replica's additional HTTP routes.
func (s *service) routes() map[string]http.HandlerFunc {
	if s.replica == nil {
		return nil
	}
	return map[string]http.HandlerFunc{
		"POST /announce": func(w http.ResponseWriter, _ *http.Request) {
			if r := s.following(); r != nil {
				r.Announce()
			}
			w.WriteHeader(http.StatusNoContent)
		},
		"POST /promote": s.promoteMe,
	}
}

// promoted is the answer to POST /promote.
type promoted struct {
	Epoch   uint64  `json:"epoch,omitempty"`
	OpenMS  float64 `json:"open_ms,omitempty"`
	Error   string  `json:"error,omitempty"`
	Records int     `json:"records,omitempty"`
}

// promoteMe makes the service the writer.
func (s *service) promoteMe(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, p promoted) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(p)
	}
	s.promoting.Lock()
	defer s.promoting.Unlock()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	e, err := s.becomeWriter(ctx)
	if err != nil {
		s.c.log.Warn("the replica was not promoted", "error", err)
		answer(http.StatusServiceUnavailable, promoted{Error: err.Error()})
		return
	}
	o := e.Opened()
	s.c.log.Info("the replica was promoted", "epoch", o.Epoch, "ms", o.Wall.Milliseconds())
	answer(http.StatusOK, promoted{Epoch: o.Epoch, OpenMS: float64(o.Wall.Microseconds()) / 1000, Records: o.Records})
}

// becomeWriter opens the database for writing, alongside the replica, which continues during that, and also if it fails: the last writer's
// lease may have to expire first, and the bucket may not answer. It is an opening like any other: lease, fence, restore. Then that engine
// takes the replica's place. s.promoting is held.
func (s *service) becomeWriter(ctx context.Context) (*engine.Engine, error) {
	if !s.promoted.Load() {
		e, err := s.write(ctx)
		if err != nil {
			return nil, err
		}
		s.ready.Store(e)
		s.promoted.Store(true)
		s.replica.End(errPromoted)
	}
	e, err := s.current(ctx)
	if unused := s.ready.Swap(nil); unused != nil { // the service is ending
		err = errors.Join(err, unused.Close(context.WithoutCancel(ctx)))
	}
	return e, err
}

// promoteTries bounds how often to request an engine again that has already ended: one that still followed, or a writer that was fenced
// right away.
const promoteTries = 4

// current returns the engine that writes, once the replica has ended.
func (s *service) current(ctx context.Context) (e *engine.Engine, err error) {
	for range promoteTries {
		if e, err = s.keeper.Engine(ctx); err == nil {
			err = e.Err()
		}
		if err == nil || errors.Is(err, keeper.ErrClosed) || ctx.Err() != nil {
			return e, err
		} // otherwise it was an opening as a replica that had begun before
	}
	return nil, err
}

// errPromoted is why a replica's sessions end when it becomes the writer.
var errPromoted = errors.New("it becomes the writer")

// promoteTimeout bounds a promotion; most of it is for the lease of a writer that died.
const promoteTimeout = 5 * time.Minute

// promote tells a replica's service to become the writer.
func promote(ctx context.Context, c *config, args []string, out io.Writer) error {
	if !isWeb(args[0]) {
		return fmt.Errorf("promote %q: not an HTTP address; write one such as http://replica:8080", args[0])
	}
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	status, body, err := post(ctx, args[0], "/promote", c.token)
	if err != nil {
		return fmt.Errorf("promote %s: %w", args[0], err)
	}
	if status == http.StatusNotFound {
		return fmt.Errorf("promote %s: it is not a replica: only a service started with -replica can be promoted", args[0])
	}
	var p promoted
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusOK {
		return fmt.Errorf("promote %s: status %d: %s", args[0], status, strings.TrimSpace(string(body)))
	}
	fmt.Fprintf(out, "%s is now the writer, epoch %d; opening took %.0f ms\n", args[0], p.Epoch, p.OpenMS)
	return nil
}

// post sends a service a POST with the token.
func post(ctx context.Context, address, path, token string) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(address, "/")+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	return answer.StatusCode, body, err
}

// announcer tells replicas of commits: one request to each at a time; all commits during it lead to one more.
type announcer struct {
	kicks []chan struct{}
	stop  context.CancelFunc
	work  sync.WaitGroup
}

const announceTimeout = 2 * time.Second

func (s *service) announce() *announcer {
	if len(s.c.announce) == 0 {
		return nil
	}
	a := &announcer{}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	for _, address := range s.c.announce {
		kick := make(chan struct{}, 1)
		a.kicks = append(a.kicks, kick)
		a.work.Go(func() {
			for {
				select {
				case <-kick:
				case <-ctx.Done():
					return
				}
				bounded, cancel := context.WithTimeout(ctx, announceTimeout)
				status, _, err := post(bounded, address, "/announce", s.c.token)
				cancel()
				if err != nil || status != http.StatusNoContent {
					s.c.log.Debug("a replica was not notified of a commit", "replica", address, "status", status, "error", err)
				}
			}
		})
	}
	return a
}

// durable is called for each record that has become durable. It does not wait.
func (a *announcer) durable() {
	for _, kick := range a.kicks {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
}

func (a *announcer) close() {
	if a != nil {
		a.stop()
		a.work.Wait()
	}
}

// replicaFigures registers a replica's metrics.
func replicaFigures(registry prometheus.Registerer, r *replica.Replica) error {
	gauge := func(name, help string, value func(replica.Status) float64) error {
		return registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "blobpglite_replica_" + name, Help: help}, func() float64 { return value(r.Status()) }))
	}
	counter := func(name, help string, value func(replica.Status) int64) error {
		return registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "blobpglite_replica_" + name, Help: help}, func() float64 { return float64(value(r.Status())) }))
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return errors.Join(
		gauge("behind_seconds", "time since everything durable was replayed", func(s replica.Status) float64 { return s.Behind.Seconds() }),
		gauge("record", "number of the last record of the log that was replayed", func(s replica.Status) float64 { return float64(s.Seq) }),
		gauge("stopped", "1 while the replica is stopped, because a record is damaged or missing; the log and /healthz say which", func(s replica.Status) float64 { return flag(s.Stopped != "") }),
		gauge("resting", "1 while no client uses the replica, and it makes no requests", func(s replica.Status) float64 { return flag(s.Resting) }),
		counter("looks_total", "number of times the replica looked at the log", func(s replica.Status) int64 { return s.Looks }),
		counter("records_total", "records replayed, not counting openings", func(s replica.Status) int64 { return s.Records }),
		counter("moves_total", "moves to a newer layer", func(s replica.Status) int64 { return s.Moves }),
	)
}

// open opens the database for the keeper: as a replica, or to write.
func (s *service) open(ctx context.Context) (*engine.Engine, error) {
	if r := s.following(); r != nil {
		done := s.tellOpening(ctx)
		e, err := r.Open(ctx)
		if done(); s.following() != nil {
			return e, err
		}
		if err == nil { // it has been promoted by now
			r.End(errPromoted)
			e.Abandon()
		}
	}
	if e := s.ready.Swap(nil); e != nil {
		return e, nil
	}
	return s.write(ctx)
}
