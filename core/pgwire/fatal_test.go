package pgwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/lease"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
)

// TestFatalComesBetweenMessages: wherever the engine fails, the server's own error is sent between two messages, or not at all.
func TestFatalComesBetweenMessages(t *testing.T) {
	t.Parallel()
	stream, ends, _ := backendMessages(t)
	cuts := make(chan int, 1)
	d := serve(t, &stand{run: func(p *standProcess) error {
		if err := p.welcome(); err != nil {
			return err
		}
		at := <-cuts
		for from := 0; from < at; from += 100 {
			if _, err := p.answers.Write(stream[from:min(at, from+100)]); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w: the test", engine.ErrFenced)
	}})
	said := 0
	for at := 0; at <= len(stream); at++ {
		if at > 200 && at < len(stream)-200 && at%97 != 0 && !ends[at] {
			continue // in the middle of the long row one place is like another
		}
		conn, _ := d.raw()
		cuts <- at
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		rest, same := bytes.CutPrefix(got, stream[:at])
		if !same {
			t.Fatalf("at byte %d the answers were changed", at)
		}
		if ends[at] {
			said++
			if text := fmt.Sprint(heard(t, bytes.NewReader(rest))); text != "[FATAL 57P01]" {
				t.Errorf("at byte %d, between two messages, the client hears %s", at, text)
			}
		} else if len(rest) > 0 {
			t.Errorf("at byte %d, within a message, the client gets %q", at, rest)
		}
		_ = conn.Close()
	}
	if said != len(ends) {
		t.Errorf("%d ends of messages of %d", said, len(ends))
	}
}

// TestErrorsAreTold: each error of the engine has its SQLSTATE, both while connecting and in an open connection.
func TestErrorsAreTold(t *testing.T) {
	t.Parallel()
	fails := make(chan error, 1)
	var onDial bool
	d := serve(t, &stand{
		refuse: func(pglite.ConnectOptions) error {
			if onDial {
				return <-fails
			}
			return nil
		},
		run: func(p *standProcess) error {
			if err := p.welcome(); err != nil {
				return err
			}
			return <-fails
		},
	})
	for _, c := range []struct {
		err  error
		code string
	}{
		{engine.ErrFenced, "57P01"}, {engine.ErrUnknown, "08007"}, {engine.ErrClosed, "57P01"}, {fmt.Errorf("%w: %w", engine.ErrPoisoned, engine.ErrUnknown), "57P01"},
		{engine.ErrCrashed, "57P02"}, {engine.ErrStarting, "57P03"}, {pglite.ErrTooManyProcesses, "53300"}, {pglite.ErrAddressSpace, "53200"}, {&lease.LockedError{}, "57P03"}, {engine.ErrNoDatabase, "3D000"},
		{store.ErrDenied, "58000"}, {context.Canceled, "57P01"}, {errors.New("something"), "58000"},
	} {
		for _, onDial = range []bool{true, false} {
			if onDial {
				fails <- fmt.Errorf("wrapped: %w", c.err)
			}
			conn := d.dial()
			if _, err := conn.Write(startPacket(t, "user", "postgres")); err != nil {
				t.Fatal(err)
			}
			if !onDial {
				fails <- fmt.Errorf("wrapped: %w", c.err)
			}
			got := heard(t, conn)
			if len(got) == 0 || got[len(got)-1] != "FATAL "+c.code {
				t.Errorf("%v (at the beginning: %v): the client hears %v", c.err, onDial, got)
			}
		}
	}
}

// TestEndInOrderIsNotCommented: the last message of the process is the last that the client gets.
func TestEndInOrderIsNotCommented(t *testing.T) {
	t.Parallel()
	d := serve(t, &stand{run: func(p *standProcess) error {
		if err := p.welcome(); err != nil {
			return err
		}
		return p.say(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P05", Message: "idle"})
	}})
	_, f := d.raw()
	if got := ended(t, f); got != "57P05" {
		t.Error(got)
	}
	d.await(func() bool { return d.srv.Stats().Clients() == 0 })
}

// busy is a process that works on a request until the test lets it finish, or it is ended.
func busy(finish chan struct{}) func(p *standProcess) error {
	return func(p *standProcess) error {
		if err := p.welcome(); err != nil {
			return err
		}
		gone := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "terminating"}
		asked := make(chan struct{}, 1)
		go func() {
			for {
				if _, _, err := p.next(); err != nil {
					close(asked)
					return
				}
				asked <- struct{}{}
			}
		}()
		for {
			select {
			case _, ok := <-asked:
				if !ok {
					return nil
				}
				select {
				case <-finish:
					if err := p.say(&pgproto3.CommandComplete{CommandTag: []byte("DO")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}); err != nil {
						return nil
					}
				case <-p.terminated:
					return p.say(gone)
				}
			case <-p.terminated:
				return p.say(gone)
			}
		}
	}
}

// TestShutdown: a process that waits for its client is told immediately, a busy one may finish first; one that is busy longer than the
// grace period is ended.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, finishes := range []bool{true, false} {
		t.Run(fmt.Sprint(finishes), func(t *testing.T) {
			finish := make(chan struct{})
			d := serve(t, &stand{run: busy(finish)})
			idle, _ := d.raw()
			working, f := d.raw()
			starting := d.dial()
			f.Send(&pgproto3.Query{String: "x"})
			if err := f.Flush(); err != nil {
				t.Fatal(err)
			}
			d.await(func() bool { st := d.srv.Stats(); return st.Active == 1 && st.Idle == 1 && st.Startups == 1 })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			down := make(chan error, 1)
			go func() { down <- d.srv.Shutdown(ctx) }()
			if got := fmt.Sprint(heard(t, idle)); got != "[FATAL 57P01]" {
				t.Errorf("who waits for its client hears %s", got)
			}
			if got := fmt.Sprint(heard(t, starting)); got != "[FATAL 57P03]" {
				t.Errorf("who logs in hears %s", got)
			}
			want := "[CommandComplete ReadyForQuery FATAL 57P01]"
			if finishes {
				close(finish)
			} else {
				want = "[FATAL 57P01]"
				cancel()
			}
			if got := fmt.Sprint(heard(t, working)); got != want {
				t.Errorf("who is busy hears %s, want %s", got, want)
			}
			if err := <-down; finishes != (err == nil) {
				t.Error(err)
			}
			if conn, err := net.Dial("tcp", d.addr); err == nil {
				t.Error("a connection was taken after the end")
				_ = conn.Close()
			}
		})
	}
}

// TestShutdownDoesNotWaitForEver: a process that does not end is left to the engine.
func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	release := make(chan struct{})
	d := serve(t, &stand{run: func(p *standProcess) error {
		defer func() { <-release }()
		if err := p.welcome(); err != nil {
			return err
		}
		_, _, err := p.next()
		return err
	}}, func(o *Options) { o.Clock = clk })
	_, f := d.raw()
	f.Send(&pgproto3.Query{String: "x"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	d.await(func() bool { return d.srv.Stats().Active == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	down := make(chan error, 1)
	go func() { down <- d.srv.Shutdown(ctx) }()
	d.pending(clk)
	clk.Advance(cutPatience)
	if err := <-down; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
}
