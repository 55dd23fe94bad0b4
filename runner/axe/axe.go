// Package axe checks a web page with axe-core (github.com/dequelabs/axe-core), which knows the Web Content Accessibility Guidelines, in a
// browser started by a test:
//
//	a, err := axe.New(ctx)                                     // errors.Is(err, npm.ErrMissing): skip
//	view := axe.View{Path: "/page", Width: 360}
//	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
//		if !a.Serve(w, r, view) {                          // /axe, which the browser opens: the page in a frame of that width
//			page.ServeHTTP(w, r)
//		}
//	})
//	findings := <-a.Found                                      // once the page has been checked
//
// a answers /axe, /axe.js and /axe/found, from the page's origin; everything else is the page's. npm installs axe-core in the cache, at the
// version pinned here. The server of the page has to remove headers that forbid frames and foreign scripts: see Unguard.
package axe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"blobpglite/runner/npm"
)

// Package is what npm installs.
const Package = "axe-core@4.14.1"

// Axe serves axe-core to a browser, and receives its findings.
type Axe struct {
	Found  chan []Finding
	script []byte
}

// Finding is one rule that a page breaks.
type Finding struct {
	State  string   `json:"state"` // of the page
	ID     string   `json:"id"`
	Impact string   `json:"impact"` // minor, moderate, serious, critical
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"`
}

// Serious says whether the finding's impact is serious or critical, so that it keeps people from using the page.
func (f Finding) Serious() bool { return f.Impact != "minor" && f.Impact != "moderate" }

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s (%s): %s: %s", f.State, f.ID, f.Impact, f.Help, strings.Join(f.Nodes, " | "))
}

// New installs axe-core, unless that was done before. Errors: npm.ErrMissing.
func New(ctx context.Context) (*Axe, error) {
	cache := os.Getenv("BLOBPGLITE_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the user's cache: %w", err)
		}
		cache = filepath.Join(user, "blobpglite")
	}
	folder, err := npm.Install(ctx, cache, func(string, int64, int64) {}, Package)
	if err != nil {
		return nil, err
	}
	script, err := os.ReadFile(filepath.Join(folder, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		return nil, fmt.Errorf("read axe-core: %w", err)
	}
	return &Axe{Found: make(chan []Finding, 1), script: script}, nil
}

// View says how a page is checked.
type View struct {
	Path  string // of the page
	Width int    // pixels
	// States are named JavaScript functions that bring the page to a state. They are called one after the other with the frame's window,
	// may be asynchronous, and return a text if something is wrong. The page is checked after each. None: it is checked as it is.
	States []State
}

// State is a state of a page, and the JavaScript that brings it about.
type State struct{ Name, Script string }

// Serve answers requests that are for axe, and reports whether this one was.
func (a *Axe) Serve(w http.ResponseWriter, r *http.Request, v View) bool {
	switch r.URL.Path {
	case "/axe":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, page(v))
	case "/axe.js":
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(a.script)
	case "/axe/found":
		var list []Finding
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			list = []Finding{{ID: "unread", Impact: "critical", Help: err.Error()}}
		}
		a.Found <- list
	default:
		return false
	}
	return true
}

// Unguard removes headers with which a page forbids frames and foreign scripts.
func Unguard(h http.Header) {
	for _, name := range []string{"Content-Security-Policy", "X-Frame-Options", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"} {
		h.Del(name)
	}
}

// page has the page in a frame, brings it to its states, and runs axe in it.
func page(v View) string {
	if len(v.States) == 0 {
		v.States = []State{{Name: "as it is", Script: "() => {}"}}
	}
	var states strings.Builder
	for _, s := range v.States {
		name, _ := json.Marshal(s.Name)
		fmt.Fprintf(&states, "[%s, %s],\n", name, s.Script)
	}
	return fmt.Sprintf(frame, v.Path, v.Width, states.String())
}

const frame = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>axe</title>
<iframe src=%q style="width: %dpx; height: 740px; border: 0" title="page"></iframe>
<script>
const states = [
%s];
const found = [], page = document.querySelector("iframe");
const broke = (state, id, help) => found.push({state, id, impact: "critical", help, nodes: []});
async function look() {
	const w = page.contentWindow;
	await new Promise((done, failed) => {
		const s = w.document.createElement("script");
		s.src = "/axe.js"; s.onload = done; s.onerror = () => failed("axe.js was not loaded");
		w.document.head.append(s);
	});
	for (const [state, bring] of states) {
		const wrong = await bring(w);
		if (wrong) broke(state, "state", String(wrong));
		const seen = await w.axe.run(w.document, {resultTypes: ["violations"]});
		if (seen.passes.length === 0) broke(state, "nothing", "no rule was applied");
		for (const v of seen.violations)
			found.push({state, id: v.id, impact: v.impact || "serious", help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + (n.failureSummary || "").replaceAll("\n", " ").slice(0, 200))});
		if (w.document.documentElement.scrollWidth > w.innerWidth) broke(state, "width", "it is " + w.document.documentElement.scrollWidth + " wide in a frame of " + w.innerWidth);
	}
}
page.addEventListener("load", () => look().catch(e => broke("", "broke", String(e))).then(() => fetch("/axe/found", {method: "POST", body: JSON.stringify(found)})), {once: true});
</script>
`
