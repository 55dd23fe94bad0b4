package node

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/runner/workload"
)

// sessions are those that clients have on the open engine, in addition to its own: each is a PostgreSQL process.
type sessions struct {
	mu   sync.Mutex
	e    *engine.Engine
	open map[int64]*pgconn.PgConn
}

// use returns the session with a number on an engine, opening it if there is none. A session belongs to one request at a time.
func (s *sessions) use(ctx context.Context, e *engine.Engine, in InSession) (*pgconn.PgConn, error) {
	s.mu.Lock()
	if s.e != e {
		s.e, s.open = e, map[int64]*pgconn.PgConn{}
	}
	conn := s.open[in.Session]
	s.mu.Unlock()
	if conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	conn, err := dial(ctx, e, in.Isolation)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.e == e {
		s.open[in.Session] = conn
	}
	return conn, nil
}

// dial opens a session.
func dial(ctx context.Context, e *engine.Engine, isolation string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("postgres://postgres@database/postgres?sslmode=disable")
	if err != nil {
		return nil, err
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"database"}, nil }
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	}
	config.RuntimeParams = map[string]string{"application_name": workload.ClientName, "deadlock_timeout": "50ms"}
	if isolation != "" {
		config.RuntimeParams["default_transaction_isolation"] = isolation
	}
	return pgconn.ConnectConfig(ctx, config)
}

func (s *sessions) query(ctx context.Context, e *engine.Engine, args QueryArgs) (any, error) {
	conn, err := s.use(ctx, e, args.InSession)
	if err != nil {
		return nil, err
	}
	results, err := conn.Exec(ctx, args.SQL).ReadAll()
	if err != nil {
		return nil, err
	}
	out := QueryResult{}
	for _, r := range results {
		var rows [][]string
		for _, values := range r.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
		out.Rows = append(out.Rows, rows)
		out.Tags = append(out.Tags, r.CommandTag.String())
	}
	return out, nil
}

// copyIn sends one COPY with all of its data.
func (s *sessions) copyIn(ctx context.Context, e *engine.Engine, args CopyArgs) error {
	conn, err := s.use(ctx, e, args.InSession)
	if err != nil {
		return err
	}
	var data []byte
	for n := range args.Rows {
		data = workload.CopyRow(data, args.Token, n, args.RowBytes, args.Seed)
	}
	tag, err := conn.CopyFrom(ctx, bytes.NewReader(data), workload.CopySQL)
	if err == nil && tag.RowsAffected() != int64(args.Rows) {
		err = fmt.Errorf("a COPY of %d rows was answered with %q", args.Rows, tag)
	}
	return err
}
