package blobpglite_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite"
)

// A database in memory, by database/sql.
func Example() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.SQL().ExecContext(ctx, "CREATE TABLE note (id int GENERATED ALWAYS AS IDENTITY, text text)"); err != nil {
		log.Fatal(err)
	}
	if _, err := db.SQL().ExecContext(ctx, "INSERT INTO note (text) VALUES ($1)", "kept"); err != nil {
		log.Fatal(err)
	}
	var text string
	if err := db.SQL().QueryRowContext(ctx, "SELECT text FROM note WHERE id = $1", 1).Scan(&text); err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output: kept
}

// A folder keeps the database after Close.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := "file://" + filepath.Join(dir, "notes")
	for range 2 {
		db, err := blobpglite.Open(ctx, url)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := db.SQL().ExecContext(ctx, "CREATE TABLE IF NOT EXISTS opening AS SELECT 0 AS n"); err != nil {
			log.Fatal(err)
		}
		var n int
		if err := db.SQL().QueryRowContext(ctx, "UPDATE opening SET n = n + 1 RETURNING n").Scan(&n); err != nil {
			log.Fatal(err)
		}
		fmt.Println("opened:", n)
		if err := db.Close(ctx); err != nil { // everything is durable, and the next writer need not wait
			log.Fatal(err)
		}
	}
	// Output:
	// opened: 1
	// opened: 2
}

// With a bucket, the credentials are Google's application default ones: `gcloud auth application-default login` on a laptop, the service's
// account on Cloud Run.
func ExampleOpen_bucket() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "gs://my-bucket/my-database")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
}

// An opener that finds another writer there is told which one.
func ExampleLockedError() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := "file://" + filepath.Join(dir, "notes")
	first, err := blobpglite.Options{Name: "first"}.Open(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close(ctx)
	_, err = blobpglite.Options{AcquireTimeout: blobpglite.None}.Open(ctx, url)
	var locked *blobpglite.LockedError
	if errors.As(err, &locked) {
		name, _, _ := strings.Cut(locked.Holder, "/")
		fmt.Println("in use by", name)
	}
	// Output: in use by first
}

// A commit that costs nothing and may be lost in a crash: for caches, sessions and counters.
func ExampleOptions_Open() {
	ctx := context.Background()
	db, err := blobpglite.Options{
		Durability:    blobpglite.Interval, // a crash loses at most
		FlushInterval: time.Second,         // this much
		MaxConns:      4,
		Settings:      map[string]string{"work_mem": "16MB"},
	}.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	var memory string
	if err := db.SQL().QueryRowContext(ctx, "SHOW work_mem").Scan(&memory); err != nil {
		log.Fatal(err)
	}
	fmt.Println(memory)
	// Output: 16MB
}

// Several databases in one program share the loaded PostgreSQL.
func ExampleNewRuntime() {
	ctx := context.Background()
	rt, err := blobpglite.NewRuntime(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close()
	for _, tenant := range []string{"red", "blue"} {
		db, err := blobpglite.Options{Runtime: rt}.Open(ctx, "mem:") // or "gs://tenants/" + tenant
		if err != nil {
			log.Fatal(err)
		}
		var name string
		if err := db.SQL().QueryRowContext(ctx, "SELECT $1::text", tenant).Scan(&name); err != nil {
			log.Fatal(err)
		}
		fmt.Println(name)
		if err := db.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// red
	// blue
}

// pgx's pool: a transaction, a batch of rows by COPY, and rows into structs.
func ExampleDB_Pool() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	type city struct {
		Name   string
		People int
	}
	err = pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "CREATE TABLE city (name text, people int)"); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"city"}, []string{"name", "people"}, pgx.CopyFromRows([][]any{{"Bern", 134794}, {"Chur", 39766}}))
		return err
	})
	if err != nil {
		log.Fatal(err) // nothing of it is there
	}
	rows, err := db.Pool().Query(ctx, "SELECT name, people FROM city ORDER BY people DESC")
	if err != nil {
		log.Fatal(err)
	}
	cities, err := pgx.CollectRows(rows, pgx.RowToStructByName[city])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cities)
	// Output: [{Bern 134794} {Chur 39766}]
}

