#!/usr/bin/env bash
# pgx: QueryRow of several statements in the simple protocol scans the first one's result, and the rest runs unseen.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

// serve answers one client with what PostgreSQL sends for INSERT ...; SELECT 7.
func serve(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	_, err := b.ReceiveStartupMessage()
	check(err)
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	check(b.Flush())
	for {
		msg, err := b.Receive()
		if err != nil {
			return
		}
		switch msg.(type) {
		case *pgproto3.Query:
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")})
			b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("n"), DataTypeOID: 23, DataTypeSize: 4, TypeModifier: -1}}})
			b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("7")}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			check(b.Flush())
		case *pgproto3.Terminate:
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		conn, err := listener.Accept()
		check(err)
		serve(conn)
	}()
	ctx := context.Background()
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://u@127.0.0.1:%d/d?sslmode=disable", listener.Addr().(*net.TCPAddr).Port))
	check(err)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	check(err)
	n := 0
	err = conn.QueryRow(ctx, "INSERT INTO t VALUES (1); SELECT 7").Scan(&n)
	fmt.Printf("seen:     n = %d, error %v\n", n, err)
	if n != 0 || !errors.Is(err, pgx.ErrNoRows) {
		fmt.Println("CHANGED: not ErrNoRows")
		os.Exit(1)
	}
	check(conn.Close(ctx))
}
EOT
version=v5.12.0
{ go mod init finding && go get "github.com/jackc/pgx/v5@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/jackc/pgx/v5 $version, $(go env GOVERSION)"
echo "expected: 7, the only row there is, as psql and PQexec show the last result; or an error that says that there are two results"
GOFLAGS=-mod=mod go run .
echo "as stated: 'no rows in result set', though a row came and the INSERT was done"
