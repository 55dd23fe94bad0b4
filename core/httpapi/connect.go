package httpapi

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// connector opens a session for a request. Each has its own, so nothing that one sets is there for the next.
type connector struct {
	config *pgconn.Config
	dial   func(ctx context.Context) (net.Conn, error)
}

func newConnector(o Options) (connector, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable connect_timeout=0")
	if err != nil {
		return connector{}, err
	}
	config.User, config.Database, config.Password = o.User, o.Database, ""
	config.RuntimeParams = map[string]string{} // each would be one more statement a request
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.Fallbacks = nil
	return connector{config, o.Dial}, nil
}

// notOpen is why a request got no session: nothing of it has run.
type notOpen struct{ err error }

func (n *notOpen) Error() string { return n.err.Error() }
func (n *notOpen) Unwrap() error { return n.err }

func (c connector) open(ctx context.Context) (*session, error) {
	s := &session{}
	config := c.config.Copy()
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = &watched{Conn: conn}
		return s.conn, nil
	}
	var err error
	if s.PgConn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		return nil, &notOpen{err}
	}
	return s, nil
}
