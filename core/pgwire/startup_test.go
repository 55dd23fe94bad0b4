package pgwire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

// waits is a process that lets its client in, and waits for it.
func waits(p *standProcess) error {
	if err := p.welcome(); err != nil {
		return nil
	}
	for {
		if _, _, err := p.next(); err != nil {
			return nil
		}
	}
}

// TestAbuseBeforeTheStart: an invalid startup packet is reported as such, and starts no process.
func TestAbuseBeforeTheStart(t *testing.T) {
	t.Parallel()
	behind := &stand{run: waits}
	d := serve(t, behind)
	ssl, gss := requestPacket(codeSSL), requestPacket(codeGSS)
	for name, c := range map[string]struct {
		sent []byte
		code string
	}{
		"garbage":            {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "08P01"},
		"2 GB":               {[]byte{0x80, 0, 0, 0, 0, 3, 0, 0}, "08P01"},
		"too long":           {binary.BigEndian.AppendUint32(nil, maxStartup+1), "08P01"},
		"too short":          {[]byte{0, 0, 0, 4, 0, 3, 0, 0}, "08P01"},
		"a cancel, no key":   {[]byte{0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1}, "08P01"},
		"goodbye, first":     {[]byte{'X', 0, 0, 0, 4}, ""},
		"request on request": {bytes.Join([][]byte{ssl, gss, ssl, ssl}, nil), "08P01"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := d.dial()
			if _, err := conn.Write(c.sent); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprint(heard(t, bytes.NewReader(bytes.TrimLeft(got, "N")))); c.code != "" && text != "[FATAL "+c.code+"]" || c.code == "" && len(got) > 0 {
				t.Error(text)
			}
		})
	}
	for _, part := range [][]byte{nil, {0}, {0, 0, 0, 80, 0, 3}, ssl[:7]} { // they go in the middle of a packet
		conn := d.dial()
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	d.await(func() bool { return d.srv.Stats().Startups == 0 })
	if n := behind.dials.Load(); n != 0 {
		t.Errorf("%d processes were started", n)
	}
	if got := d.srv.Stats(); got.Refused != 6 || got.Refusals["protocol"] != 6 {
		t.Errorf("%+v", got)
	}
}

func requestPacket(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

// TestThePacketIsPassedOn unchanged, and so is what follows immediately.
func TestThePacketIsPassedOn(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	d := serve(t, &stand{run: func(p *standProcess) error {
		b := make([]byte, maxStartup+5)
		_, err := io.ReadFull(p.requests, b)
		got <- b
		return err
	}})
	packet := make([]byte, maxStartup)
	binary.BigEndian.PutUint32(packet, maxStartup)
	binary.BigEndian.PutUint32(packet[4:], 9<<16|7) // whatever the version is
	for i := range packet[8:] {
		packet[8+i] = byte(i)
	}
	sent := append(packet, 'X', 0, 0, 0, 4)
	conn := d.dial()
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, sent) {
		t.Error("the process got something else")
	}
}

// TestSilenceIsNotWaitedForForEver, neither before the startup packet nor for the password.
func TestSilenceIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	d := serve(t, &stand{run: asks}, func(o *Options) { o.StartupTimeout = 20 * time.Millisecond })
	for name, sent := range map[string][]byte{
		"nothing": nil, "half a packet": {0, 0}, "a length and no packet": {0, 0, 0, 80, 0, 3}, "no password": startPacket(t, "user", "postgres"),
	} {
		conn := d.dial()
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if got := heard(t, conn); len(got) == 0 || got[len(got)-1] != "FATAL 57014" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if n := d.srv.Stats().Refusals[refusedSlow]; n != 4 {
		t.Errorf("%d are counted", n)
	}
}

// asks is a process that asks for a password, and accepts any.
func asks(p *standProcess) error {
	if _, err := p.startup(); err != nil {
		return nil
	}
	if err := p.say(&pgproto3.AuthenticationCleartextPassword{}); err != nil {
		return nil
	}
	if _, _, err := p.next(); err != nil {
		return nil
	}
	if err := p.say(&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}); err != nil {
		return nil
	}
	for {
		if _, _, err := p.next(); err != nil {
			return nil
		}
	}
}

// TestOpeningMayTakeLong: the startup timeout is for the client; time that the server itself needs is not counted.
func TestOpeningMayTakeLong(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Now())
	open := make(chan struct{})
	behind := &stand{run: waits}
	d := serve(t, slowly{behind, open}, func(o *Options) { o.Clock, o.StartupTimeout = clk, time.Minute })
	conn := d.dial()
	if _, err := conn.Write(startPacket(t, "user", "postgres")); err != nil {
		t.Fatal(err)
	}
	open <- struct{}{}
	clk.Advance(time.Hour)
	open <- struct{}{}
	d.await(func() bool { return d.srv.Stats().Idle == 1 })
}

// slowly dials between two words on a channel.
type slowly struct {
	Backend
	open chan struct{}
}

func (s slowly) Dial(ctx context.Context, o connectOptions) (Conn, error) {
	<-s.open
	<-s.open
	return s.Backend.Dial(ctx, o)
}

