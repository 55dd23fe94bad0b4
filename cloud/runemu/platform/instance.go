package platform

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type state string

const (
	starting state = "starting"
	ready    state = "ready"
	draining state = "draining"
)

// Instance is one process. The platform's mutex guards its fields.
type Instance struct {
	ID       int
	Revision Revision

	p          *Platform
	tag        string
	state      state
	requests   int
	frozen     bool
	crashed    bool
	address    string
	proxy      *httputil.ReverseProxy
	cmd        *exec.Cmd // nil: not started yet
	up, gone   chan struct{}
	termed     bool
	killed     bool // perhaps before there was a process
	expected   bool // it was told to end
	why        string
	began      time.Time
	idle       *time.Timer
	restsUntil time.Time // time until which an instance without requests is kept
	account    account
}

const (
	probePause  = 5 * time.Millisecond
	memoryPause = 50 * time.Millisecond
	dutyPeriod  = 20 * time.Millisecond
	maxStarts   = 10
)

// start begins an instance. p.mu is held.
func (p *Platform) start(rev Revision, tag string) *Instance {
	p.next++
	i := &Instance{
		ID: p.next, Revision: rev, p: p, tag: tag, state: starting, up: make(chan struct{}), gone: make(chan struct{}), began: time.Now(),
	}
	p.instances[i.ID] = i
	i.account.begin(p.now())
	p.event(i, "start", "")
	p.wg.Go(func() { p.run(i) })
	return i
}

// run is the life of an instance.
func (p *Platform) run(i *Instance) {
	time.Sleep(p.o.StartDelay)
	err := p.spawn(i)
	if err == nil {
		ended := make(chan struct{})
		p.wg.Go(func() { p.probe(i, ended) })
		p.wg.Go(func() { p.guard(i, ended) })
		if p.o.Share < 1 {
			p.wg.Go(func() { p.throttle(i, ended) })
		}
		err = i.cmd.Wait()
		close(ended)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended(i, err)
}

// spawn starts the process.
func (p *Platform) spawn(i *Instance) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	cmd := exec.Command(i.Revision.Program, i.Revision.Args...)
	cmd.Env = append(append(os.Environ(), i.Revision.Env...), "PORT="+strconv.Itoa(port), "K_REVISION="+i.Revision.Name)
	dieWithParent(cmd)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	p.wg.Go(func() { p.listen(i, out) })
	p.mu.Lock()
	defer p.mu.Unlock()
	i.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	target := &url.URL{Scheme: "http", Host: i.address}
	i.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				http.Error(w, "the instance ended in the middle of the request: "+err.Error(), http.StatusBadGateway)
			}
		},
		FlushInterval: -1,
		Transport:     &http.Transport{DisableKeepAlives: true}, // so that no kept-alive connection leads to a frozen process
	}
	if p.closing {
		_ = in.Close()
		return errors.New("the platform is shutting down")
	}
	if err := cmd.Start(); err != nil {
		_ = in.Close()
		return err
	}
	i.cmd = cmd
	if i.termed {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	if i.killed {
		_ = cmd.Process.Kill()
	}
	p.wg.Go(func() { <-i.gone; _ = in.Close() })
	return nil
}

// listen passes the process's output on as events, and keeps its last line.
func (p *Platform) listen(i *Instance, out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		i.why = lines.Text()
		p.mu.Unlock()
		p.event(i, "log", lines.Text())
	}
	_, _ = io.Copy(io.Discard, out)
}

// probe waits until the process's port answers.
func (p *Platform) probe(i *Instance, ended chan struct{}) {
	deadline := time.Now().Add(p.o.StartTimeout)
	for {
		conn, err := net.DialTimeout("tcp", i.address, time.Second)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-ended:
			return
		case <-time.After(probePause):
		}
		if time.Now().After(deadline) {
			p.event(i, "kill", fmt.Sprintf("its port has not answered within %v", p.o.StartTimeout))
			p.mu.Lock()
			i.kill()
			p.mu.Unlock()
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.state != starting {
		return
	}
	i.state = ready
	p.failures = 0
	took := time.Since(i.began)
	p.starts = append(p.starts, took)
	p.starts = p.starts[max(0, len(p.starts)-maxStarts):]
	p.event(i, "ready", took.Round(time.Millisecond).String())
	close(i.up)
	p.rest(i)
	p.wake()
}

// busy changes the number of requests that an instance has. p.mu is held.
func (p *Platform) busy(i *Instance, by int) {
	i.requests += by
	switch {
	case by > 0 && i.requests == 1:
		if i.idle != nil {
			i.idle.Stop()
		}
		p.thaw(i)
		i.account.billed(p.now(), true)
	case i.requests == 0 && i.state == ready:
		p.rest(i)
	case i.requests == 0 && i.state == draining:
		p.term(i)
	}
}

// rest handles an instance without requests: it loses its CPU, and ends if no request arrives. p.mu is held.
func (p *Platform) rest(i *Instance) {
	cpu := cmp.Or(i.Revision.CPU, p.o.CPU)
	i.account.billed(p.now(), cpu == Always)
	if cpu == InRequests {
		p.freeze(i)
	}
	i.restsUntil = p.now().Add(p.o.Idle)
	i.idle = time.AfterFunc(p.o.Idle, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.dispensable(i) && !p.now().Before(i.restsUntil) {
			p.drain(i)
		}
	})
}

