// Package progress shows people the progress of long work: as a bar on a terminal, elsewhere as an occasional line.
//
//	p := progress.New(os.Stderr)
//	defer p.Close()
//	p.Step("loading rows", done, total)
//	p.Line("e2.1 size=10MB: pass")
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// every is how often a line is printed about one step where there is no terminal.
const every = 2 * time.Second

// Reporter shows progress. It is safe for concurrent use.
type Reporter struct {
	mu       sync.Mutex
	out      *os.File
	terminal bool
	step     string
	total    int64
	last     time.Time
	bar      *progressbar.ProgressBar
}

// New reports to out, which is a terminal or not.
func New(out *os.File) *Reporter {
	return &Reporter{out: out, terminal: term.IsTerminal(int(out.Fd()))}
}

// Step sets what is being done, and how much of it is done. Total 0: not known.
func (r *Reporter) Step(step string, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.terminal {
		r.draw(step, done, total)
		return
	}
	now := time.Now()
	if step == r.step && now.Sub(r.last) < every && done != total {
		return
	}
	if step == r.step && done == total && total > 0 && done == r.total {
		return
	}
	r.step, r.last = step, now
	r.total = 0
	if done == total {
		r.total = total
	}
	if total > 0 {
		fmt.Fprintf(r.out, "%s: %d %%\n", step, done*100/total)
	} else if done > 0 {
		fmt.Fprintf(r.out, "%s: %d\n", step, done)
	} else {
		fmt.Fprintf(r.out, "%s ...\n", step)
	}
}

func (r *Reporter) draw(step string, done, total int64) {
	if r.bar == nil || step != r.step || total != r.total {
		r.finish()
		size := total
		if size <= 0 {
			size = -1 // a spinner
		}
		r.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(r.out), progressbar.OptionSetDescription(step),
			progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
		r.step, r.total = step, total
	}
	_ = r.bar.Set64(done)
}

func (r *Reporter) finish() {
	if r.bar != nil {
		_ = r.bar.Clear()
		r.bar = nil
	}
}

// Line prints a line above what is shown.
func (r *Reporter) Line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish()
	fmt.Fprintf(r.out, format+"\n", args...)
}

// Above returns a writer to w, such as the standard output of the same terminal, that removes the bar before it writes.
func (r *Reporter) Above(w io.Writer) io.Writer { return above{r, w} }

type above struct {
	r *Reporter
	w io.Writer
}

func (a above) Write(b []byte) (int, error) {
	a.r.mu.Lock()
	defer a.r.mu.Unlock()
	a.r.finish()
	return a.w.Write(b)
}

// Close removes the bar.
func (r *Reporter) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish()
}
