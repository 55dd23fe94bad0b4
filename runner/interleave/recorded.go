package interleave

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

//go:embed testdata/postgresql18.zst
var recorded []byte

// RecordedPlan returns the plan whose transcripts are in testdata.
func RecordedPlan() Plan { return Plan{All: 2, Core: 3, Samples: 3000, Longest: 8, Seed: 1} }

// Recording holds the transcripts of one server.
type Recording struct {
	// Server is its name and version.
	Server string
	// Meaning is the digest of what the names in schedules meant.
	Meaning     string
	Transcripts []Transcript
}

// ErrOutdated: the recording was made with other actions; record it again, see the package's documentation.
var ErrOutdated = errors.New("the recorded answers are to other actions than today's")

// Recorded returns the answers of a native PostgreSQL 18. Errors: ErrOutdated; a damaged file.
func Recorded() (*Recording, error) {
	r, err := decodeRecording(recorded)
	if err != nil {
		return nil, fmt.Errorf("read the recorded answers: %w", err)
	}
	if r.Meaning != meaning() {
		return nil, ErrOutdated
	}
	return r, nil
}

// Find returns the index of a schedule; negative: it was not recorded.
func (r *Recording) Find(schedule string) int {
	return slices.IndexFunc(r.Transcripts, func(t Transcript) bool { return t.Schedule == schedule })
}

// meaning is a digest of all actions, and of the queries before and after them.
func meaning() string {
	h := sha256.New()
	fmt.Fprintln(h, prepareOnce, prepareEach, askClient, askServer, parameters("third"))
	for _, a := range Actions() {
		fmt.Fprintln(h, a.Name, a.ends, a.kills)
		for _, m := range a.sends("$me") {
			b, err := m.Encode(nil)
			fmt.Fprintf(h, "%x %v\n", b, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// The format of a recording, compressed: three header lines; the distinct lines of all transcripts, each once; and one line per schedule,
// with its text and its lines' numbers from 0. The parts are separated by an empty line.
const format = "interleave 1"

// Record writes transcripts as Recorded reads them.
func Record(server string, transcripts []Transcript) ([]byte, error) {
	return (&Recording{Server: server, Meaning: meaning(), Transcripts: transcripts}).encode()
}

func (r *Recording) encode() ([]byte, error) {
	var head, lines, schedules bytes.Buffer
	fmt.Fprintf(&head, "%s\n%s\n%s\n", format, r.Server, r.Meaning)
	number := map[string]int{}
	for _, t := range r.Transcripts {
		schedules.WriteString(t.Schedule + "\t")
		for i, line := range t.Lines {
			n, ok := number[line]
			if !ok {
				n = len(number)
				number[line] = n
				lines.WriteString(line + "\n")
			}
			if i > 0 {
				schedules.WriteByte(' ')
			}
			schedules.WriteString(strconv.Itoa(n))
		}
		schedules.WriteByte('\n')
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return nil, err
	}
	for _, part := range []string{head.String(), "\n", lines.String(), "\n", schedules.String()} {
		if _, err := io.WriteString(z, part); err != nil {
			return nil, err
		}
	}
	err = z.Close()
	return out.Bytes(), err
}

// Bounds of a recording.
const (
	maxRecording = 64 << 20
	maxLine      = 1 << 20
)

func decodeRecording(b []byte) (*Recording, error) {
	z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderMaxMemory(maxRecording))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	text := bufio.NewScanner(io.LimitReader(z, maxRecording))
	text.Buffer(nil, maxLine)
	part := func(most int) (list []string) {
		for len(list) < most && text.Scan() && text.Text() != "" {
			list = append(list, text.Text())
		}
		return list
	}
	head := part(3)
	if len(head) != 3 || head[0] != format {
		return nil, fmt.Errorf("it does not begin with %q", format)
	}
	part(1) // the empty line
	lines, schedules := part(maxRecording), part(maxRecording)
	if err := text.Err(); err != nil {
		return nil, err
	}
	r := &Recording{Server: head[1], Meaning: head[2]}
	for _, s := range schedules {
		name, numbers, _ := strings.Cut(s, "\t")
		t := Transcript{Schedule: name}
		for _, text := range strings.Fields(numbers) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 || n >= len(lines) {
				return nil, fmt.Errorf("schedule %q has the line %q, of %d", name, text, len(lines))
			}
			t.Lines = append(t.Lines, lines[n])
		}
		r.Transcripts = append(r.Transcripts, t)
	}
	if len(r.Transcripts) == 0 {
		return nil, errors.New("it holds no schedules")
	}
	return r, nil
}