// database/sql: a transaction that is rolled back.
func ExampleDB_SQL() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	tx, err := db.SQL().BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE note (text text)"); err != nil {
		log.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		log.Fatal(err)
	}
	_, err = db.SQL().ExecContext(ctx, "SELECT * FROM note")
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		fmt.Println(pg.Code, pg.Message)
	}
	// Output: 42P01 relation "note" does not exist
}

// Another driver, or an ORM that opens its own connections, is given Dial.
func ExampleDB_Dial() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	config, err := pgx.ParseConfig("host=127.0.0.1 user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	config.DialFunc = db.Dial
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var answer int
	if err := conn.QueryRow(ctx, "SELECT 6 * 7").Scan(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: 42
}

// LISTEN and NOTIFY between two connections.
func ExampleDB_Pool_listen() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	conn, err := db.Pool().Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "LISTEN news"); err != nil {
		log.Fatal(err)
	}
	if _, err := db.SQL().ExecContext(ctx, "SELECT pg_notify('news', 'rain')"); err != nil {
		log.Fatal(err)
	}
	news, err := conn.Conn().WaitForNotification(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(news.Payload)
	// Output: rain
}

// Extensions that PGlite bundles need no more than CREATE EXTENSION.
func ExampleDB_SQL_extension() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.SQL().ExecContext(ctx, "CREATE EXTENSION pg_trgm"); err != nil {
		log.Fatal(err)
	}
	var alike bool
	if err := db.SQL().QueryRowContext(ctx, "SELECT similarity('word', 'words') > 0.5").Scan(&alike); err != nil {
		log.Fatal(err)
	}
	fmt.Println(alike)
	// Output: true
}

// A copy of a database, to try a migration on.
func ExampleBranch() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	shop, trial := "file://"+filepath.Join(dir, "shop"), "file://"+filepath.Join(dir, "trial")
	db, err := blobpglite.Open(ctx, shop)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.SQL().ExecContext(ctx, "CREATE TABLE article AS SELECT 'lamp' AS name"); err != nil {
		log.Fatal(err)
	}
	if _, err := blobpglite.Branch(ctx, shop, trial); err != nil { // the shop stays open
		log.Fatal(err)
	}
	copied, err := blobpglite.Open(ctx, trial)
	if err != nil {
		log.Fatal(err)
	}
	defer copied.Close(ctx)
	if _, err := copied.SQL().ExecContext(ctx, "ALTER TABLE article ADD COLUMN price int"); err != nil {
		log.Fatal(err)
	}
	var here, there int
	const columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'article'"
	if err := errors.Join(db.SQL().QueryRow(columns).Scan(&here), copied.SQL().QueryRow(columns).Scan(&there)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("columns in the shop:", here, "and in the trial:", there)
	// Output: columns in the shop: 1 and in the trial: 2
}

// Yesterday's rows, read next to the writer.
func ExampleOptions_Open_earlier() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := "file://" + filepath.Join(dir, "shop")
	db, err := blobpglite.Options{Retain: 24 * time.Hour}.Open(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.SQL().ExecContext(ctx, "CREATE TABLE article AS SELECT 'lamp' AS name"); err != nil {
		log.Fatal(err)
	}
	before := time.Now()
	if _, err := db.SQL().ExecContext(ctx, "DELETE FROM article"); err != nil { // by mistake
		log.Fatal(err)
	}
	past, err := blobpglite.Options{At: before}.Open(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer past.Close(ctx)
	var name string
	if err := past.SQL().QueryRowContext(ctx, "SELECT name FROM article").Scan(&name); err != nil {
		log.Fatal(err)
	}
	fmt.Println(name)
	// Output: lamp
}

// Close with a time limit: whatever still runs then is ended.
func ExampleDB_Close() {
	ctx := context.Background()
	db, err := blobpglite.Open(ctx, "mem:")
	if err != nil {
		log.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println(db.Close(bounded))
	_, err = db.Dial(ctx, "", "")
	fmt.Println(errors.Is(err, blobpglite.ErrClosed))
	// Output:
	// <nil>
	// true
}
