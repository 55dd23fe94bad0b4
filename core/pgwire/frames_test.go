package pgwire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// backendMessages are some of all kinds, encoded, and where each ends.
func backendMessages(t testing.TB) (stream []byte, ends map[int]bool, want []string) {
	t.Helper()
	ends = map[int]bool{0: true}
	for _, m := range []pgproto3.BackendMessage{
		&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}},
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "is_superuser", Value: "on"},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
		&pgproto3.ParseComplete{},
		&pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte("Z\x00\x00\x00\x05I"), 300), nil}},
		&pgproto3.DataRow{},
		&pgproto3.CopyData{Data: []byte("E")},
		&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "42601", Message: string(bytes.Repeat([]byte("x"), 500))},
		&pgproto3.ReadyForQuery{TxStatus: 'E'},
	} {
		var err error
		at := len(stream)
		if stream, err = m.Encode(stream); err != nil {
			t.Fatal(err)
		}
		ends[len(stream)] = true
		switch stream[at] {
		case 'R', 'S', 'Z', 'E':
			body := stream[at+5 : min(len(stream), at+5+peek)]
			want = append(want, fmt.Sprintf("%c%q", stream[at], body))
		}
	}
	return stream, ends, want
}

// TestFrames: however a stream is cut into pieces, the same messages are found, and it is known after each piece whether one is under way.
func TestFrames(t *testing.T) {
	t.Parallel()
	stream, ends, want := backendMessages(t)
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 500 {
		var f frames
		var got []string
		for at := 0; at < len(stream); {
			n := min(1+r.IntN(1+round), len(stream)-at)
			f.follow(stream[at:at+n], func(m message) {
				got = append(got, fmt.Sprintf("%c%q", m.kind, m.body))
				if m.at >= 0 && stream[at+m.at] != m.kind {
					t.Errorf("a message of kind %c is said to begin at a byte %q", m.kind, stream[at+m.at])
				}
			})
			at += n
			if f.whole() != ends[at] {
				t.Fatalf("round %d: at byte %d whole is %v", round, at, f.whole())
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d: met %v, want %v", round, got, want)
		}
	}
}

func TestErrorCode(t *testing.T) {
	t.Parallel()
	whole, err := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28P01", Message: "no"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if got := errorCode(whole[5:max(5, n)]); got != "" && got != "28P01" {
			t.Errorf("of %q the code is %q", whole[5:max(5, n)], got)
		}
	}
	if got := errorCode(whole[5:]); got != "28P01" {
		t.Error(got)
	}
}

func FuzzFrames(f *testing.F) {
	stream, _, _ := backendMessages(f)
	f.Add(stream, 3)
	f.Add([]byte{'Z', 0xff, 0xff, 0xff, 0xff, 'I'}, 1)
	f.Add([]byte{'E', 0, 0, 0, 0, 'S', 0}, 2)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		count := func(piece int) (met string, whole bool) {
			var f frames
			for at := 0; at < len(stream); at += piece {
				f.follow(stream[at:min(len(stream), at+piece)], func(m message) { met += fmt.Sprintf("%c%q%s", m.kind, m.body, errorCode(m.body)) })
			}
			return met, f.whole()
		}
		a, wholeA := count(max(1, piece%64))
		b, wholeB := count(max(1, len(stream)))
		if a != b || wholeA != wholeB {
			t.Fatalf("cut in pieces: %q %v, at once: %q %v", a, wholeA, b, wholeB)
		}
	})
}
