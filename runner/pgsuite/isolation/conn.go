package isolation

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

// state is libpq's view of a connection.
type state int

const (
	idle  state = iota
	busy        // a query is under way, without a complete result
	whole       // a result can be taken
)

// vanished is libpq's message when the server has closed a connection.
const vanished = "server closed the connection unexpectedly\n" +
	"\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n"

// unread is how many of the server's writes are read ahead.
const unread = 64

// conn is a connection as libpq keeps one: messages are processed only when the connection's state is queried, and not beyond an untaken
// result. So notices are printed where isolationtester prints them.
type conn struct {
	name     string
	hijacked *pgconn.HijackedConn
	arrived  chan []event // the last event is the connection's end
	closed   chan struct{}
	reading  chan struct{} // closed when nothing reads any more

	state    state
	ahead    []event // taken from arrived, not looked at yet
	gone     bool    // the server has closed it
	building result
	notify   []pgproto3.NotificationResponse
	notices  int
	onNotice func(text string)
}

// event is a message of the server's, in memory of its own.
type event struct {
	names   []string // of columns
	row     []string
	failed  *pgproto3.ErrorResponse
	notice  *pgproto3.ErrorResponse
	notify  *pgproto3.NotificationResponse
	strange string // a message that no query here expects
	kind    eventKind
}

type eventKind int

const (
	columnsEvent eventKind = iota
	rowEvent
	completeEvent
	emptyEvent
	failedEvent
	readyEvent
	noticeEvent
	notifyEvent
	strangeEvent
	goneEvent
)

// dial connects as config says.
func dial(ctx context.Context, config *pgconn.Config, name string) (*conn, error) {
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	hijacked, err := pg.Hijack()
	if err != nil {
		return nil, err
	}
	c := &conn{
		name: name, hijacked: hijacked, arrived: make(chan []event, unread), closed: make(chan struct{}), reading: make(chan struct{}),
		onNotice: func(string) {},
	}
	go c.read()
	return c, nil
}

// close says goodbye and returns when nothing of the connection runs any more.
func (c *conn) close() {
	close(c.closed)
	c.hijacked.Frontend.Send(&pgproto3.Terminate{})
	_ = c.hijacked.Frontend.Flush() // it may have gone
	_ = c.hijacked.Conn.Close()
	<-c.reading
}

// read passes all messages on, until the connection ends. What arrives together is passed on together, as libpq reads it.
func (c *conn) read() {
	defer close(c.reading)
	for {
		var batch []event
		m, err := c.hijacked.Frontend.Receive()
		for ; err == nil; m, err = c.hijacked.Frontend.Receive() {
			if e, told := translate(m); told {
				batch = append(batch, e)
			}
			if c.hijacked.Frontend.ReadBufferLen() == 0 {
				break
			}
		}
		if err != nil {
			batch = append(batch, event{kind: goneEvent})
		}
		select {
		case c.arrived <- batch:
		case <-c.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// translate copies what is relevant in a message.
func translate(m pgproto3.BackendMessage) (event, bool) {
	switch m := m.(type) {
	case *pgproto3.RowDescription:
		e := event{kind: columnsEvent}
		for _, f := range m.Fields {
			e.names = append(e.names, string(f.Name))
		}
		return e, true
	case *pgproto3.DataRow:
		e := event{kind: rowEvent}
		for _, v := range m.Values {
			e.row = append(e.row, string(v)) // NULL is printed as nothing
		}
		return e, true
	case *pgproto3.CommandComplete:
		return event{kind: completeEvent}, true
	case *pgproto3.EmptyQueryResponse:
		return event{kind: emptyEvent}, true
	case *pgproto3.ReadyForQuery:
		return event{kind: readyEvent}, true
	case *pgproto3.ErrorResponse:
		failed := *m
		return event{kind: failedEvent, failed: &failed}, true
	case *pgproto3.NoticeResponse:
		notice := pgproto3.ErrorResponse(*m)
		return event{kind: noticeEvent, notice: &notice}, true
	case *pgproto3.NotificationResponse:
		notify := *m
		return event{kind: notifyEvent, notify: &notify}, true
	case *pgproto3.ParameterStatus, *pgproto3.ParseComplete, *pgproto3.BindComplete, *pgproto3.NoData:
		return event{}, false
	}
	return event{kind: strangeEvent, strange: fmt.Sprintf("%T", m)}, true
}

// send sends a query. Whether it arrives shows when its answer is read.
func (c *conn) send(messages ...pgproto3.FrontendMessage) error {
	if c.gone {
		return fmt.Errorf("no connection to the server")
	}
	for _, m := range messages {
		c.hijacked.Frontend.Send(m)
	}
	_ = c.hijacked.Frontend.Flush() // why it failed is read
	c.state, c.building = busy, result{}
	return nil
}

// await waits for a message, at most for d; false: none came.
func (c *conn) await(ctx context.Context, clk clock.Clock, d time.Duration) (bool, error) {
	if len(c.ahead) > 0 {
		return true, nil
	}
	timer := clk.NewTimer(d)
	defer timer.Stop()
	select {
	case batch := <-c.arrived:
		c.ahead = append(c.ahead, batch...)
		return true, nil
	case <-timer.C():
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// cancel requests the server, over a connection of its own, to cancel the query, and returns when the server has received that.
func (c *conn) cancel(ctx context.Context) error {
	config := c.hijacked.Config
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	other, err := config.DialFunc(ctx, network, address)
	if err != nil {
		return err
	}
	defer other.Close()
	stop := context.AfterFunc(ctx, func() { other.Close() })
	defer stop()
	request, err := (&pgproto3.CancelRequest{ProcessID: c.hijacked.PID, SecretKey: c.hijacked.SecretKey}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := other.Write(request); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, other) // it answers by closing
	return ctx.Err()
}
