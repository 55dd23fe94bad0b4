#!/usr/bin/env bash
# lib/pq: CopyIn sends a []byte for a text column as the digits of its bytes, INSERT as the text.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"database/sql"
	"fmt"
	"net"
	"os"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/lib/pq"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

// serve answers one client as PostgreSQL does for a table with a column of type text, and gives what is sent for the column.
func serve(conn net.Conn, sent chan<- string) {
	b := pgproto3.NewBackend(conn, conn)
	_, err := b.ReceiveStartupMessage()
	check(err)
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "18.0"})
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	b.Send(ready)
	check(b.Flush())
	for {
		msg, err := b.Receive()
		if err != nil {
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.Query:
			switch msg.String[0] {
			case 'B':
				ready.TxStatus = 'T'
				b.Send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")})
				b.Send(ready)
			case 'C':
				if msg.String[:4] == "COPY" {
					b.Send(&pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0}})
					break
				}
				ready.TxStatus = 'I'
				b.Send(&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")})
				b.Send(ready)
			}
			check(b.Flush())
		case *pgproto3.CopyData:
			sent <- string(msg.Data)
		case *pgproto3.CopyDone:
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 1")})
			b.Send(ready)
			check(b.Flush())
		case *pgproto3.Parse:
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Describe:
			b.Send(&pgproto3.ParameterDescription{ParameterOIDs: []uint32{25}})
			b.Send(&pgproto3.NoData{})
		case *pgproto3.Bind:
			sent <- string(msg.Parameters[0])
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Execute:
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")})
		case *pgproto3.Close:
			b.Send(&pgproto3.CloseComplete{})
		case *pgproto3.Sync:
			b.Send(ready)
			check(b.Flush())
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	sent := make(chan string, 2)
	go func() {
		conn, err := listener.Accept()
		check(err)
		serve(conn, sent)
	}()
	db, err := sql.Open("postgres", fmt.Sprintf("postgres://u@127.0.0.1:%d/d?sslmode=disable", listener.Addr().(*net.TCPAddr).Port))
	check(err)
	db.SetMaxOpenConns(1)
	_, err = db.Exec("INSERT INTO note VALUES ($1)", []byte("kept"))
	check(err)
	tx, err := db.Begin()
	check(err)
	stmt, err := tx.Prepare(pq.CopyIn("note", "text"))
	check(err)
	_, err = stmt.Exec([]byte("kept"))
	check(err)
	_, err = stmt.Exec()
	check(err)
	check(stmt.Close())
	check(tx.Commit())
	insert, copied := <-sent, <-sent
	fmt.Printf("seen:     INSERT sends %q, CopyIn the line %q\n", insert, copied)
	if insert != "kept" || copied != `\\x6b657074`+"\n" {
		fmt.Println("CHANGED: not the text by INSERT, and digits by CopyIn")
		os.Exit(1)
	}
}
EOT
version=v1.12.3
pgx=v5.13.0
{ go mod init finding && go get "github.com/lib/pq@$version" "github.com/jackc/pgx/v5/pgproto3@$pgx"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/lib/pq $version, $(go env GOVERSION); the server is a stand-in, of pgproto3 of pgx $pgx"
echo "expected: kept, as INSERT sends it; or an error: CopyIn does not know the column's type, and writes each []byte as a bytea"
GOFLAGS=-mod=mod go run .
echo "as stated: an import that was an INSERT and becomes a COPY, for speed, stores \\x6b657074 in a text column"
