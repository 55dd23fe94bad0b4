package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/keeper"
	"blobpglite/core/store/mem"
)

// limitedService is the whole stack on a limited listener; it returns its address.
func limitedService(t *testing.T, change func(*Options)) (address string) {
	t.Helper()
	k, err := keeper.New(keeper.Options{Open: onStore(mem.New(mem.Options{}))})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Keeper: k, Registry: prometheus.NewRegistry()}
	change(&o)
	api, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := Gauges(o.Registry, k, nil); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := api.Server()
	done := make(chan error, 1)
	go func() { done <- s.Serve(api.Limit(l)) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := api.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// write writes a part of a request.
func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// answered is the status and body of the answer that comes without sending anything more.
func answered(t *testing.T, c net.Conn) (*http.Response, string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal("no answer: ", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(b)
}

const select1 = "POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"sql\":\"SELECT 1\"}"

// TestSilentConnections: far more connections than the service takes stay silent; it still serves, and those that were closed have been
// told.
func TestSilentConnections(t *testing.T) {
	const bound = 40
	address := limitedService(t, func(o *Options) { o.MaxConns = bound })
	var silent []net.Conn
	for range 3 * bound {
		silent = append(silent, connect(t, address))
	}
	c := connect(t, address)
	write(t, c, select1)
	if answer, body := answered(t, c); answer.StatusCode != 200 {
		t.Fatal(answer.StatusCode, body)
	}
	answer, body := answered(t, silent[0])
	if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" || !strings.Contains(body, "53300") {
		t.Error(answer.StatusCode, body)
	}
	// Between two requests it is closed without a word; the client connects again for its next request.
	for range 2 * bound {
		connect(t, address)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Error("an idle connection was not given up:", err)
	}
}

// TestTooManyConnections: when all are busy, each further one is refused with an answer.
func TestTooManyConnections(t *testing.T) {
	address := limitedService(t, func(o *Options) { o.MaxConns, o.MaxRequests = 2, 5 })
	var working []net.Conn
	for range 2 {
		c := connect(t, address)
		write(t, c, strings.Replace(select1, "Content-Length: 18", "Expect: 100-continue\r\nContent-Length: 18", 1)[:len("POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n")])
		// The server requests the body: it is busy.
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatal(line, err)
		}
		working = append(working, c)
	}
	for range 2 * maxRefusing {
		c := connect(t, address)
		write(t, c, select1)
		if answer, body := answered(t, c); answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" {
			t.Fatal(answer.StatusCode, body)
		}
	}
	write(t, working[0], `{"sql":"SELECT 1"}`)
	if answer, body := answered(t, working[0]); answer.StatusCode != 200 {
		t.Error(answer.StatusCode, body)
	}
	c := connect(t, address) // takes the place of the one that is idle now
	write(t, c, select1)
	if answer, body := answered(t, c); answer.StatusCode != 200 {
		t.Error(answer.StatusCode, body)
	}
}

// TestTooManyRequests: statements have a bound of their own.
func TestTooManyRequests(t *testing.T) {
	address := limitedService(t, func(o *Options) { o.MaxRequests = 2 })
	body := `{"sql":"SELECT pg_advisory_lock(1), pg_sleep(0.5)"}`
	slow := fmt.Sprintf("POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	statuses := map[int]int{}
	var all []net.Conn
	for range 6 {
		c := connect(t, address)
		write(t, c, slow)
		all = append(all, c)
	}
	for _, c := range all {
		answer, _ := answered(t, c)
		statuses[answer.StatusCode]++
		if answer.StatusCode == 503 && answer.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if statuses[200] < 2 || statuses[503] < 1 || statuses[200]+statuses[503] != 6 {
		t.Error(statuses)
	}
}

// TestSlowRequests: each phase of a request has its own time limit, and connections that never begin a request are answered too.
func TestSlowRequests(t *testing.T) {
	const limit = 100 * time.Millisecond
	address := limitedService(t, func(o *Options) {
		o.HeaderTimeout, o.BodyTimeout, o.IdleTimeout = limit, limit, limit
	})
	for _, c := range []struct {
		name, sent string
		status     int
	}{
		{"nothing", "", 408},
		{"half a header", "POST /sql HTTP/1.1\r\nHost: loc", 408},
		{"half a body", select1[:len(select1)-3], 408},
		{"a body in chunks that ends nowhere", "POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"sql\r\n", 408},
		{"half a body that nobody reads", "POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n\r\n{\"sql\"", 415},
		{"half a body for nobody", "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n\r\n{\"sql\"", 404},
		{"a whole one", select1, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := connect(t, address)
			write(t, conn, c.sent)
			if answer, body := answered(t, conn); answer.StatusCode != c.status || c.status == 408 && !strings.Contains(body, limit.String()) {
				t.Error(answer.StatusCode, body)
			}
			if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
				t.Errorf("it is not ended: %q, %v", rest, err)
			}
		})
	}
}

// TestStatementMayTakeLonger than any of the limits.
func TestStatementMayTakeLonger(t *testing.T) {
	const limit = 50 * time.Millisecond
	address := limitedService(t, func(o *Options) {
		o.HeaderTimeout, o.BodyTimeout, o.IdleTimeout, o.StallTimeout = limit, limit, limit, limit
	})
	body := `{"sql":"SELECT pg_sleep(0.4)"}`
	c := connect(t, address)
	write(t, c, fmt.Sprintf("POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if answer, body := answered(t, c); answer.StatusCode != 200 {
		t.Error(answer.StatusCode, body)
	}
}

// TestAnswerThatIsNotRead: a client that does not read loses the connection, and its session becomes free.
func TestAnswerThatIsNotRead(t *testing.T) {
	address := limitedService(t, func(o *Options) { o.StallTimeout, o.MaxRequests = 100*time.Millisecond, 1 })
	body := `{"sql":"SELECT repeat('x', 1000) FROM generate_series(1, 30000)"}`
	c := connect(t, address)
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	write(t, c, fmt.Sprintf("POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if _, err := c.Read(make([]byte, 1)); err != nil { // the answer has begun: its place is taken
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		other := connect(t, address)
		write(t, other, select1)
		answer, body := answered(t, other)
		if answer.StatusCode == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the place is not free again: ", answer.StatusCode, body)
		}
	}
}

func TestBoundsOfOptions(t *testing.T) {
	for _, o := range []Options{{MaxRequest: -1}, {MaxRequests: -1}, {MaxConns: -1}, {BodyTimeout: -1}, {StallTimeout: -1}} {
		if err := o.bounds(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
