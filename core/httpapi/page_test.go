package httpapi

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// driver is a person at the page: it runs after the page's own script, under the same policy, and reports what it saw.
const driver = `
;(async () => {
	const seen = {}
	const until = async f => { for (let i = 0; i < 1000 && !f(); i++) await new Promise(r => setTimeout(r, 20)); return f() }
	const run = async sql => {
		get('sql').value = sql
		get('said').textContent = ''
		get('form').requestSubmit()
		await until(() => get('said').textContent && get('said').textContent !== 'running')
		return get('said').textContent
	}
	try {
		seen.asks = await until(() => !get('denied').hidden)
		get('token').value = 'wrong'
		get('enter').click()
		await until(() => get('token').value === '')
		seen.wrong = await run('SELECT 1')
		get('token').value = 'secret'
		get('enter').click()
		await until(() => get('figures').textContent.includes('State'))
		seen.asleep = get('state').textContent
		seen.tag = await run("SELECT '<img src=x onerror=\"window.taken=1\"><script>window.taken=1</' || 'script>' AS \"<b>name</b>\", NULL AS n, '{\"a\":1}'::json AS j")
		seen.cells = [...get('rows').querySelectorAll('td')].map(e => e.textContent)
		seen.head = [...get('rows').querySelectorAll('th')].map(e => e.textContent)
		seen.markup = document.querySelectorAll('#rows img, #rows script, #rows b').length
		seen.error = await run('SELECT 1/0')
		seen.bad = get('said').className
		await run('CREATE TABLE "<i>mine</i>" (a int)')
		get('list').click()
		await until(() => get('tables').textContent.includes('mine'))
		seen.tables = [...get('tables').querySelectorAll('td')].map(e => e.textContent)
		await until(() => get('state').textContent === 'open')
		seen.open = get('state').textContent
		seen.figures = get('figures').textContent
		const inline = document.createElement('script')
		inline.textContent = 'window.taken = 1'
		document.body.append(inline)
		const far = document.createElement('img')
		far.src = 'OTHER/img'
		document.body.append(far)
		try { await fetch('OTHER/fetch', {mode: 'no-cors'}) ; seen.far = 'sent' } catch (e) { seen.far = 'refused' }
		seen.taken = window.taken === undefined ? 'no' : 'yes'
		seen.stored = localStorage.length + sessionStorage.length + document.cookie.length
	} catch (e) { seen.failed = String(e) }
	await fetch('/done', {method: 'POST', body: JSON.stringify(seen)})
})()`

// TestPage opens the page in a real browser, with a token, as a person would: the database's contents come out as text, and the policy
// keeps out everything foreign to the page.
func TestPage(t *testing.T) {
	t.Parallel()
	program := chromium(t)
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.Token = "secret" })
	var far atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { far.Add(1) }))
	t.Cleanup(other.Close)
	to, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	through.ModifyResponse = func(r *http.Response) error {
		if r.Request.URL.Path != "/page.js" {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		text := string(body) + strings.ReplaceAll(driver, "OTHER", other.URL)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Del("Content-Length")
		return err
	}
	finished := make(chan struct{})
	var seen struct {
		Asks                                                              bool
		Wrong, Asleep, Tag, Error, Bad, Open, Figures, Far, Taken, Failed string
		Cells, Head, Tables                                               []string
		Markup, Stored                                                    int
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/done" {
			through.ServeHTTP(w, r)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&seen); err != nil {
			t.Error(err)
		}
		close(finished)
	}))
	t.Cleanup(front.Close)
	browse(t, program, front.URL+"/", finished)
	if t.Failed() {
		return
	}
	hostile := `<img src=x onerror="window.taken=1"><script>window.taken=1</script>`
	for _, c := range []struct {
		what string
		ok   bool
	}{
		{"it asks for the token", seen.Asks && strings.Contains(seen.Wrong, "28000")},
		{"to look does not wake the database", seen.Asleep == "asleep"},
		{"cells are text", len(seen.Cells) == 3 && seen.Cells[0] == hostile && seen.Cells[1] == "null" && seen.Cells[2] == `{"a":1}`},
		{"names are text", len(seen.Head) == 3 && seen.Head[0] == "<b>name</b>" && seen.Markup == 0},
		{"rows are counted", seen.Tag == "SELECT 1: 1 rows"},
		{"an error is told", strings.Contains(seen.Error, "22012") && seen.Bad == "bad"},
		{"tables are listed", len(seen.Tables) == 4 && seen.Tables[1] == "<i>mine</i>"},
		{"figures are there", seen.Open == "open" && strings.Contains(seen.Figures, "epoch 1") && strings.Contains(seen.Figures, "Requests to the store")},
		{"nothing foreign runs, and nothing goes elsewhere", seen.Taken == "no" && seen.Far == "refused" && far.Load() == 0},
		{"the token is not kept", seen.Stored == 0},
		{"the driver was through", seen.Failed == ""},
	} {
		if !c.ok {
			t.Errorf("%s: not so: %+v", c.what, seen)
		}
	}
}

// TestPageHeaders: the page is for anyone allowed to connect, its figures for holders of the token.
func TestPageHeaders(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.Token = "secret" })
	address := s.Listener.Addr().String()
	for _, tt := range []struct {
		request string
		status  int
	}{
		{"GET / HTTP/1.1\nHost: HERE", 200}, {"GET /page.js HTTP/1.1\nHost: HERE", 200}, {"GET /page.css HTTP/1.1\nHost: HERE", 200},
		{"GET /page.go HTTP/1.1\nHost: HERE", 404}, {"GET /status.json HTTP/1.1\nHost: HERE", 401}, {"POST / HTTP/1.1\nHost: HERE", 405},
		{"GET /status.json HTTP/1.1\nHost: HERE\nAuthorization: Bearer secret", 200},
		{"GET / HTTP/1.1\nHost: HERE\nOrigin: https://evil.example\nSec-Fetch-Site: cross-site", 403},
		{"GET /status.json HTTP/1.1\nHost: HERE\nAuthorization: Bearer secret\nOrigin: https://evil.example", 403},
	} {
		answer := raw(t, address, strings.ReplaceAll(tt.request, "HERE", address), "")
		h := answer.Header
		if answer.StatusCode != tt.status {
			t.Errorf("%q: %d, want %d", tt.request, answer.StatusCode, tt.status)
		}
		if strings.HasPrefix(tt.request, "GET / ") && tt.status == 200 && (h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY") {
			t.Errorf("%q: headers %v", tt.request, h)
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q: a CORS header", tt.request)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error("the policy allows inline code")
	}
}

// TestStatusCounts: what the metered store has counted, and its price.
func TestStatusCounts(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	st, err := Meter(mem.New(mem.Options{}), registry, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), "a", []byte("12345"), "w", store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := st.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	var r statusReport
	if err := r.count(registry); err != nil || r.ClassA != 1 || r.ClassB != 3 || r.BytesUp != 5 || r.BytesDown != 15 {
		t.Errorf("%+v, %v", r, err)
	}
	if want := (0.005 + 3*0.0004) / 1000; math.Abs(r.RequestsUSD-want) > 1e-12 {
		t.Errorf("$%v, want $%v", r.RequestsUSD, want)
	}
}
