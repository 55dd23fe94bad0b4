package platform

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// now is the platform's time: the system's, plus what Pass has skipped.
func (p *Platform) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// Now is the platform's time, the one in events' timestamps.
func (p *Platform) Now() time.Time { return p.now() }

// Pass skips time in which no request arrives instead of waiting for it. Everything that would happen in that time happens, in order: an
// idle instance whose time is up is told to end at that moment of its own clock, and the rest passes once it has ended. A frozen instance
// finds the time passed when it continues. An instance that has CPU without requests (CPU always) learns through SIGCONT that time has
// passed, and sees a jump of both its clocks: call Pass in steps that are short compared with what it waits for.
//
// Pass waits while an instance starts, serves or ends, because a jump would be wrong for it. Error: ctx's.
func (p *Platform) Pass(ctx context.Context, d time.Duration) error {
	end := p.now().Add(d)
	for {
		until := p.passUntil(end)
		if until == nil {
			return nil
		}
		select {
		case <-until:
		case <-ctx.Done():
			return fmt.Errorf("let %v pass: %w", d, ctx.Err())
		}
	}
}

// Stall takes the CPU from every instance for d, whatever it is doing, like a machine that is suspended or far too busy. An instance that
// is serving is billed for that time.
func (p *Platform) Stall(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.instances {
		if !i.frozen && i.cmd != nil {
			_ = i.cmd.Process.Signal(syscall.SIGSTOP)
		}
	}
	p.forward(d)
	for _, i := range p.instances {
		if !i.frozen && i.cmd != nil {
			_ = i.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
}

// forward advances time. p.mu is held.
func (p *Platform) forward(d time.Duration) {
	p.ahead.Add(int64(max(d, 0)))
	if p.o.Passed != nil {
		p.o.Passed(time.Duration(p.ahead.Load()))
	}
	for _, i := range p.instances {
		if i.idle != nil && i.state == ready && i.requests == 0 {
			i.idle.Reset(max(i.restsUntil.Sub(p.now()), 0))
		}
	}
}

// passUntil advances time to end, or to the moment when the first idle instance is ended. It returns a channel to wait for before the next
// call: an instance is working, or ending. Nil: all time has passed.
func (p *Platform) passUntil(end time.Time) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	var first *Instance
	for _, i := range p.instances {
		switch {
		case i.state != ready || i.requests > 0:
			return p.changed
		case p.dispensable(i) && i.restsUntil.Before(end) && (first == nil || i.restsUntil.Before(first.restsUntil)):
			first = i
		}
	}
	if first != nil {
		end = first.restsUntil
	}
	p.forward(end.Sub(p.now()))
	for _, i := range p.instances {
		if !i.frozen && i.cmd != nil {
			_ = i.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
	if first == nil {
		return nil
	}
	p.drain(first)
	return first.gone
}
