package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/replica"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// durationBound is the allowed range of a flag.
type durationBound struct {
	flag      string
	value     time.Duration
	low, high time.Duration
	below     bool // a negative value is allowed; the flag's help says what it means
}

// bounds rejects values that are out of range, before anything is opened. It checks only flags that the command has.
func (c *config) bounds(f *flag.FlagSet) error {
	for _, b := range []durationBound{
		{flag: "lease-ttl", value: c.leaseTTL, low: 100 * time.Millisecond, high: time.Hour},
		{flag: "acquire-timeout", value: c.acquire, high: day},
		{flag: "flush-interval", value: c.flushInterval, low: time.Millisecond, high: time.Hour},
		{flag: "idle-flush", value: c.idleFlush, low: time.Millisecond, high: day},
		{flag: "restore-budget", value: c.restoreBudget, high: day, below: true},
		{flag: "retain", value: c.retain, high: 100 * year},
		{flag: "statement-timeout", value: c.statementTimeout, high: year},
		{flag: "poll", value: c.poll, low: replica.LeastPoll, high: replica.MostPoll},
		{flag: "rest", value: c.rest, low: time.Millisecond, high: day},
		{flag: "max-lag", value: c.maxLag, high: day},
		{flag: "wait-limit", value: c.waitLimit, low: time.Millisecond, high: time.Hour},
		{flag: "grace", value: c.grace, high: day},
	} {
		if f.Lookup(b.flag) == nil || b.below && b.value < 0 {
			continue
		}
		if b.value < b.low || b.value > b.high {
			also := ""
			if b.below {
				also = ", or negative"
			}
			return fmt.Errorf("-%s %v is out of range: it must be from %v to %v%s", b.flag, b.value, b.low, b.high, also)
		}
	}
	bounded := c.cache
	if bounded == allInMemory {
		bounded = 0
	}
	temp := c.tempMemory
	if temp == anyMemory {
		temp = 0
	}
	for _, b := range []struct {
		flag             string
		value, low, high int64
		zero             bool
	}{
		{"memory-limit", c.memory, leastMemory, mostMemory, true},
		{"disk-limit", c.disk, leastDisk, 1 << 50, true},
		{"cache", bounded, engine.LeastCache, 1 << 50, true},
		{"temp-memory", temp, leastTemp, 1 << 50, true},
		{"container-memory", c.container, leastMemory, 1 << 50, true},
		{"max-clients", int64(c.maxClients), 1, mostClients, false},
		{"http-sessions", int64(c.httpSessions), 1, mostClients, false},
		{"max-requests", int64(c.maxRequests), 1, mostConnections, false},
	} {
		if f.Lookup(b.flag) == nil || b.zero && b.value == 0 {
			continue
		}
		if b.value < b.low || b.value > b.high {
			zero := ""
			if b.zero {
				zero = ", or 0"
			}
			return fmt.Errorf("-%s %d is out of range: it must be from %d to %d%s", b.flag, b.value, b.low, b.high, zero)
		}
	}
	return errors.Join(c.secrets(), c.addresses(f), c.temporary())
}

const (
	leastMemory     = 128 << 20 // PostgreSQL has this much from its start
	mostMemory      = 2 << 30   // the address space of a memory; see core/pglite
	leastTemp       = 1 << 20   // of temporary files
	leastDisk       = 64 << 20  // a new database takes more than half of it
	mostClients     = 2000      // about 6 GB of processes
	mostConnections = 100_000
)

// secrets rejects passwords and tokens that no client could send, such as one that ends with the newline of a command's output.
func (c *config) secrets() error {
	c.token, c.password = strings.TrimRight(c.token, "\r\n"), strings.TrimRight(c.password, "\r\n")
	for _, ch := range c.token {
		if ch <= ' ' || ch > '~' {
			return fmt.Errorf("-token contains the character %q, which is not allowed in an HTTP header: use letters and digits", ch)
		}
	}
	for _, ch := range c.password {
		if ch < ' ' || ch == 0x7f {
			return fmt.Errorf("-password contains the control character %q: remove it", ch)
		}
	}
	return nil
}

// addresses rejects malformed addresses.
func (c *config) addresses(f *flag.FlagSet) error {
	if f.Lookup("listen") != nil {
		for name, address := range map[string]string{"listen": c.listen, "http": c.http} {
			if address == "" {
				continue
			}
			if _, _, err := net.SplitHostPort(address); err != nil {
				return fmt.Errorf("-%s %q is not an address: write host:port, such as 127.0.0.1:5432", name, address)
			}
		}
		for _, host := range c.hosts {
			if strings.ContainsAny(host, "/@?# *") {
				return fmt.Errorf("-http-host %q is not a host name: write only the name, such as db.example", host)
			}
		}
	}
	if c.endpoint != "" {
		u, err := url.Parse(c.endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("-endpoint %q is not a base URL: write one such as http://127.0.0.1:4443", c.endpoint)
		}
	}
	return nil
}
