package blobpglite

import (
	"context"
	"database/sql/driver"
)

// closedConnector is the connector of a DB that was never opened.
type closedConnector struct{}

func (closedConnector) Connect(context.Context) (driver.Conn, error) { return nil, ErrClosed }
func (closedConnector) Driver() driver.Driver                        { return closedDriver{} }

type closedDriver struct{}

func (closedDriver) Open(string) (driver.Conn, error) { return nil, ErrClosed }
