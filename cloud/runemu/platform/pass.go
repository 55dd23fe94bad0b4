package platform

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// now is the platform's time: the system's, plus what Pass has let pass.
func (p *Platform) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// Now is the platform's time, by which events are stamped.
func (p *Platform) Now() time.Time { return p.now() }

// Pass lets time pass in which no request comes, at once instead of waiting for it. Everything that would happen meanwhile happens, in order:
// an idle instance whose time is over is told to end at that moment of its own clock, and the rest passes when it has ended. A frozen instance
// finds the time passed when it goes on. An instance that has CPU without requests (CPU always) is told by SIGCONT that time has passed, and
// sees a jump of both its clocks: call Pass in steps that are short compared with what it waits for.
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

// Stall takes the CPU from every instance for d, whatever it does, like a machine that is suspended or far too busy. An instance that serves
// is billed for that time.
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

// forward moves time on. p.mu is held.
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

// passUntil moves time to end, or to the moment at which the first idle instance is ended. It returns a channel to wait for before it is
// called again: an instance is at work, or ending. Nil: all time has passed.
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
