package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pageAndAnchors returns the page of this repository's results, and its anchors.
func pageAndAnchors(t *testing.T) (string, map[string]bool) {
	t.Helper()
	page := realPage(t)
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		anchors[m[1]] = true
	}
	return page, anchors
}

// TestLinksIntoThePage: every link target of the documents is on the page, and every number in README has such a link.
func TestLinksIntoThePage(t *testing.T) {
	t.Parallel()
	_, anchors := pageAndAnchors(t)
	link := regexp.MustCompile(`results/index\.html#([^)\s]+)`)
	for _, name := range []string{"README.md", "STATUS.md", "cloud/README.md"} {
		text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if !anchors[m[1]] {
				t.Errorf("%s links to %s, which the page does not have", name, m[0])
			}
		}
	}
	// A sentence links to the probe that its first number comes from.
	for _, sentence := range inNumbers() {
		if from := placeholder.FindStringSubmatch(sentence)[1]; !strings.Contains(sentence, "results/index.html#p-"+from+")") {
			t.Errorf("no link to %s: %s", from, sentence)
		}
	}
	for _, row := range evidenceRows() {
		if !link.MatchString(row[1]) {
			t.Errorf("no link: %s", row[1])
		}
	}
}

// TestTenQuestions: a section of the page answers each, and contains what the answer promises.
func TestTenQuestions(t *testing.T) {
	t.Parallel()
	s := realLines(t)
	b, err := makeBoard(s)
	if err != nil {
		t.Fatal(err)
	}
	page, anchors := pageAndAnchors(t)
	list := tenQuestions(s, b)
	if len(list) != 10 {
		t.Errorf("there are %d", len(list))
	}
	for _, q := range list {
		if !anchors[q.To] || !strings.Contains(page, `href="#`+q.To+`">See `) || strings.ContainsAny(q.Answer, "{}") {
			t.Errorf("%s: %s (%q)", q.Question, q.Answer, q.To)
			continue
		}
		_, section, _ := strings.Cut(page, ` id="`+q.To+`"`)
		section, _, _ = strings.Cut(section, "</details>\n<details id=") // up to the next probe
		if !strings.Contains(section, q.shows) {
			t.Errorf("%s: the section %s does not show %q", q.Question, q.To, q.shows)
		}
	}
	for _, q := range tenQuestions(selection{}, board{}) {
		if q.To != "" {
			t.Errorf("without any result there is a link to %s", q.To)
		}
	}
}

// TestPeers: the prices of alternatives are in one place, from which both documents take them.
func TestPeers(t *testing.T) {
	t.Parallel()
	status, err := os.ReadFile(filepath.Join("..", "STATUS.md"))
	if err != nil {
		t.Fatal(err)
	}
	cloud, err := os.ReadFile(filepath.Join("..", "cloud", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers() {
		if p.source == "" || !strings.Contains(string(cloud), "| "+p.name+" | "+p.month+" |") || !strings.Contains(string(status), p.name+" "+p.month) {
			t.Errorf("%s is not in both documents, or without a source", p.name)
		}
	}
}
