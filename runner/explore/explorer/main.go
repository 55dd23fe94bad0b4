// Command explorer runs the schedule explorer and prints its report as JSON: a small program of its own, so that a mutant of core links
// fast.
//
//	go run ./runner/explore/explorer -schedules 50000 -seed 1
//	go run ./runner/explore/explorer -plans zombie -replay schedule.txt      one step per line, as a violation prints them
//
// It exits with 0 if no invariant was violated, with 3 if one was, with 1 if it could not run.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"blobpglite/runner/explore"
)

const exitViolated = 3

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "explorer:", err)
		code = 1
	}
	os.Exit(code)
}

func run() (int, error) {
	var o explore.Options
	plans := flag.String("plans", "", "names, separated by commas; empty: all")
	replay := flag.String("replay", "", "a file with a schedule of the one plan: run that and tell its story")
	flag.IntVar(&o.Schedules, "schedules", 50000, "how many, over all plans")
	flag.Uint64Var(&o.Seed, "seed", 1, "of the random walk")
	flag.IntVar(&o.Workers, "workers", 0, "0: one for each processor")
	flag.Float64Var(&o.Exhaustive, "exhaustive", 0, "share of the exhaustive walk; negative: none, 0: half")
	flag.BoolVar(&o.KeepGoing, "keep-going", false, "look for a violation in each plan")
	flag.Parse()
	if *plans != "" {
		o.Plans = strings.Split(*plans, ",")
	}
	if *replay != "" {
		return runReplay(o.Plans, *replay)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := explore.Explore(ctx, o)
	if err != nil {
		return 1, err
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", " ")
	if err := e.Encode(report); err != nil {
		return 1, err
	}
	for _, v := range report.Violations {
		fmt.Fprintln(os.Stderr, v)
	}
	if len(report.Violations) > 0 {
		return exitViolated, nil
	}
	return 0, nil
}

func runReplay(plans []string, file string) (int, error) {
	if len(plans) != 1 {
		return 1, fmt.Errorf("replay %s: name its plan with -plans", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 1, err
	}
	var schedule []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			schedule = append(schedule, line)
		}
	}
	v, err := explore.Replay(plans[0], schedule)
	switch {
	case err != nil:
		return 1, err
	case v == nil:
		fmt.Println("violates nothing")
		return 0, nil
	}
	fmt.Println(v)
	return exitViolated, nil
}
