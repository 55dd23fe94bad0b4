package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MaxLineBytes bounds one line of a results file, when writing and reading. Histograms make up most of a line; a run of a hundred metrics
// stays well below 1 MB.
const MaxLineBytes = 8 << 20

// ErrNewerSchema is returned for a line of a later version of this program. The caller upgrades; it must not skip the line, which might be
// a retraction.
var ErrNewerSchema = errors.New("written by a newer version of this program: upgrade it to read the file")

// Append adds r to dir/<scenario>.jsonl in one write, and creates the directory and the file if they are missing.
func Append(dir string, r Record) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("append a record to %s: %w", dir, err)
	}
	return appendLine(dir, r.Scenario, r)
}

// Retract adds a retraction to dir/<scenario>.jsonl. The retracted lines stay where they are.
func Retract(dir, scenario string, t Retraction) error {
	if err := t.validate(); err != nil {
		return fmt.Errorf("append a retraction to %s: %w", dir, err)
	}
	return appendLine(dir, scenario, t)
}

func appendLine(dir, scenario string, line any) (err error) {
	name := scenario + ".jsonl"
	if !filepath.IsLocal(name) || strings.ContainsAny(scenario, `/\`) {
		return fmt.Errorf("append to the results: scenario id %q cannot name a file", scenario)
	}
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	if len(text) >= MaxLineBytes {
		return fmt.Errorf("append to %s: the line has %d bytes, more than %d", name, len(text), MaxLineBytes)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	torn, err := endsTorn(f)
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	text = append(text, '\n')
	if torn {
		text = slices.Insert(text, 0, '\n')
	}
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	return nil
}

// endsTorn reports whether the file's last line has no end.
func endsTorn(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// Log holds the contents of results files, in the order of the lines.
type Log struct {
	Records     []Record
	Retractions []Retraction
}

// Live returns the records that were not retracted, oldest first.
func (l Log) Live() []Record {
	live := make([]Record, 0, len(l.Records))
	for _, r := range l.Records {
		if !slices.ContainsFunc(l.Retractions, func(t Retraction) bool { return t.covers(r) }) {
			live = append(live, r)
		}
	}
	slices.SortStableFunc(live, func(a, b Record) int { return a.Started.Compare(b.Started) })
	return live
}

// ReadDir reads every *.jsonl file of dir in the order of their names. A missing directory is an empty log.
func ReadDir(dir string) (Log, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return Log{}, fmt.Errorf("read results: %w", err)
	}
	slices.Sort(names)
	var all Log
	for _, name := range names {
		log, err := ReadFile(name)
		if err != nil {
			return Log{}, err
		}
		all.Records = append(all.Records, log.Records...)
		all.Retractions = append(all.Retractions, log.Retractions...)
	}
	return all, nil
}

// ReadFile reads one results file. Errors name file and line. A missing file is an error that matches fs.ErrNotExist.
func ReadFile(path string) (Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return Log{}, fmt.Errorf("read results: %w", err)
	}
	defer f.Close()
	return read(path, f)
}

func read(name string, r io.Reader) (Log, error) {
	var log Log
	in := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(in)
		if err == io.EOF && len(line) == 0 {
			return log, nil
		}
		if err == nil {
			err = log.add(line)
		} else if err == io.EOF {
			return Log{}, fmt.Errorf("%s:%d: the line is cut off, as if its writer had died: remove the line and run again", name, number)
		}
		if err != nil {
			return Log{}, fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
}

// readLine returns the next line without its end; io.EOF if the end is missing.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxLineBytes {
			return nil, fmt.Errorf("the line has more than %d bytes", MaxLineBytes)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
}

// add decodes one line, strictly, and keeps it.
func (l *Log) add(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	var head struct {
		Schema  int     `json:"schema"`
		Retract *string `json:"retract"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return fmt.Errorf("not a JSON object of ours: %w", err)
	}
	if head.Schema > Schema {
		return fmt.Errorf("schema %d: %w", head.Schema, ErrNewerSchema)
	}
	if head.Retract != nil {
		var t Retraction
		if err := decodeStrict(line, &t); err != nil {
			return fmt.Errorf("not a retraction: %w", err)
		}
		if err := t.validate(); err != nil {
			return fmt.Errorf("not a retraction: %w", err)
		}
		l.Retractions = append(l.Retractions, t)
		return nil
	}
	var r Record
	if err := decodeStrict(line, &r); err != nil {
		return fmt.Errorf("not a record: %w", err)
	}
	if err := r.validate(); err != nil {
		return fmt.Errorf("not a record: %w", err)
	}
	l.Records = append(l.Records, r)
	return nil
}

func decodeStrict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value on the line")
	}
	return nil
}
