package step

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
)

func TestActionsAreReadAsTheyAreWritten(t *testing.T) {
	for seed := range uint64(200) {
		list := plot(seed)
		again, err := parseActions(linesOf(list))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !slices.Equal(again, list) {
			t.Fatalf("seed %d:\n%q\n%q", seed, linesOf(list), linesOf(again))
		}
		if !slices.Equal(plot(seed), list) {
			t.Fatalf("seed %d made two episodes", seed)
		}
	}
	if slices.Equal(plot(1), plot(2)) {
		t.Error("two seeds made one episode")
	}
	for _, line := range []string{
		"", "dance", "kill at nowhere", "kill at wal/before-put nth 0", "hold", "hold tight", "work -3", "delay at wal/before-put", "http put after p 2 lose",
		"http put before p 0.1 cut", "open twice", "clock stop",
	} {
		if _, err := parseAction(line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

// TestEpisodesReachEverything: what a plot can hold, some seed's does.
func TestEpisodesReachEverything(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(300) {
		for _, a := range plot(seed) {
			seen[a.do] = true
			if a.at != "" {
				seen[a.do+" "+string(a.at)] = true
			}
		}
	}
	for _, want := range []string{
		"http", "open", "work", "kill", "stop", "park", "delay", "wake", "sigterm", "compact", "power cut", "clock jump", "clock drift",
		"kill wal/after-put", "stop wal/before-put", "park commit/before-ack", "kill gc/before-delete", "stop manifest/after-cas",
	} {
		if !seen[want] {
			t.Errorf("no episode of 300 has %q", want)
		}
	}
}

// TestFailuresReplay: what a failing episode is written as is a scenario of the same actions.
func TestFailuresReplay(t *testing.T) {
	list := plot(7)
	text := episodeDocument(7, list, []string{"durability: lost\nentirely"}, []string{checkDurability, checkLinearizable})
	s, err := scenario.Parse("scenario.yaml", []byte(text), Registry())
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p, err := s.Plan(scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	args := p.Cells[0].Steps[0].Args
	if !slices.Equal(args.Strings("actions"), linesOf(list)) || args.Int("seed") != 7 || args.Int("tries") != replayTries {
		t.Errorf("read back: %v", args)
	}
}

// TestEveryPointIsDiedAt: together the modes' lists hold every fault point.
func TestEveryPointIsDiedAt(t *testing.T) {
	var died []point.Point
	for _, list := range [][]spot{spots(engine.ModeLog, false), spots(engine.ModeLog, true), spots(engine.ModeSnapshot, false)} {
		for _, s := range list {
			died = append(died, s.point)
		}
	}
	for _, p := range point.All() {
		if !slices.Contains(died, p) {
			t.Errorf("nobody dies at %s", p)
		}
	}
}

// TestSharesCoverEverything: the two cells of a small run hold all points between them, whatever the seed.
func TestSharesCoverEverything(t *testing.T) {
	for seed := range uint64(20) {
		got := map[point.Point]bool{}
		for _, c := range []struct {
			compaction   bool
			skip, sample int
		}{{false, 0, 9}, {true, 9, 0}} {
			k := &killing{lifeline: lifeline{r: &Run{Seed: seed}, mode: engine.ModeLog}, compaction: c.compaction}
			list, err := k.chosen(nil, c.skip, c.sample)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				got[s.point] = true
			}
		}
		for _, s := range spots(engine.ModeLog, true) {
			if !got[s.point] {
				t.Errorf("seed %d leaves out %s", seed, s.point)
			}
		}
	}
}

// TestOutcomes: only what is certain is failed.
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
			if got := (&cluster{mode: mode}).outcome(c.err); got != want {
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
