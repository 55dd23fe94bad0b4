// Command reports renders only what the results contain: between the
// markers of STATUS.md, README.md, cloud/README.md and results/PERFORMANCE.md, and as results/index.html with results/pictures/soak.svg.
//
//	go run ./reports            # writes the files that have changed
//	go run ./reports -check     # exits with 1 and shows the difference if a file is stale
//	go run ./reports -serve     # the page, rendered anew at each request, at http://127.0.0.1:8090
//
// A rendered part of a document is between two comments:
//
//	<!-- begin:scoreboard -->
//	| experiment | claim | …
//	<!-- end:scoreboard -->
//
// Every number comes from a line of results/*.jsonl that is not retracted, and whose
// tree was clean. Of several lines about the same thing (probe, profile, params, store
// and target) the newest counts. Without such lines the part says "no run recorded
// yet".
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"blobpglite/runner/record"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command; it returns 0 if everything is up to date or was written, 1 if
// something is stale or wrong, 2 for bad usage.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("reports", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "write nothing; exit 1 if a rendered file is stale")
	serve := flags.Bool("serve", false, "write nothing; serve the page until interrupted")
	listen := flags.String("listen", "127.0.0.1:8090", "address of -serve")
	root := flags.String("root", ".", "the folder of STATUS.md, README.md, results/PERFORMANCE.md and results/")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "reports takes no arguments, only flags: %q\n", flags.Args())
		return 2
	}
	if *serve {
		if err := servePage(*root, *listen, stdout); err != nil {
			fmt.Fprintln(stderr, "reports:", err)
			return 1
		}
		return 0
	}
	stale, err := refresh(*root, !*check, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "reports:", err)
		return 1
	}
	if *check && stale > 0 {
		fmt.Fprintf(stderr, "reports: %d files are not what the results render to: run go run ./reports and commit them\n", stale)
		return 1
	}
	return 0
}

// refresh renders every file, reports what differs, and writes it if requested. It
// returns the number of stale files.
func refresh(root string, write bool, out io.Writer) (stale int, err error) {
	log, err := record.ReadDir(filepath.Join(root, "results"))
	if err != nil {
		return 0, err
	}
	files, err := renderAll(root, log)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if f.have == f.want {
			fmt.Fprintf(out, "%s is fresh\n", f.name)
			continue
		}
		stale++
		if !write {
			fmt.Fprintf(out, "%s is stale:\n%s", f.name, diffSummary(f.have, f.want))
			continue
		}
		path := filepath.Join(root, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return stale, fmt.Errorf("write %s: %w", f.name, err)
		}
		if err := os.WriteFile(path, []byte(f.want), 0o644); err != nil {
			return stale, fmt.Errorf("write %s: %w", f.name, err)
		}
		fmt.Fprintf(out, "%s is written\n", f.name)
	}
	return stale, nil
}

// rendered is one file as it is and as it should be.
type rendered struct {
	name, have, want string
}

func renderAll(root string, log record.Log) ([]rendered, error) {
	data := selectLines(log)
	shown, err := readPictures(filepath.Join(root, "results"))
	if err != nil {
		return nil, err
	}
	b, err := makeBoard(data)
	if err != nil {
		return nil, err
	}
	page, err := renderBoard(data, b, shown)
	if err != nil {
		return nil, err
	}
	files := []rendered{{name: "results/index.html", want: page}}
	for _, doc := range []struct {
		name  string
		parts map[string]string
	}{
		{"STATUS.md", map[string]string{
			"today":        today(data, b),
			"questions":    byQuestion(b),
			"failed":       failedAndFound(b),
			"decisions":    decisions(data),
			"mutants":      mutants(data),
			"scoreboard":   everyProbe(data, b),
			"track-record": trackRecord(data),
		}},
		{"cloud/README.md", map[string]string{"peers": peerTable()}},
		{"README.md", map[string]string{"numbers": numbers(data), "sizes": sizes(data), "evidence": evidence(data)}},
		{"results/PERFORMANCE.md", map[string]string{
			"performance-e2":      performanceE2(data),
			"performance-log":     performanceLog(data),
			"performance-wake":    performanceWake(data),
			"performance-size":    performanceSize(data),
			"performance-clients": performanceClients(data),
			"performance-sql":     performanceSQL(data),
		}},
	} {
		text, err := os.ReadFile(filepath.Join(root, doc.name))
		if err != nil {
			return nil, fmt.Errorf("render: %w", err)
		}
		want, err := fillMarkers(string(text), doc.parts)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", doc.name, err)
		}
		files = append(files, rendered{doc.name, string(text), want})
	}
	if shown.soak != nil {
		files = append(files, rendered{name: "results/" + soakFile, want: shown.soak.SVG})
	}
	for i, f := range files {
		if f.have != "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.name)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("render: %w", err)
		}
		files[i].have = string(text)
	}
	return files, nil
}

// fillMarkers puts each part between its markers, and leaves everything else as it is. Every
// part needs a pair of markers, and every pair a part.
func fillMarkers(text string, parts map[string]string) (string, error) {
	var out strings.Builder
	seen := map[string]bool{}
	for {
		before, rest, ok := strings.Cut(text, "<!-- begin:")
		out.WriteString(before)
		if !ok {
			break
		}
		name, rest, ok := strings.Cut(rest, " -->\n")
		if !ok {
			return "", errors.New("a begin marker has no end: write <!-- begin:NAME --> alone on its line")
		}
		part, known := parts[name]
		if !known || seen[name] {
			return "", fmt.Errorf("the marker begin:%s is unknown or there twice", name)
		}
		seen[name] = true
		end := "<!-- end:" + name + " -->"
		old, after, ok := strings.Cut(rest, end)
		if !ok || strings.Contains(old, "<!-- begin:") {
			return "", fmt.Errorf("the marker begin:%s has no %s", name, end)
		}
		fmt.Fprintf(&out, "<!-- begin:%s -->\n%s\n%s", name, strings.TrimRight(part, "\n"), end)
		text = after
	}
	for name := range parts {
		if !seen[name] {
			return "", fmt.Errorf("the markers <!-- begin:%s --> and <!-- end:%s --> are missing", name, name)
		}
	}
	return out.String(), nil
}

// maxDiffLines limits what -check prints for one file.
const maxDiffLines = 10

// diffSummary shows the lines that only one side has, up to a few.
func diffSummary(have, want string) string {
	var b strings.Builder
	left := maxDiffLines
	for _, side := range []struct{ mark, text, other string }{{"-", have, want}, {"+", want, have}} {
		others := map[string]bool{}
		for line := range strings.Lines(side.other) {
			others[line] = true
		}
		for line := range strings.Lines(side.text) {
			if others[line] {
				continue
			}
			if left--; left < 0 {
				fmt.Fprintf(&b, "  …\n")
				return b.String()
			}
			fmt.Fprintf(&b, "  %s %.160s\n", side.mark, strings.TrimRight(line, "\n"))
		}
	}
	return b.String()
}
