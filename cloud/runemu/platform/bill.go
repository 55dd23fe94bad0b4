package platform

import (
	"fmt"
	"time"
)

// Prices, in US dollars. Source: cloud.google.com/run/pricing (tier 1), read November 2026.
const (
	RequestVCPUSecond  = 0.000024  // request-based, while billed
	RequestGiBSecond   = 0.0000025 // request-based, while billed
	InstanceVCPUSecond = 0.000018  // instance-based, the whole life
	InstanceGiBSecond  = 0.000002  // instance-based, the whole life
	IdleVCPUSecond     = 0.0000025 // request-based, an idle instance that is kept (min-instances)
	IdleGiBSecond      = 0.0000025 // request-based, an idle instance that is kept (min-instances)
	MillionRequests    = 0.40      // request-based
	billingStep        = 100 * time.Millisecond

	FreeVCPUSeconds = 180_000 // a month, request-based
	FreeGiBSeconds  = 360_000
	FreeRequests    = 2_000_000
)

// account adds up an instance's time.
type account struct {
	began  time.Time
	since  time.Time // start of the current billed stretch
	on     bool      // it is being billed
	active time.Duration
	life   time.Duration
	peak   int64
}

func (a *account) begin(now time.Time) { a.began, a.since, a.on = now, now, true }

// billed begins or ends a billed stretch; each one is rounded up.
func (a *account) billed(now time.Time, on bool) {
	if a.on && !on {
		a.active += roundUp(now.Sub(a.since))
	}
	if !a.on && on {
		a.since = now
	}
	a.on = on
}

func (a *account) end(now time.Time) {
	a.billed(now, false)
	a.life = now.Sub(a.began)
}

func roundUp(d time.Duration) time.Duration { return (d + billingStep - 1) / billingStep * billingStep }

// Bill is what a service has used.
type Bill struct {
	Instances    int
	Requests     int64
	Active       time.Duration // of instances: serving, starting, ending
	Life         time.Duration // of instances, including idle time
	PeakRSSBytes int64
	VCPU         float64
	MemoryGiB    float64
	USD          float64 // at list price, without the free tier
}

// add adds an instance that has ended.
func (b *Bill) add(a account, o Options) {
	b.Instances++
	b.Active += a.active
	b.Life += a.life
	b.PeakRSSBytes = max(b.PeakRSSBytes, a.peak)
}

// Bill returns what was used until now.
func (p *Platform) Bill() Bill {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, now := p.bill, p.now()
	for _, i := range p.instances {
		a := i.account
		a.end(now)
		b.add(a, p.o)
	}
	b.VCPU, b.MemoryGiB = p.o.VCPU, float64(p.o.MemoryMiB)/1024
	b.USD = b.Cost(p.o)
	return b
}

// Cost is the price of what was used, by the price table, in US dollars, without the free tier. Of o it uses CPU and MinInstances.
func (b Bill) Cost(o Options) float64 {
	if o.CPU == Always {
		return b.Life.Seconds() * (b.VCPU*InstanceVCPUSecond + b.MemoryGiB*InstanceGiBSecond)
	}
	usd := b.Active.Seconds()*(b.VCPU*RequestVCPUSecond+b.MemoryGiB*RequestGiBSecond) + float64(b.Requests)/1e6*MillionRequests
	if o.MinInstances > 0 {
		usd += (b.Life - b.Active).Seconds() * (b.VCPU*IdleVCPUSecond + b.MemoryGiB*IdleGiBSecond)
	}
	return usd
}

// BeyondFree is the price of a month, request-based, in US dollars, after the free tier. An account has one free tier for all its services.
func (b Bill) BeyondFree() float64 {
	active := b.Active.Seconds()
	return max(0, active*b.VCPU-FreeVCPUSeconds)*RequestVCPUSecond + max(0, active*b.MemoryGiB-FreeGiBSeconds)*RequestGiBSecond +
		float64(max(0, b.Requests-FreeRequests))/1e6*MillionRequests
}

// String returns the bill in one line.
func (b Bill) String() string {
	return fmt.Sprintf("%d instances, %d requests, %.1f s billed of %.1f s alive, peak %d MiB, $%.6f at list price",
		b.Instances, b.Requests, b.Active.Seconds(), b.Life.Seconds(), b.PeakRSSBytes>>20, b.USD)
}
