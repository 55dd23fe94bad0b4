package node

import (
	"context"

	"blobpglite/core/engine"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/pointfault"
)

// injector returns the process's injector; seed counts only in the first call.
func (s *session) injector(seed uint64) *pointfault.Injector {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		in, err := pointfault.New(pointfault.Options{Seed: seed, Report: s.report, Clock: s.system})
		if err != nil {
			panic(err) // without rules there is nothing to reject
		}
		s.faults = in
	}
	return s.faults
}

// setFaults changes the rules, and counts.
func (s *session) setFaults(args FaultsArgs) (any, error) {
	in := s.injector(args.Seed)
	if args.Disarm {
		in.Disarm()
	}
	if args.Step != 0 {
		in.Step(args.Step)
	}
	if err := in.Arm(args.Rules); err != nil {
		return nil, err
	}
	if c := args.Clock; c != nil {
		if err := s.breakClock(*c); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	wire := s.wire
	s.mu.Unlock()
	var http []gcsfront.Fired
	if wire != nil {
		http = wire.Fired()
	}
	return FaultsResult{Fired: in.Fired(), Passed: in.Passed(), Parked: in.Parked(), Clock: s.clock.Fired(), HTTP: http}, nil
}

func (s *session) breakClock(c ClockFault) error {
	if c.Jump != 0 {
		s.clock.Jump(c.Jump)
	}
	if c.Drift != 0 {
		if err := s.clock.Drift(c.Drift); err != nil {
			return err
		}
	}
	if c.Freeze {
		s.clock.Freeze()
	}
	if c.Thaw {
		s.clock.Thaw()
	}
	return nil
}

func query(ctx context.Context, e *engine.Engine, args QueryArgs) (any, error) {
	results, err := e.Query(ctx, args.SQL)
	if err != nil {
		return nil, err
	}
	out := QueryResult{}
	for _, r := range results {
		out.Rows = append(out.Rows, r.Rows)
		out.Tags = append(out.Tags, r.Tag)
	}
	return out, nil
}
