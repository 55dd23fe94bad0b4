package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/httpapi"
	"blobpglite/core/keeper"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/pgwire"
	"blobpglite/core/replica"
	"blobpglite/core/store"
)

// service is everything that runs.
type service struct {
	c         *config
	id        string      // of this process
	clock     clock.Clock // started with the process
	loading   *loading
	life      context.Context // ends when the service begins to end
	end       context.CancelFunc
	write     func(context.Context) (*engine.Engine, error) // opens the database as its writer
	keeper    *keeper.Keeper
	store     *httpapi.Metered // where the database is
	announcer *announcer       // nil: no replica is told
	promoting sync.Mutex       // held by a promotion
	pg        *pgwire.Server
	api       *httpapi.API
	http      *http.Server
	failures  chan error
	replica   *replica.Replica              // nil: it is the writer from the beginning
	promoted  atomic.Bool                   // the replica has become the writer
	ready     atomic.Pointer[engine.Engine] // from a promotion, for the keeper to take
	listening atomic.Int64                  // when the listeners were open, in nanoseconds of clock
}

// serve runs until ctx ends.
func serve(ctx context.Context, c *config, _ []string, out io.Writer) (err error) {
	s := &service{c: c, id: store.NewWriteID(), clock: clock.System(), failures: make(chan error, 4)}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	defer s.end()
	defer func() { err = errors.Join(err, c.close()) }()
	boundHeap(c.containerBytes())
	s.load(ctx)
	defer func() { err = errors.Join(err, s.loading.close()) }()
	if err := s.build(ctx); err != nil {
		return err
	}
	if err := s.listen(ctx, out); err != nil {
		return errors.Join(err, s.stop())
	}
	s.listening.Store(int64(s.clock.Monotonic()))
	if c.wake {
		if _, err := s.keeper.Engine(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("the database could not be opened; the first connection tries again", "error", err)
		}
	}
	select {
	case <-ctx.Done():
	case err = <-s.failures:
	}
	return errors.Join(err, s.stop())
}

// build sets up everything that needs no client.
func (s *service) build(ctx context.Context) error {
	c := s.c
	c.create = !c.replica
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	st, err := c.open(ctx)
	if err != nil {
		return err
	}
	metered, err := httpapi.Meter(st, registry, s.clock)
	if err != nil {
		return err
	}
	s.store = metered
	if err := c.registerBilled(registry); err != nil {
		return err
	}
	if c.replica {
		if err := s.follow(metered); err != nil {
			return err
		}
		if err := replicaFigures(registry, s.replica); err != nil {
			return err
		}
	}
	s.announcer = s.announce()
	s.write = func(ctx context.Context) (*engine.Engine, error) {
		defer s.tellOpening(ctx)()
		o := s.engineOptions(metered)
		o.BeforeCreate = func(ctx context.Context) error { return probe(ctx, st) }
		if s.announcer != nil {
			o.Durable = s.announcer.durable
		}
		return engine.Open(ctx, o)
	}
	if s.keeper, err = keeper.New(keeper.Options{Clock: s.clock, Logger: c.log, Open: s.open}); err != nil {
		return err
	}
	if s.pg, err = s.server(); err != nil {
		return err
	}
	_, open := c.httpAddress()
	s.api, err = httpapi.New(httpapi.Options{
		Keeper: s.keeper, Token: c.token, Registry: registry, Clock: s.clock, Logger: c.log, Process: s.began, Health: s.health, Routes: s.routes(),
		// With a token any Host may be accepted: a page that reaches us through DNS rebinding does not know the token. On Cloud Run the
		// platform checks.
		Hosts: c.hosts, AnyHost: len(c.hosts) == 0 && (c.token != "" || open), MaxRequests: c.maxRequests, MaxSessions: c.httpSessions,
	})
	if err != nil {
		return err
	}
	s.http = s.api.Server()
	return httpapi.Gauges(registry, s.keeper, s.wire)
}

// wire returns the figures of the wire protocol's server, for the metrics.
func (s *service) wire() httpapi.Wire {
	st := s.pg.Stats()
	return httpapi.Wire{
		Clients:  map[string]int{"starting": st.Startups, "idle": st.Idle, "idle in transaction": st.InTransaction, "active": st.Active},
		Refusals: st.Refusals, Cancels: st.Cancels, Vanished: st.Vanished,
	}
}

