package httpapi

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// connector opens a session for a request. Each has its own, so nothing that one sets is there for the next.
type connector struct{ config *pgconn.Config }

func newConnector(o Options) (connector, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable connect_timeout=0")
	if err != nil {
		return connector{}, err
	}
	config.User, config.Database, config.Password = o.User, o.Database, ""
	config.RuntimeParams = map[string]string{} // each would be one more statement a request
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) }
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.Fallbacks = nil
	return connector{config}, nil
}

func (c connector) open(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.ConnectConfig(ctx, c.config.Copy())
}