// TestCancelIsPassedOn unchanged, also with a long key, also within TLS; and only where there is a client that it could hit.
func TestCancelIsPassedOn(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	behind := &stand{run: func(p *standProcess) error {
		packet, err := p.startup()
		if err != nil {
			return err
		}
		if binary.BigEndian.Uint32(packet[4:]) == codeCancel {
			got <- packet
			return nil
		}
		if err := p.say(&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}); err != nil {
			return err
		}
		_, _, err = p.next()
		return err
	}}
	d := serve(t, behind, withTLS(t, false))
	request := func(secure bool, key int) []byte {
		packet := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(12+key)), codeCancel), 1234)
		packet = append(packet, bytes.Repeat([]byte{7}, key)...)
		conn := d.dial()
		if secure {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
		}
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		return packet
	}
	request(false, 4)
	if n := behind.dials.Load(); n != 0 {
		t.Errorf("a cancel request has woken the database")
	}
	d.raw()
	for _, secure := range []bool{false, true} {
		for _, key := range []int{1, 4, 32, 256} {
			if sent := request(secure, key); !bytes.Equal(<-got, sent) {
				t.Errorf("a cancel request with a key of %d bytes was changed", key)
			}
		}
	}
	if n := d.srv.Stats().Cancels; n != 8 {
		t.Errorf("%d are counted", n)
	}
}

// TestCancelRequestsAreFew: however many are sent, only a few processes deal with them.
func TestCancelRequestsAreFew(t *testing.T) {
	t.Parallel()
	running := make(chan struct{}, 100)
	release := make(chan struct{})
	behind := &stand{run: func(p *standProcess) error {
		packet, err := p.startup()
		if err == nil && binary.BigEndian.Uint32(packet[4:]) == codeCancel {
			running <- struct{}{}
			<-release
			return nil
		}
		return errors.Join(err, p.say(&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}), <-p.gone())
	}}
	d := serve(t, behind)
	d.raw()
	const many = 20
	for range many {
		if _, err := d.dial().Write([]byte{0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
	}
	for range maxCancels {
		<-running
	}
	d.await(func() bool { return d.srv.Stats().Startups == many })
	if n := behind.dials.Load(); n != 1+maxCancels {
		t.Errorf("%d processes at once", n)
	}
	close(release)
	d.await(func() bool { return d.srv.Stats().Cancels == many })
}

// gone gets a value when the client has gone.
func (p *standProcess) gone() chan error {
	ch := make(chan error, 1)
	go func() {
		_, _, err := p.next()
		if errors.Is(err, io.EOF) {
			err = nil
		}
		ch <- err
	}()
	return ch
}

// TestWrongPasswordIsAnsweredLate, and neither the password nor the attempt is in the log.
func TestWrongPasswordIsAnsweredLate(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	clk := clock.NewVirtual(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	d := openTestServer(t, func(o *Options) { o.Clock, o.Logger = clk, slog.New(slog.NewJSONHandler(&logged, nil)) })
	super := d.connect()
	exec(t, super, "ALTER ROLE postgres PASSWORD 'the secret word'")
	d.rules(super, "host all all all scram-sha-256")
	c := d.connectTo(fmt.Sprintf("postgres://postgres:%s@%s/postgres?sslmode=disable", "the%20secret%20word", d.addr))
	if got := one(t, c, "SELECT 'in'"); got != "in" {
		t.Fatal(got)
	}
	for _, password := range []string{"another", "nearly the secret word"} {
		refused := make(chan error, 1)
		go func() {
			config, err := pgx.ParseConfig(d.url("postgres", ""))
			if err == nil {
				config.Password = password
				_, err = pgx.ConnectConfig(context.Background(), config)
			}
			refused <- err
		}()
		d.pending(clk) // the answer is delayed
		if len(refused) > 0 {
			t.Fatal("the answer to a wrong password is not delayed")
		}
		d.await(func() bool { // another timer may have been there before that one
			clk.Advance(authDelay / 4)
			return len(refused) > 0
		})
		wantCode(t, <-refused, "28P01")
	}
	d.await(func() bool { return d.srv.Stats().Refusals["password"] == 2 })
	if err := d.srv.Shutdown(t.Context()); err != nil { // the log is complete
		t.Fatal(err)
	}
	if text := logged.String(); strings.Contains(text, "another") || strings.Contains(text, "secret word") {
		t.Errorf("the log: %s", text)
	}
}

func FuzzStartup(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 4, 210, 22, 48, 0, 0, 0, 9, 0, 3, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 1, 2, 3, 4})
	f.Add([]byte{0x16, 3, 1, 2, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := net.Pipe()
		go func() {
			go func() { _, _ = io.Copy(io.Discard, client) }()
			_, _ = client.Write(sent)
			_ = client.Close()
		}()
		h, err := greet(t.Context(), server, nil, false)
		_ = server.Close()
		if err != nil {
			return
		}
		if n := binary.BigEndian.Uint32(h.packet); int(n) != len(h.packet) || n > maxStartup || !bytes.Contains(sent, h.packet) {
			t.Fatalf("a packet that was not sent: %q", h.packet)
		}
		if code := binary.BigEndian.Uint32(h.packet[4:]); h.cancel != (code == codeCancel) || code == codeSSL || code == codeGSS {
			t.Fatalf("%q is passed on, cancel: %v", h.packet, h.cancel)
		}
	})
}
