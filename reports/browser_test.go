package main

import (
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// auditScript checks the page in a frame, as someone with a narrow screen and a keyboard uses it, and sends what is wrong.
//
//go:embed testdata/audit.html
var auditScript string

// auditor serves the page in a frame, and receives what was found.
type auditor struct {
	pages http.Handler
	mu    sync.Mutex
	asked []string // other than the page and its pictures
	found chan []string
}

func (a *auditor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/audit":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, auditScript)
	case r.URL.Path == "/found":
		var list []string
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			list = []string{err.Error()}
		}
		a.found <- list
	case r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/pictures/"):
		a.pages.ServeHTTP(w, r)
	case r.URL.Path == "/favicon.ico": // the browser asks for it by itself
		http.NotFound(w, r)
	default:
		a.mu.Lock()
		a.asked = append(a.asked, r.URL.String())
		a.mu.Unlock()
		http.NotFound(w, r)
	}
}

// TestBrowser opens the page of this repository's results in a real browser: 360 pixels wide, with a keyboard, with what a screen reader
// needs, in both color schemes, and without resources from other sites.
func TestBrowser(t *testing.T) {
	program := chromium(t)
	for name, scheme := range map[string]string{"light": "1", "dark": "0"} {
		t.Run(name, func(t *testing.T) {
			a := &auditor{pages: pageHandler(".."), found: make(chan []string, 1)}
			s := httptest.NewServer(a)
			defer s.Close()
			for _, wrong := range a.audit(t, program, s.URL+"/audit?"+name, scheme) {
				t.Error(wrong)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if len(a.asked) > 0 {
				t.Errorf("the page asks for %v", a.asked)
			}
		})
	}
	if page := realPage(t); len(page) > maxPage {
		t.Errorf("the page has %d bytes", len(page))
	}
}

// chromium returns this machine's browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium on this machine (Debian: apt-get install chromium)")
	return ""
}

// audit runs the browser until the page has been checked.
func (a *auditor) audit(t *testing.T, program, address, scheme string) []string {
	t.Helper()
	defer browse(t, program, address, scheme)()
	list, ok := within(t, a.found)
	if !ok {
		return []string{"the browser is not through with the page"}
	}
	return list
}

// within waits for what a page sends.
func within[T any](t *testing.T, c <-chan T) (got T, ok bool) {
	t.Helper()
	select {
	case got = <-c:
		return got, true
	case <-time.After(5 * time.Minute): // for a browser that hangs: on a busy machine, an unfolded page takes minutes
		return got, false
	}
}

// browse opens a page in headless Chromium. The function that it returns ends that.
func browse(t *testing.T, program, address, scheme string) (stop func()) {
	t.Helper()
	// Files, because its own children may keep pipes open.
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--blink-settings=preferredColorScheme="+scheme,
		"--user-data-dir="+t.TempDir(), address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = said.Close()
		if t.Failed() {
			text, _ := os.ReadFile(said.Name())
			t.Log(string(text))
		}
	}
}