// setUp makes everything that a start needs.
func setUp(ctx context.Context, c *config, _ []string, out io.Writer) (err error) {
	defer collectLess(c.containerBytes())()
	rt, err := pglite.NewRuntime(ctx, pglite.Options{Extensions: c.extensions, Progress: func(step string, _, _ int64) {
		fmt.Fprintln(out, step, "...")
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	if _, err := rt.Template(ctx, memfs.Options{}); err != nil {
		return err
	}
	if err := c.keepStarts(ctx, rt); err != nil {
		return err
	}
	fmt.Fprintf(out, "ready: %s\n", rt.CacheDir())
	return verifyInstall(ctx, c, nil, out)
}

// keepStarts keeps a started PostgreSQL for these flags, for this machine and for containers of two usual sizes, as some settings depend on
// the size.
func (c *config) keepStarts(ctx context.Context, rt *pglite.Runtime) error {
	for _, container := range []int64{c.container, 512 << 20, 1 << 30} {
		sized := *c
		sized.container = container
		if err := engine.KeepStart(ctx, rt, sized.start()); err != nil {
			return err
		}
	}
	return nil
}

// collectLess makes the garbage collector run less often: without it, collecting takes a tenth of a compilation's time. Memory stays within
// three quarters of the container's (in bytes; 0: unlimited) and within GOMEMLIMIT. undo restores the previous settings.
func collectLess(container int64) (undo func()) {
	percent := debug.SetGCPercent(setUpPercent)
	limit := debug.SetMemoryLimit(-1)
	if container > 0 {
		debug.SetMemoryLimit(min(limit, container/4*3))
	}
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

// setUpPercent is GOGC while set-up compiles.
const setUpPercent = 400

// verifyInstall hashes everything that set-up has made, or found.
func verifyInstall(ctx context.Context, c *config, _ []string, out io.Writer) error {
	v, err := pglite.VerifyInstallation(ctx, pglite.Options{Extensions: c.extensions})
	if err != nil {
		return fmt.Errorf("the installation is not as it was made: %w", err)
	}
	fmt.Fprintf(out, "sound: %d files and %d compilations in %s, %d bytes\n", v.Files, v.Compilations, v.CacheDir, v.Bytes)
	return nil
}

// probe checks that the store honours preconditions, before a database is made there.
func probe(ctx context.Context, st store.Store) error {
	p, ok := st.(interface{ Probe(context.Context) error })
	if !ok {
		return nil
	}
	if err := p.Probe(ctx); err != nil {
		return fmt.Errorf("probe the store: %w", err)
	}
	return nil
}

func (s *service) engineOptions(st store.Store) engine.Options {
	c := s.c
	host, err := os.Hostname()
	if err != nil {
		host = "pgserve"
	}
	c.warnTemporary()
	o := c.start()
	c.log.Info("memory", "container_bytes", c.containerBytes(), "cache_bytes", o.Cache, "shared_buffers", o.Settings["shared_buffers"])
	o.Load, o.Store, o.Create, o.Durability = s.loading.wait, st, true, engine.Durability(c.durability)
	o.FlushInterval, o.IdleFlush, o.LeaseTTL, o.AcquireTimeout = c.flushInterval, c.idleFlush, c.leaseTTL, c.acquire
	o.RestoreBudget, o.Retain, o.ReadMode, o.Answers = c.restoreBudget, c.retain, engine.ReadMode(c.readMode), engine.Answers(c.answers)
	o.Writer, o.Process, o.Address, o.Clock, o.Logger = host, s.id, c.listen, s.clock, c.log
	return o
}

// start returns the options that PostgreSQL's start depends on.
func (c *config) start() engine.Options {
	cache, settings := c.bounded()
	return engine.Options{
		MaxBytes: c.disk, MemoryLimit: c.memory, Cache: cache, TempMemory: c.tempMemory, TempDir: c.tempDir, Password: c.password,
		MaxClients: c.maxClients + c.httpSessions, Settings: settings, StatementTimeout: c.statementTimeout,
	}
}

func (s *service) server() (*pgwire.Server, error) {
	c := s.c
	o := pgwire.Options{
		Backend: pgwire.Engines(s.keeper), RequireTLS: c.requireTLS, MaxClients: c.maxClients, Clock: s.clock, Logger: c.log,
	}
	if c.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(c.tlsCert, c.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return pgwire.New(o)
}

// listen opens the listeners.
func (s *service) listen(ctx context.Context, out io.Writer) error {
	c := s.c
	wire, web := "", "" // where clients connect
	if c.listen != "" {
		l, err := listenOn(c.listen, c.password != "", "-password", "-listen")
		if err != nil {
			return err
		}
		s.servePG(ctx, l)
		fmt.Fprintf(out, "postgres  %s\n", l.Addr())
		wire = l.Addr().String()
		if c.password == "" {
			c.log.Warn("no password is set: anyone on this machine can connect, as any user")
		}
	}
	if c.socket != "" {
		l, err := listenSocket(c.socket)
		if err != nil {
			return err
		}
		s.servePG(ctx, l)
		fmt.Fprintf(out, "postgres  %s\n", c.socket)
	}
	if address, open := c.httpAddress(); address != "" {
		l, err := listenOn(address, c.token != "" || open, "-token", "-http")
		if err != nil {
			return err
		}
		go func() {
			if err := s.http.Serve(s.api.Limit(l)); !errors.Is(err, http.ErrServerClosed) {
				s.failures <- fmt.Errorf("serve HTTP: %w", err)
			}
		}()
		fmt.Fprintf(out, "http      %s\n", l.Addr())
		web = l.Addr().String()
	}
	if os.Getenv("K_SERVICE") == "" { // on Cloud Run there is no reader
		s.c.greet(out, wire, web)
	}
	return nil
}

// httpAddress is where the HTTP service listens: at -http, on $PORT if that is set, and on Cloud Run, which itself checks who may call, on
// all addresses (open).
func (c *config) httpAddress() (address string, open bool) {
	port := os.Getenv("PORT")
	if c.http == "" || port == "" {
		return c.http, false
	}
	if os.Getenv("K_SERVICE") != "" {
		return net.JoinHostPort("", port), true
	}
	host, _, err := net.SplitHostPort(c.http)
	if err != nil {
		return c.http, false
	}
	return net.JoinHostPort(host, port), false
}

func (s *service) servePG(ctx context.Context, l net.Listener) {
	go func() {
		if err := s.pg.Serve(context.WithoutCancel(ctx), l); !errors.Is(err, pgwire.ErrClosed) {
			s.failures <- err
		}
	}()
}

// listenOn listens. Without a secret, it accepts only addresses of this machine.
func listenOn(address string, secret bool, secretFlag, flag string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if ip := net.ParseIP(host); !secret && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address %q can be reached from other machines: set %s, or listen on 127.0.0.1", address, secretFlag)
	}
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("another program listens on %s: stop it, or choose another address with %s (port 0: any free one): %w", address, flag, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s, which %s sets: %w", address, flag, err)
	}
	return l, nil
}

// leave is how long the last flush and the release may take, after the grace period.
const leave = 90 * time.Second

// stop ends everything in order: no new work, running statements finish, commits become durable, the lease is released.
func (s *service) stop() error {
	s.c.log.Info("ending")
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), s.c.grace)
	defer cancel()
	requests := make(chan error, 1)
	go func() { requests <- s.stopHTTP(ctx) }()
	if err := errors.Join(s.pg.Shutdown(ctx), <-requests); err != nil {
		s.c.log.Warn("statements that were still running were ended", "after", s.c.grace.String())
	}
	last, cancel := context.WithTimeout(context.Background(), leave)
	defer cancel()
	s.promoting.Lock() // a promotion that was under way has ended; what it opened belongs to the keeper, or is closed
	defer s.promoting.Unlock()
	if err := s.keeper.Close(last); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	s.announcer.close()
	if s.replica != nil {
		if err := s.replica.Close(last); err != nil {
			return fmt.Errorf("close the replica: %w", err)
		}
	}
	s.c.log.Info("ended: everything is durable", s.c.billedAttrs()...)
	return nil
}

// stopHTTP lets requests finish until ctx ends, and ends their sessions.
func (s *service) stopHTTP(ctx context.Context) error {
	late := s.http.Shutdown(ctx)
	if late != nil {
		_ = s.http.Close()
	}
	return errors.Join(late, s.api.Close(ctx))
}
