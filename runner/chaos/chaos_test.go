package chaos

import (
	"slices"
	"testing"

	"blobpglite/runner/bench"
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

// TestEpisodesReachEverything: everything that a plot can contain occurs for some seed.
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

// TestFailuresReplay: the document written for a failing episode is a scenario of the same actions.
func TestFailuresReplay(t *testing.T) {
	list := plot(7)
	text := episodeDocument(7, list, []string{"durability: lost\nentirely"}, []string{bench.CheckDurability, bench.CheckLinearizable})
	s, err := scenario.Parse("scenario.yaml", []byte(text), bench.Verbs(Verbs()).Language())
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
