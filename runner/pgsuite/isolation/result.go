package isolation

import (
	"context"

	"github.com/jackc/pgx/v5/pgproto3"
)

// result is a statement's result, like libpq's PGresult.
type result struct {
	names  []string // nil: not a query
	rows   [][]string
	query  bool
	empty  bool
	failed *pgproto3.ErrorResponse
	lost   string // libpq's own error
	odd    string // an answer that is none of these
}

// succeeded says whether it is a statement's regular end, with or without rows.
func (r *result) succeeded() bool {
	return r != nil && r.failed == nil && r.lost == "" && r.odd == "" && !r.empty
}

// reason is the text of its error.
func (r *result) reason() string {
	switch {
	case r == nil:
		return ""
	case r.failed != nil:
		return message(r.failed, true)
	case r.odd != "":
		return "unexpected answer: " + r.odd + "\n"
	}
	return r.lost
}

// parse processes the messages that are there, as far as libpq would.
func (c *conn) parse() {
	for {
		for ; len(c.ahead) > 0; c.ahead = c.ahead[1:] {
			if !c.handle(c.ahead[0]) {
				return
			}
		}
		select {
		case batch := <-c.arrived:
			c.ahead = append(c.ahead, batch...)
		default:
			return
		}
	}
}

// handle processes a message; false: it must wait until the previous result is taken.
func (c *conn) handle(e event) bool {
	switch {
	case e.kind == noticeEvent:
		c.tell(e.notice)
	case e.kind == notifyEvent:
		c.notify = append(c.notify, *e.notify)
	case c.state == whole:
		return false
	case e.kind == goneEvent:
		c.gone = true
	case c.state == idle:
		if e.kind == failedEvent {
			c.tell(e.failed) // libpq treats an unexpected error as a notice
		}
	default:
		c.build(e)
	}
	return true
}

func (c *conn) tell(m *pgproto3.ErrorResponse) {
	c.notices++
	c.onNotice(message(m, false))
}

// build adds a message to the current result.
func (c *conn) build(e event) {
	switch e.kind {
	case columnsEvent:
		c.building = result{names: e.names, query: true}
	case rowEvent:
		c.building.rows = append(c.building.rows, e.row)
	case completeEvent:
		c.state = whole
	case emptyEvent:
		c.building, c.state = result{empty: true}, whole
	case failedEvent:
		c.building, c.state = result{failed: e.failed}, whole
	case strangeEvent:
		c.building, c.state = result{odd: e.strange}, whole
	case readyEvent:
		c.state = idle
	}
}

// busy says whether there is nothing to take yet.
func (c *conn) busy() bool {
	c.parse()
	return c.state == busy
}

// next waits for the next result of the query; nil: there are no more.
func (c *conn) next(ctx context.Context) (*result, error) {
	for c.busy() {
		if c.gone {
			c.state = idle
			return &result{lost: vanished}, nil
		}
		select {
		case batch := <-c.arrived:
			c.ahead = append(c.ahead, batch...)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if c.state == idle {
		return nil, nil
	}
	r := c.building
	c.building, c.state = result{}, busy
	return &r, nil
}

// exec sends messages and waits for the last of their results; nil: they have none.
func (c *conn) exec(ctx context.Context, messages ...pgproto3.FrontendMessage) (last *result, err error) {
	c.parse()
	if err := c.send(messages...); err != nil {
		return &result{lost: err.Error() + "\n"}, nil
	}
	for {
		r, err := c.next(ctx)
		if err != nil || r == nil {
			return last, err
		}
		last = r
	}
}

// notifications returns those that have arrived.
func (c *conn) notifications() []pgproto3.NotificationResponse {
	c.parse()
	all := c.notify
	c.notify = nil
	return all
}