// dispensable says whether an instance may be ended once it has been idle for long enough. p.mu is held.
func (p *Platform) dispensable(i *Instance) bool {
	return i.state == ready && i.requests == 0 && (i.tag != "" || p.count("") > p.o.MinInstances)
}

func (p *Platform) freeze(i *Instance) {
	if !i.frozen && i.cmd != nil {
		i.frozen = true
		_ = i.cmd.Process.Signal(syscall.SIGSTOP)
		p.event(i, "freeze", "")
	}
}

func (p *Platform) thaw(i *Instance) {
	if i.frozen {
		i.frozen = false
		_ = i.cmd.Process.Signal(syscall.SIGCONT)
		p.event(i, "thaw", "")
	}
}

// throttle gives the process its share of CPU time.
func (p *Platform) throttle(i *Instance, ended chan struct{}) {
	on := time.Duration(float64(dutyPeriod) * p.o.Share)
	for running := true; ; running = !running {
		pause := on
		sig := syscall.SIGCONT
		if !running {
			pause, sig = dutyPeriod-on, syscall.SIGSTOP
		}
		p.mu.Lock()
		if !i.frozen {
			_ = i.cmd.Process.Signal(sig)
		}
		p.mu.Unlock()
		select {
		case <-ended:
			return
		case <-time.After(pause):
		}
	}
}

// guard kills a process that exceeds the memory limit.
func (p *Platform) guard(i *Instance, ended chan struct{}) {
	mib := cmp.Or(i.Revision.MemoryMiB, p.o.MemoryMiB)
	limit := int64(mib) << 20
	for {
		if rss := residentBytes(i.cmd.Process.Pid); rss > 0 {
			p.mu.Lock()
			i.account.peak = max(i.account.peak, rss)
			if rss > limit && !i.crashed {
				i.crashed = true
				p.event(i, "out of memory", fmt.Sprintf("%d MiB of %d", rss>>20, mib))
				i.kill()
			}
			p.mu.Unlock()
		}
		select {
		case <-ended:
			return
		case <-time.After(memoryPause):
		}
	}
}

// residentBytes is how many bytes a process has in memory; 0: unknown on this system.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// drain takes an instance out of rotation, and tells it to end once it has answered its requests. p.mu is held.
func (p *Platform) drain(i *Instance) {
	if i.state == draining {
		return
	}
	i.state = draining
	if i.idle != nil {
		i.idle.Stop()
	}
	if i.requests == 0 {
		p.term(i)
		return
	}
	// Requests do not keep it alive forever: Cloud Run tells a container to end whatever it is doing.
	time.AfterFunc(p.o.Grace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.term(i)
	})
}

// term sends SIGTERM, and SIGKILL after the grace period. The instance has CPU until then. p.mu is held.
func (p *Platform) term(i *Instance) {
	if i.termed {
		return
	}
	i.termed, i.expected = true, true
	i.account.billed(p.now(), true)
	p.thaw(i)
	p.event(i, "term", "")
	if i.cmd != nil {
		_ = i.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.AfterFunc(p.o.Grace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.event(i, "kill", fmt.Sprintf("it did not end within %v", p.o.Grace))
		i.why = "killed after the grace period"
		i.kill()
	})
	p.wg.Go(func() { <-i.gone; timer.Stop() })
}

// kill sends SIGKILL; from then on no request goes there. p.mu is held.
func (i *Instance) kill() {
	i.state, i.killed = draining, true
	if i.cmd != nil {
		_ = i.cmd.Process.Kill()
	}
}

// ended records that the process is gone. p.mu is held.
func (p *Platform) ended(i *Instance, err error) {
	if i.idle != nil {
		i.idle.Stop()
	}
	detail := "exit 0"
	if err != nil {
		detail = err.Error()
	}
	p.event(i, "exit", detail)
	if err != nil && i.why == "" {
		i.why = err.Error()
	}
	i.account.end(p.now())
	p.bill.add(i.account, p.o)
	delete(p.instances, i.ID)
	if !i.expected && i.tag == "" && !p.closing {
		p.failures++
		if p.failures > 1 { // one crash is forgiven
			wait := min(maxBackoff, time.Second<<min(p.failures-2, 6))
			p.until = p.now().Add(wait)
			p.event(i, "back off", wait.String())
		}
	}
	close(i.gone)
	p.wake()
}

func (i *Instance) pid() int {
	if i.cmd == nil {
		return 0
	}
	return i.cmd.Process.Pid
}

// reason is the last line that an instance printed.
func (i *Instance) reason() string {
	i.p.mu.Lock()
	defer i.p.mu.Unlock()
	return i.why
}
