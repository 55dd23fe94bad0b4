package pgwire

import (
	"context"

	"blobpglite/core/engine"
	"blobpglite/core/pglite"
)

// Source provides the engine that serves clients, and opens one if none is open. *keeper.Keeper implements it.
type Source interface {
	Engine(ctx context.Context) (*engine.Engine, error)
}

// Engines returns a Backend that starts each client's process in the current engine of s.
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

// engineConn is a connection that also knows which settings PostgreSQL had to start without.
type engineConn struct {
	*engine.Conn
	leftOut []string
}

// LeftOut returns the names of the parameters whose values kept PostgreSQL from starting.
func (c engineConn) LeftOut() []string { return c.leftOut }
