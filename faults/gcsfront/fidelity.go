package gcsfront

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
)

// truths lists what the bare emulator does right and the front relies on: conditions on uploads.
func truths() []lie {
	upload := func(want int, path func(g int64) string) func(w wire, g int64) bool {
		return func(w wire, g int64) bool {
			return w.do(http.MethodPost, path(g), strings.NewReader("new")).status == want
		}
	}
	at := func(key, condition string, offset int64) func(g int64) string {
		return func(g int64) string { return uploadPath(key, fmt.Sprintf("&%s=%d", condition, g+offset)) }
	}
	return []lie{
		{name: "create of a name that exists", real: "412", faithful: upload(412, func(int64) string { return uploadPath("key", "&ifGenerationMatch=0") })},
		{name: "create of a name that is absent", real: "200", faithful: upload(200, func(int64) string { return uploadPath("new", "&ifGenerationMatch=0") })},
		{name: "upload at a stale generation", real: "412", faithful: upload(412, at("key", "ifGenerationMatch", -1))},
		{name: "upload at the current generation", real: "200", faithful: upload(200, at("key", "ifGenerationMatch", 0))},
		{name: "upload unless the generation is the current one", real: "412", faithful: upload(412, at("key", "ifGenerationNotMatch", 0))},
		{name: "upload at a generation over an absent name", real: "412", faithful: upload(412, at("absent", "ifGenerationMatch", 0))},
	}
}

// Finding is the result of trying a row of the table.
type Finding struct {
	Name string
	Real string // what the service does (documented)
	Bare string // what the emulator does instead (measured); empty: the same, and the front relies on it
	// BareFaithful and FrontFaithful say whether each behaved like the service. For the front, refusing with 501 what it cannot do counts
	// as faithful.
	BareFaithful, FrontFaithful bool
	Refused                     bool // by the front
}

// Surprise returns what differs from the table; empty: nothing.
func (f Finding) Surprise() string {
	switch {
	case !f.FrontFaithful:
		return "the front does not do what the service does (" + f.Real + ")"
	case f.Bare == "" && !f.BareFaithful:
		return "the emulator no longer does what the service does (" + f.Real + "), and the front relies on it"
	case f.Bare != "" && f.BareFaithful:
		return "the emulator was mended: it now does what the service does (" + f.Real + "); take the row out, and what the front does about it"
	}
	return ""
}

// Fidelity tries the table of differences between the emulator and the service, row by row, on a new bare emulator and on a new front, on
// the loopback interface. An error means that the harness failed.
func Fidelity(ctx context.Context) ([]Finding, error) {
	defer http.DefaultClient.CloseIdleConnections()
	var found []Finding
	for _, row := range append(lies(), truths()...) {
		f := Finding{Name: row.name, Real: row.real, Bare: row.bare}
		err := onBare(ctx, func(base string) error {
			ok, err := row.try(ctx, base)
			f.BareFaithful = ok
			return err
		})
		if err != nil {
			return found, fmt.Errorf("%s: on the bare emulator: %w", row.name, err)
		}
		if f.FrontFaithful, f.Refused, err = row.onFront(ctx); err != nil {
			return found, fmt.Errorf("%s: on the front: %w", row.name, err)
		}
		found = append(found, f)
	}
	return found, nil
}

// onBare serves an unmodified emulator while do runs.
func onBare(ctx context.Context, do func(base string) error) error {
	emulator, err := newEmulator([]string{testBucket})
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: emulator.HTTPHandler(), ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()
	return do("http://" + listener.Addr().String())
}

// onFront tries a row on a front of its own.
func (l lie) onFront(ctx context.Context) (faithful, refused bool, err error) {
	front, err := New(Options{Buckets: []string{testBucket}})
	if err != nil {
		return false, false, err
	}
	base, stop, err := front.Serve(ctx)
	if err != nil {
		return false, false, err
	}
	defer stop()
	faithful, err = l.try(ctx, base)
	if !l.refused || err != nil {
		return faithful, false, err
	}
	// A refused request must not have changed anything.
	r := &attempt{ctx: ctx}
	var kept bool
	err = r.run(func() {
		body, ok := wire{r, base}.body("key")
		kept = ok && body == "body"
	})
	refused = front.Counters().Refused > 0
	return refused && kept, refused, err
}

// try puts the row's object, and tries the row.
func (l lie) try(ctx context.Context, base string) (faithful bool, err error) {
	r := &attempt{ctx: ctx}
	err = r.run(func() {
		w := wire{r, base}
		faithful = l.faithful(w, w.put("key", "body"))
	})
	return faithful, err
}

// attempt is a reporter that turns the end of a try into an error.
type attempt struct{ ctx context.Context }

// ended is what Fatalf panics with to leave a try.
type ended struct{ err error }

func (r *attempt) Context() context.Context          { return r.ctx }
func (r *attempt) Helper()                           {}
func (r *attempt) Fatalf(format string, args ...any) { panic(ended{fmt.Errorf(format, args...)}) }

func (r *attempt) run(try func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case ended:
			err = p.err
		default:
			panic(p)
		}
	}()
	try()
	return nil
}
