package cluster

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"blobpglite/core/engine"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
)

// TestOutcomes: only certain failures are failed.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		err           error
		log, snapshot history.Outcome
	}{
		{&node.Error{Code: node.CodeSQL}, history.Failed, history.Failed},
		{&node.Error{Code: node.CodeClosed}, history.Failed, history.Failed},
		{&node.Error{Code: node.CodeFenced}, history.Failed, history.Unknown},
		{&node.Error{Code: node.CodeUnknown}, history.Unknown, history.Unknown},
		{&node.Error{Code: node.CodePoisoned}, history.Unknown, history.Unknown},
		{&node.Error{Code: node.CodeInjected}, history.Unknown, history.Unknown},
		{&node.Error{}, history.Unknown, history.Unknown},
		{&node.EndedError{}, history.Unknown, history.Unknown},
		{errors.New("the pipe broke"), history.Unknown, history.Unknown},
	} {
		for mode, want := range map[engine.Mode]history.Outcome{engine.ModeLog: c.log, engine.ModeSnapshot: c.snapshot} {
			if got := (&Cluster{mode: mode}).Outcome(c.err); got != want {
				t.Errorf("%v in mode %s: %s, want %s", c.err, mode, got, want)
			}
		}
	}
}

func TestTimelineIsAPicture(t *testing.T) {
	text := timeline(
		[]mark{{At: 5, Lane: "n1", Kind: "fault", Text: "kill <wal/before-put>"}, {At: 7, Lane: "bucket", Kind: "change", Text: "put"}, {At: 8, Lane: "n2", Kind: "life", Text: "serves & so on"}},
		[]history.Op{{ID: 1, Client: 1, Node: "n1", Kind: history.BankRead, Call: 1, Return: 9, Outcome: history.OK}, {ID: 2, Node: "n2", Call: 3, Outcome: history.Unknown}},
	)
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{">n1<", ">n2<", ">bucket<", "kill &lt;wal/before-put&gt;"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
}
