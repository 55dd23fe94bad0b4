package interleave

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// resource is something that a server could mix up between its clients.
type resource uint16

const (
	names    resource = 1 << iota // prepared statements
	cursors                       // including portals
	settings                      // of the session
	temps                         // temporary tables
	sequence                      // what currval and lastval know
	channels                      // LISTEN
	advisory                      // locks
	roles
	table               // t, which is shared for good
	code                // a function
	block               // the transaction
	everything resource = 1<<iota - 1
)

// ending says how far an answer is read.
type ending int

const (
	ready   ending = iota // all up to ReadyForQuery
	flushed               // everything up to the end of a command: there was no Sync
	left                  // nothing: the connection ends, and the client returns on a new one
	aside                 // nothing: it goes over another connection
)

// Action is what a client does in one step.
type Action struct {
	Name string
	// Core actions are those whose schedules are run to a greater length.
	Core bool

	reads, writes resource
	sql           string                                     // of a simple query; $me is the client's letter
	frames        func(me string) []pgproto3.FrontendMessage // instead
	ends          ending
	kills         bool // a row of t ends the other client
	orderly       bool // with left: the client says goodbye, rather than vanish
	hears         bool // with left: it goes when it has been answered, as with flushed
}

// query is an action that consists of one simple query.
func query(name string, reads, writes resource, sql string) Action {
	return Action{Name: name, reads: reads, writes: writes, sql: sql}
}

// messages is an action of the extended protocol.
func messages(name string, reads, writes resource, ends ending, frames func(me string) []pgproto3.FrontendMessage) Action {
	return Action{Name: name, reads: reads, writes: writes, ends: ends, frames: frames}
}

// core are the names of the actions that are run to a greater length.
func core() []string {
	return []string{
		"begin", "rollback", "parse", "bind", "execute", "set", "show", "temp", "tmp", "nextval", "currval", "listen", "notify", "lock", "try",
		"unlock", "discard", "disconnect", "vanish",
	}
}

// Actions returns all actions.
func Actions() []Action {
	all := slices.Concat(statementActions(), stateActions(), lockActions(), blockActions(), tableActions(), endActions())
	for i := range all {
		all[i].Core = slices.Contains(core(), all[i].Name)
		all[i].reads |= block // in a server with one session every statement is within whatever transaction is open
	}
	return all
}

func (a Action) sends(me string) []pgproto3.FrontendMessage {
	if a.frames != nil {
		return a.frames(me)
	}
	return []pgproto3.FrontendMessage{&pgproto3.Query{String: strings.ReplaceAll(a.sql, "$me", me)}}
}

// meet says whether two clients' actions have anything to do with each other in a server that mixes its clients up.
func meet(a, b Action) bool {
	return a.writes&(b.reads|b.writes) != 0 || b.writes&a.reads != 0
}

// action finds one by its name.
func action(name string) (Action, error) {
	all := Actions()
	i := slices.IndexFunc(all, func(a Action) bool { return a.Name == name })
	if i < 0 {
		return Action{}, fmt.Errorf("there is no action %q", name)
	}
	return all[i], nil
}
