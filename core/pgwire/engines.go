package pgwire

import (
	"context"

	"blobpglite/core/engine"
	"blobpglite/core/pglite"
)

// Source gives the engine that clients are served from, and opens one if none is open; *keeper.Keeper is one.
type Source interface {
	Engine(ctx context.Context) (*engine.Engine, error)
}

// Engines serves clients from engines.
func Engines(s Source) Backend { return engines{s} }

type engines struct{ source Source }

func (b engines) Dial(ctx context.Context, o pglite.ConnectOptions) (Conn, error) {
	e, err := b.source.Engine(ctx)
	if err != nil {
		return nil, err
	}
	c, err := e.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	return engineConn{c, e.Opened().LeftOut}, nil
}

// engineConn is a connection that knows what the database was opened without.
type engineConn struct {
	*engine.Conn
	leftOut []string
}

// LeftOut are the parameters whose values PostgreSQL could not start with.
func (c engineConn) LeftOut() []string { return c.leftOut }
