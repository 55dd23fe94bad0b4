package pgwire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestManyNames: a connection that closes its statements may use as many names as it likes; one that does not is told its bound.
func TestManyNames(t *testing.T) {
	d := openDoor(t)
	_, f := d.raw()
	const each = 5000
	names := maxStatements + each
	for from := 0; from < names; from += each {
		for i := from; i < from+each; i++ {
			name := fmt.Sprint("name ", i)
			f.Send(&pgproto3.Parse{Name: name, Query: "SELECT 1"})
			f.Send(&pgproto3.Close{ObjectType: 'S', Name: name})
		}
		f.Send(&pgproto3.Sync{})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		for ready := false; !ready; {
			switch m := receive(t, f).(type) {
			case *pgproto3.ErrorResponse:
				t.Fatalf("at name %d: %s %s", from, m.Code, m.Message)
			case *pgproto3.ReadyForQuery:
				ready = true
			}
		}
	}
}

// TestNamesAreUsedAgain: numbers go to other names only where no statement has them, and errors name the one that has it now.
func TestNamesAreUsedAgain(t *testing.T) {
	n := names{prefix: "c1."}
	live := map[string]bool{"kept": true, "also": true}
	alive := func() map[string]bool { return live }
	kept, _ := n.add("kept", alive)
	for i := range 3 * maxNames {
		name := fmt.Sprint("s", i)
		if i == maxNames/2 {
			name = "also"
		}
		key, again := n.add(name, alive)
		if key == kept || again != (i >= maxNames-1) && i < 2*maxNames {
			t.Fatalf("name %d got %s, again %v", i, key, again)
		}
		if got, length := n.of([]byte(strings.TrimPrefix(key, n.prefix) + " rest")); got != name || length != len(key)-len(n.prefix) {
			t.Fatalf("%s is said to be %q", key, got)
		}
	}
	if n.key("kept") != kept || len(n.byNum) > maxNames || len(n.numbers) > maxNames {
		t.Errorf("%s became %s; %d numbers, %d names", kept, n.key("kept"), len(n.byNum), len(n.numbers))
	}
	if key := n.key("never"); key != n.prefix+unknownKey {
		t.Errorf("a name that was never parsed: %s", key)
	}
}

// receive is the next message.
func receive(t *testing.T, f *pgproto3.Frontend) pgproto3.BackendMessage {
	t.Helper()
	m, err := f.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestFlushInAPipeline: what stands before a Flush is answered, though the rest of the pipeline has arrived with it and has no
// Sync yet; and what is answered at a Sync, though an unfinished query stands behind it.
func TestFlushInAPipeline(t *testing.T) {
	query := []pgproto3.FrontendMessage{
		&pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{},
	}
	for _, c := range []struct {
		name  string
		send  []pgproto3.FrontendMessage
		last  pgproto3.BackendMessage // that has to come before the Sync,
		times int                     // so often
	}{
		{"flush", append(append(query[:4:4], &pgproto3.Flush{}), query...), &pgproto3.CommandComplete{}, 1},
		{"two flushes", append(append(query[:4:4], &pgproto3.Flush{}, &pgproto3.Parse{Name: "x", Query: "SELECT 2"}, &pgproto3.Flush{}), query...), &pgproto3.ParseComplete{}, 2},
		{"in a transaction", append([]pgproto3.FrontendMessage{&pgproto3.Query{String: "BEGIN"}}, query...), &pgproto3.ReadyForQuery{}, 1},
		{"in a transaction, a flush", append(append([]pgproto3.FrontendMessage{&pgproto3.Query{String: "BEGIN"}}, query...), append([]pgproto3.FrontendMessage{&pgproto3.Flush{}}, query...)...), &pgproto3.CommandComplete{}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := openDoor(t)
			_, f := d.raw()
			for _, m := range c.send {
				f.Send(m)
			}
			if err := f.Flush(); err != nil { // one write
				t.Fatal(err)
			}
			want := fmt.Sprintf("%T", c.last)
			for n := 0; n < c.times; {
				if m := receive(t, f); fmt.Sprintf("%T", m) == want {
					n++
				}
			}
			f.Send(&pgproto3.Sync{})
			if err := f.Flush(); err != nil {
				t.Fatal(err)
			}
			done := 0
			for {
				m := receive(t, f)
				if _, ok := m.(*pgproto3.CommandComplete); ok {
					done++
				}
				if _, ok := m.(*pgproto3.ReadyForQuery); ok {
					break
				}
			}
			if done != 1 {
				t.Errorf("the query behind was answered %d times", done)
			}
		})
	}
}
