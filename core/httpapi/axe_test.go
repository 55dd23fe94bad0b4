package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"blobpglite/core/store/mem"
	"blobpglite/runner/axe"
)

// states are those of the page, each reached by keyboard: the focus is where Tab would put it, Enter and Ctrl-Enter act like a click.
func states() []axe.State {
	const helpers = `
	const d = w.document, get = id => d.getElementById(id)
	const until = async f => { for (let i = 0; i < 1500 && !f(); i++) await new Promise(r => setTimeout(r, 20)); return f() }
	const reach = e => { e.focus(); return d.activeElement === e && w.getComputedStyle(e).visibility !== 'hidden' && e.getClientRects().length > 0 }
	const all = [...d.querySelectorAll('a[href], button, input, textarea')].filter(e => e.getClientRects().length > 0)
	const missed = all.filter(e => e.tabIndex < 0 || !reach(e)).map(e => e.outerHTML)
	if (missed.length) return 'the keyboard does not reach ' + missed.join(', ')
	// A focus that nobody sees is none.
	for (const e of all) { e.focus(); const s = w.getComputedStyle(e); if (s.outlineStyle === 'none' && s.boxShadow === 'none') return 'its focus is not to be seen: ' + e.outerHTML }
	`
	return []axe.State{
		{Name: "asks for the token", Script: `async w => {` + helpers + `
			return await until(() => !get('denied').hidden) ? '' : 'it does not ask for the token'
		}`},
		{Name: "with rows", Script: `async w => {` + helpers + `
			get('token').value = 'secret'
			get('enter').click()
			await until(() => get('figures').textContent.includes('State'))
			get('sql').value = "SELECT g AS number, repeat('x', 200) AS \"a long text\", NULL AS nothing FROM generate_series(1, 30) g"
			get('sql').focus()
			get('sql').dispatchEvent(new w.KeyboardEvent('keydown', {key: 'Enter', ctrlKey: true, bubbles: true}))
			return await until(() => get('said').textContent.includes('30 rows')) ? '' : 'Ctrl-Enter ran nothing: ' + get('said').textContent
		}`},
		{Name: "with an error and tables", Script: `async w => {` + helpers + `
			get('sql').value = 'SELECT 1/0'
			get('form').requestSubmit()
			if (!await until(() => get('said').textContent.includes('22012'))) return 'no error: ' + get('said').textContent
			get('list').click()
			return await until(() => get('tables').querySelectorAll('td').length > 0) ? '' : 'no tables'
		}`},
	}
}

// TestAxe checks the page with axe-core, in each of its states, on a narrow screen and a wide one, in both color schemes.
func TestAxe(t *testing.T) {
	t.Parallel()
	program := chromium(t)
	a, err := axe.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, scheme string
		width        int
	}{{"narrow, light", "1", 360}, {"wide, dark", "0", 1280}} {
		t.Run(c.name, func(t *testing.T) {
			s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.Token = "secret" })
			post(t, s, `{"sql":"CREATE TABLE seen (a int)"}`, "Authorization", "Bearer secret")
			to, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			through := &httputil.ReverseProxy{
				Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
				ModifyResponse: func(r *http.Response) error { axe.Unguard(r.Header); return nil },
			}
			view, finished := axe.View{Path: "/", Width: c.width, States: states()}, make(chan struct{})
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !a.Serve(w, r, view) {
					through.ServeHTTP(w, r)
				}
				if r.URL.Path == "/axe/found" {
					close(finished)
				}
			}))
			defer front.Close()
			browse(t, program, front.URL+"/axe", finished, "--blink-settings=preferredColorScheme="+c.scheme)
			if t.Failed() {
				return
			}
			for _, f := range <-a.Found {
				if f.Serious() {
					t.Error(f)
				} else {
					t.Log(f)
				}
			}
		})
	}
}
