package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"blobpglite/core/store/mem"
)

// page is what a malicious web page tries. It requests /done on its own server when it is finished. %[1]s is the service's address as seen
// from the page, %[2]s distinguishes the tables.
const page = `<!doctype html><body><iframe name=out></iframe>
<form id=f method=post enctype=text/plain target=out action="%[1]s/sql"><input name='{"sql":"CREATE TABLE %[2]s_form (a int)","params":[],"x":"' value='"}'></form>
<form id=g method=post target=out action="%[1]s/sql"><input name=sql value="CREATE TABLE %[2]s_urlencoded (a int)"></form>
<script>
const sql = what => '{"sql":"CREATE TABLE %[2]s_' + what + ' (a int)"}'
const tries = [
	() => fetch('%[1]s/sql', {method: 'POST', mode: 'no-cors', body: sql('text')}),
	() => fetch('%[1]s/sql', {method: 'POST', mode: 'no-cors', body: new Blob([sql('blob')])}),
	() => fetch('%[1]s/sql', {method: 'POST', mode: 'no-cors', body: sql('hidden'), referrerPolicy: 'no-referrer', credentials: 'omit'}),
	() => fetch('%[1]s/sql', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: sql('json')}),
	() => fetch('%[1]s/sql', {method: 'POST', headers: {'Content-Type': 'application/json', 'Authorization': 'Bearer x'}, body: sql('token')}),
	() => fetch('%[1]s/healthz', {mode: 'no-cors'}),
	() => fetch('%[1]s/metrics').then(a => a.text()).then(t => { if (t.includes('blobpglite_open')) return fetch('/read', {method: 'POST'}) }),
	() => navigator.sendBeacon('%[1]s/sql', sql('beacon')),
	() => document.getElementById('f').submit(),
	() => new Promise(r => setTimeout(r, 300)),
	() => document.getElementById('g').submit(),
	() => new Promise(r => setTimeout(r, 300)),
];
(async () => {
	for (const t of tries) { try { await t() } catch (e) {} }
	await fetch('/done', {method: 'POST'})
})()
</script>`

// network is the browser's Internet: a proxy that serves a page of another site, one whose name changes to the service's address (DNS
// rebinding), and the service.
type network struct {
	service string // its address
	forward *httputil.ReverseProxy

	mu       sync.Mutex
	asked    []string // requests to the service, with their outcomes
	loose    []string // those of them that were let in
	read     bool     // a page has read an answer
	finished map[string]chan struct{}
}

const (
	otherSite = "evil.test"
	rebound   = "rebound.test"
)

func newNetwork(service string) *network {
	n := &network{service: service, finished: map[string]chan struct{}{otherSite: make(chan struct{}), rebound: make(chan struct{})}}
	n.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: service})
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			q := r.Request
			line := fmt.Sprintf("%s %s Host=%s Origin=%s Sec-Fetch-Site=%s Content-Type=%s: %d", q.Method, q.URL.Path, q.Host, q.Header.Get("Origin"),
				q.Header.Get("Sec-Fetch-Site"), q.Header.Get("Content-Type"), r.StatusCode)
			n.asked = append(n.asked, line)
			if r.StatusCode < 400 {
				n.loose = append(n.loose, line)
			}
			return nil
		},
	}
	return n
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Hostname()
	own := name == otherSite || name == rebound
	switch {
	case own && r.URL.Path == "/":
		to := "http://" + n.service
		if name == rebound {
			to = "" // the page's own origin, which is the service by now
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, page, to, strings.TrimSuffix(name, ".test"))
	case own && r.URL.Path == "/done":
		n.mu.Lock()
		defer n.mu.Unlock()
		select {
		case <-n.finished[name]:
		default:
			close(n.finished[name])
		}
	case own && r.URL.Path == "/read":
		n.mu.Lock()
		defer n.mu.Unlock()
		n.read = true
	case name == rebound || r.URL.Host == n.service:
		n.forward.ServeHTTP(w, r)
	default:
		http.NotFound(w, r) // the browser's own requests
	}
}

// browse opens a page in headless Chromium, and waits until the page has finished.
func (n *network) browse(t *testing.T, program, proxy, address, name string) {
	t.Helper()
	browse(t, program, address, n.finished[name], "--proxy-server="+proxy, "--proxy-bypass-list=<-loopback>")
}

// browse opens a page in headless Chromium, and waits until it says that it has finished.
func browse(t *testing.T, program, address string, finished <-chan struct{}, flags ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.Command(program, append(append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--user-data-dir=" + t.TempDir()}, flags...), address)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	over := false
	select {
	case <-finished:
	case err := <-gone:
		over = true
		t.Errorf("%s ended before the page was through: %v", program, err)
	case <-ctx.Done():
		t.Errorf("%s is not through with the page", program)
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if !over {
		<-gone
	}
	if t.Failed() {
		t.Log(said.String())
	}
}

// chromium is the browser of this machine.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium on this machine (Debian: apt-get install chromium); TestWebPages sends what it would")
	return ""
}

// TestBrowser opens other sites' pages in a real browser, next to a developer's service: no token, on loopback. TestWebPages sends the same
// requests, and more, where there is no browser.
func TestBrowser(t *testing.T) {
	t.Parallel()
	program := chromium(t)
	s := service(t, onStore(mem.New(mem.Options{})))
	n := newNetwork(s.Listener.Addr().String())
	front := httptest.NewServer(n)
	t.Cleanup(front.Close)
	_, port, _ := strings.Cut(n.service, ":")
	n.browse(t, program, front.URL, "http://"+otherSite+"/", otherSite)
	n.browse(t, program, front.URL, "http://"+rebound+":"+port+"/", rebound)

	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.asked) < 10 {
		t.Errorf("the pages have sent %d requests only: %s", len(n.asked), strings.Join(n.asked, "\n"))
	}
	if len(n.loose) > 0 || n.read {
		t.Errorf("let in: %s; read: %v", strings.Join(n.loose, "\n"), n.read)
	}
	_, body, _ := post(t, s, `{"sql":"SELECT coalesce(string_agg(relname, ' '), 'none') FROM pg_class WHERE relname ~ '^(evil|rebound)_'"}`)
	if !strings.Contains(body, `[["none"]]`) {
		t.Errorf("pages have made tables: %s", body)
	}
	t.Log(strings.Join(n.asked, "\n"))
}
