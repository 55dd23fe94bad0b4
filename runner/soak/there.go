package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/serverless"
)

// liveThere is the soak on Cloud Run, in real time: the same traffic, chain and checks. An idle instance ends when Cloud Run says so. There
// it is not possible to kill an instance, take its CPU, step its clock or fail requests to the bucket; PostgreSQL's own protocol does not
// reach one.
func liveThere(ctx context.Context, r *bench.Run, sp span, hurry int) error {
	if hurry < 1 {
		return fmt.Errorf("hurry is %d: 1, or more in a rehearsal", hurry)
	}
	return serverless.WithService(ctx, r, serverless.Options{}, func(t *serverless.Service) error {
		s := &soak{
			Service: t, random: rand.New(rand.NewPCG(r.Seed, 0x736f616b)), begun: t.Clock.Now(), failed: make(chan error, 1), disturb: sp.disturb, hurry: hurry,
		}
		r.Notes = append(r.Notes, "on Cloud Run: revisions replaced and instances told to go, in the middle of writes; no kills, stalls, stepped clocks, "+
			"faults of the bucket, nor clients of PostgreSQL's own protocol")
		s.usual = []string{"-log", "info"}
		s.Fresh("db", s.usual...)
		for c := range soakClients - soakDrivers {
			s.chains = append(s.chains, newChain(c+1, r.Seed))
		}
		err := s.On(ctx, platform.Options{}, func() error { return s.live(ctx, sp.hours) })
		s.record(sp.hours)
		if err = lost(r, err); err == nil {
			err = s.after(ctx)
		}
		if err != nil || r.Failed() {
			err = errors.Join(err, s.keepFailure(ctx))
		}
		return err
	})
}

// planThere draws what happens in a burst on Cloud Run: after which write.
func (s *soak) planThere(n int) map[int]func() {
	plan := map[int]func(){}
	for range 1 + s.random.IntN(s.disturb) {
		at := 1 + s.random.IntN(n)
		if s.random.IntN(4) == 0 {
			plan[at] = s.goThere
		} else {
			plan[at] = s.replaceThere
		}
	}
	return plan
}

// replaceThere deploys another revision in the middle of the traffic. Cloud Run gets one command at a time.
func (s *soak) replaceThere() {
	s.atCloudRun(func(ctx context.Context) error {
		if err := s.next(ctx); err != nil {
			return err
		}
		s.switches.Add(1)
		return nil
	})
}

// goThere makes all instances end, by scaling to zero, and lets new ones come.
func (s *soak) goThere() {
	s.atCloudRun(func(ctx context.Context) error {
		if _, err := s.Leave(ctx); err != nil {
			return err
		}
		s.told.Add(1)
		return nil
	})
}

func (s *soak) atCloudRun(do func(context.Context) error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // a deployment takes half a minute, and now and then several
	defer cancel()
	if err := do(ctx); err != nil {
		select {
		case s.failed <- err:
		default:
		}
	}
}
