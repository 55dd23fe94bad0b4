package pgwire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// certificate makes one for the loopback address.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func withTLS(t *testing.T, required bool) func(*Options) {
	return func(o *Options) {
		o.TLS, o.RequireTLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12}, required
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	d := openTestServer(t, withTLS(t, true))
	secure := strings.Replace(d.url("postgres", ""), "sslmode=disable", "sslmode=require", 1)
	c := d.connectTo(secure)
	exec(t, c, "LISTEN news")
	for i := range 20 {
		payload := fmt.Sprint("number ", i)
		exec(t, c, "SELECT pg_notify('news', $1)", payload)
		if n, err := c.WaitForNotification(t.Context()); err != nil || n.Payload != payload {
			t.Fatalf("%+v, %v", n, err)
		}
	}
	if got := one(t, c, "SELECT length(repeat('x', 3000000))::text"); got != "3000000" {
		t.Fatal(got)
	}
	_, err := pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "28000")
	plain := serve(t, &stand{run: waits})
	if _, err := pgx.Connect(t.Context(), strings.Replace(plain.url("postgres", ""), "sslmode=disable", "sslmode=require", 1)); err == nil {
		t.Error("TLS without a certificate")
	}
}

// TestDirectTLS: TLS may begin without a request, if the client says by ALPN that it speaks PostgreSQL's protocol in it.
func TestDirectTLS(t *testing.T) {
	t.Parallel()
	d := serve(t, &stand{run: waits}, withTLS(t, true))
	direct := func(protocols ...string) *tls.Conn {
		return tls.Client(d.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	}
	good := direct(alpn)
	if _, err := good.Write(startPacket(t, "user", "postgres")); err != nil {
		t.Fatal(err)
	}
	f := pgproto3.NewFrontend(good, good)
	if m, err := f.Receive(); err != nil {
		t.Fatal(err)
	} else if _, ok := m.(*pgproto3.AuthenticationOk); !ok {
		t.Fatalf("%T", m)
	}
	if got := fmt.Sprint(heard(t, direct())); got != "[FATAL 08P01]" {
		t.Errorf("without ALPN the client hears %s", got)
	}
	if err := direct("h2").Handshake(); err == nil {
		t.Error("another protocol was agreed on")
	}
	within := direct(alpn)
	if _, err := within.Write(requestPacket(codeSSL)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(heard(t, within)); got != "[FATAL 08P01]" {
		t.Errorf("a request within TLS is answered with %s", got)
	}
	none := serve(t, &stand{run: waits})
	if err := tls.Client(none.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}}).Handshake(); err == nil {
		t.Error("TLS without a certificate")
	}
}

// TestHandshakeEnds: a TLS handshake that does not continue ends with the startup timeout, without a message that would be taken for TLS.
func TestHandshakeEnds(t *testing.T) {
	t.Parallel()
	d := serve(t, &stand{run: waits}, withTLS(t, false), func(o *Options) { o.StartupTimeout = 50 * time.Millisecond })
	conn := d.dial()
	if _, err := conn.Write(requestPacket(codeSSL)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "S" {
		t.Errorf("%q, %v", got, err)
	}
	d.await(func() bool { return d.srv.Stats().Refusals[refusedTLS] == 1 })
}
