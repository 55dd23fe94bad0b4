// Package clients runs the programs that people use with PostgreSQL against a server, each as its users do, and judges the result: drivers,
// pools, ORMs, migrators, queues, PostgreSQL's own tools, the drivers' own test suites.
//
//	t, ok := clients.Find("goose")
//	outcome, err := t.Run(ctx, &clients.Env{URL: url, Port: port, Folder: scratch, Cache: cache, Progress: progress})
//	errors.Is(err, clients.ErrMissing)       // the program is not available here, and err says why
//
// An error other than ErrMissing is the client's: the server did something that PostgreSQL does not do. A trial needs a server with a new
// database, and does not know which server it is: the same trial against PostgreSQL itself shows whether the trial is right.
//
// Programs come from the machine (Debian's packages), from npm and the Go module proxy, with pinned versions, into a cache; nothing of them
// becomes part of this module. The code that runs them here is in programs/, written for these trials.
package clients

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"blobpglite/runner/npm"
)

// ErrMissing: the client, or something it needs, is not available here; the error says what.
var ErrMissing = npm.ErrMissing

// Env is the environment of a trial.
type Env struct {
	URL      string // of the database postgres, as the superuser postgres; without a password
	Port     int    // on 127.0.0.1
	Password string // the superuser's, for a trial with Password
	Folder   string // of the trial's own
	Cache    string // where packages are kept
	// Clones is a folder with clones of clients' sources, for those that do not publish their tests; empty: none.
	Clones string
	// Programs is where PostgreSQL's programs are; empty: on the PATH.
	Programs string
	// Crash kills the server with SIGKILL and starts it again at its address.
	Crash    func(ctx context.Context) error
	Progress func(step string, done, total int64)
}

// Outcome is what a trial found, in addition to errors.
type Outcome struct {
	// Rows acknowledged before a crash; how many of these were gone afterwards; rows that were never inserted.
	Acked    int `json:"acked"`
	Lost     int `json:"lost"`
	Invented int `json:"invented"`
	// Tests of a client's own suite; failed ones with their messages.
	Passed []string          `json:"passed"`
	Failed map[string]string `json:"failed"`
}

// Trial is one client.
type Trial struct {
	Name, Doc string
	Crash     bool // it has the server killed
	Password  bool // the server must require passwords
	Suite     bool // it is the client's own test suite: Passed and Failed count
	TLS       bool // it also connects through TLS, if the server can
	run       func(ctx context.Context, e *Env) (Outcome, error)
}

// Run tries the client. Errors: ErrMissing, ctx's; any other means that the client met something wrong.
func (t Trial) Run(ctx context.Context, e *Env) (Outcome, error) {
	e.Progress("client "+t.Name, 0, 0)
	return t.run(ctx, e)
}

// Trials returns all trials.
func Trials() []Trial {
	return slices.Concat(crashTrials(), suiteTrials(), goTrials(), nodeTrials(), pythonTrials(), toolTrials(), psqlTrials())
}

// Find returns the trial with a name.
func Find(name string) (Trial, bool) {
	all := Trials()
	i := slices.IndexFunc(all, func(t Trial) bool { return t.Name == name })
	if i < 0 {
		return Trial{}, false
	}
	return all[i], true
}

// Names returns the names of all trials.
func Names() []string {
	var names []string
	for _, t := range Trials() {
		names = append(names, t.Name)
	}
	return names
}

// Doc describes all trials, one per line.
func Doc() string {
	var texts []string
	for _, t := range Trials() {
		texts = append(texts, t.Name+": "+t.Doc)
	}
	return strings.Join(texts, "; ")
}

// database is the URL of another database, or of another user's connection.
func (e *Env) database(user, name string) string {
	if user == "postgres" && e.Password != "" {
		user += ":" + e.Password
	}
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", user, e.Port, name)
}

// one queries one value, as text; an error if it is not the wanted one.
func (e *Env) one(ctx context.Context, sql, want string) error {
	return e.oneIn(ctx, "postgres", sql, want)
}

func (e *Env) oneIn(ctx context.Context, database, sql, want string) error {
	conn, err := pgx.Connect(ctx, e.database("postgres", database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var got string
	if err := conn.QueryRow(ctx, sql).Scan(&got); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	if got != want {
		return fmt.Errorf("%s: %q, want %q", sql, got, want)
	}
	return nil
}

// missing returns ErrMissing for a program, with where to get it from; nil if it is there.
func missing(program, from string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s (%s) is %w", program, from, ErrMissing)
	}
	return nil
}

// tail is the end of a text, for messages.
func tail(text string) string {
	const most = 900
	return strings.TrimSpace(text[max(0, len(text)-most):])
}
