package cloudrun

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// What pgserve logs when it is told to go and when it has: cloud/pgserve/serve.go. Its failure messages are plain text.
const (
	saysEnding = "ending"
	saysEnded  = "ended: everything is durable"
	saysFailed = "pgserve:"
)

// HowWell is the Life.How of an instance that has ended as it should.
const HowWell = "exit 0"

const (
	skew       = 5 * time.Minute // that the clocks of this machine and of the logs may differ
	logEntries = 10000           // read at a time
)

// Entry is a line of the instances' logs.
type Entry struct {
	Time     time.Time      `json:"timestamp"`
	Severity string         `json:"severity"`
	LogName  string         `json:"logName"`
	Text     string         `json:"textPayload"`
	JSON     map[string]any `json:"jsonPayload"`
	Labels   struct {
		Instance string `json:"instanceId"`
	} `json:"labels"`
	Resource struct {
		Labels struct {
			Revision string `json:"revision_name"`
		} `json:"labels"`
	} `json:"resource"`
}

// trouble says whether the entry is a warning or an error of the platform itself.
func (e Entry) trouble() bool {
	switch e.Severity {
	case "", "DEFAULT", "DEBUG", "INFO", "NOTICE":
		return false
	}
	return strings.HasSuffix(e.LogName, "varlog%2Fsystem")
}

// Logs returns a revision's entries since a time, oldest first: what its instances wrote to stderr, and the platform's own.
func (s *Service) Logs(ctx context.Context, suffix string, since time.Time) ([]Entry, error) {
	filter := fmt.Sprintf(`resource.type="cloud_run_revision" AND resource.labels.service_name="%s" AND resource.labels.location="%s"`+
		` AND resource.labels.revision_name="%s-%s" AND (log_id("run.googleapis.com/stderr") OR log_id("run.googleapis.com/varlog/system"))`+
		` AND timestamp>="%s"`, s.o.Service, s.o.Region, s.o.Service, suffix, since.UTC().Format(time.RFC3339Nano))
	out, err := s.gcloud(ctx, "logging", "read", filter, "--project="+s.o.Project, "--order=asc", fmt.Sprintf("--limit=%d", logEntries), "--format=json")
	if err != nil {
		return nil, err
	}
	var all []Entry
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("read the logs of %s: %w", s.o.Service, err)
	}
	return all, nil
}

// Life is the life of an instance, by the logs.
type Life struct {
	Instance    string
	Told, Ended time.Time // SIGTERM, and the end; zero: the logs do not say
	How         string    // HowWell, or its last message
}

// lives extracts the lives of instances from entries, in the order in which they first appear.
func lives(entries []Entry) []Life {
	var all []Life
	index := map[string]int{}
	for _, e := range entries {
		i, known := index[e.Labels.Instance]
		if e.Labels.Instance == "" {
			continue // of the revision, or the service
		}
		if !known {
			i = len(all)
			index[e.Labels.Instance] = i
			all = append(all, Life{Instance: e.Labels.Instance})
		}
		l := &all[i]
		message, _ := e.JSON["message"].(string)
		how := ""
		switch {
		case message == saysEnding:
			l.Told = e.Time
		case message == saysEnded:
			how = HowWell
		case strings.HasPrefix(e.Text, saysFailed):
			how = e.Text
		case e.trouble():
			how = e.Text
		}
		if how != "" && l.Ended.IsZero() {
			l.Ended, l.How = e.Time, how
		}
	}
	return all
}

// Retired waits until every instance of a revision that appears in the logs has ended, and at least one since the last call. It returns the
// life of the last one. If neither an instance nor the platform logs an end, it waits until Patience is over.
func (s *Service) Retired(ctx context.Context, suffix string) (Life, error) {
	end := s.o.Clock.Monotonic() + s.o.Patience
	for {
		entries, err := s.Logs(ctx, suffix, s.began.Add(-skew))
		if err != nil {
			return Life{}, err
		}
		all := lives(entries)
		var last *Life
		alive := 0
		for i, l := range all {
			switch {
			case l.Ended.IsZero():
				alive++
			case !s.retired[l.Instance] && (last == nil || l.Ended.After(last.Ended)):
				last = &all[i]
			}
		}
		if alive == 0 && last != nil {
			for _, l := range all {
				s.retired[l.Instance] = true
			}
			return *last, nil
		}
		if s.o.Clock.Monotonic() > end {
			return Life{}, fmt.Errorf("wait for the instances of %s-%s to end: after %v the logs know %d, of which %d have not", s.o.Service, suffix, s.o.Patience, len(all), alive)
		}
		if err := s.o.Clock.Sleep(ctx, s.o.Pause); err != nil {
			return Life{}, err
		}
	}
}
