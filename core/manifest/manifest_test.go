package manifest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"blobpglite/core/store"
)

func sample() Manifest {
	return Manifest{
		Format: Format, DatabaseID: "db-1", Epoch: 7,
		Layers: []Layer{
			{Key: "base/6-100", Epoch: 6, Seq: 100, RawBytes: 1 << 40, StoredBytes: 5, Taken: time.Date(2026, 1, 1, 2, 3, 4, 5, time.UTC)},
			{Key: "base/7-120", Epoch: 7, Seq: 120, Segments: 3},
		},
		WalStart: 121, Postgres: "18.6", PGliteSHA256: strings.Repeat("a0", 32), Commits: 1<<63 + 1, RetainSeconds: 86400,
		Writer: "host <3>", WriteID: "01W", Updated: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC),
	}
}

func TestRoundTrip(t *testing.T) {
	empty := Manifest{Format: Format, DatabaseID: "d", WriteID: "w", Layers: []Layer{}}
	old := sample()
	old.Format, old.RetainSeconds, old.Layers[1].Segments = 1, 0, 0
	for _, m := range []Manifest{sample(), empty, old} {
		body, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(body)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, m)
		}
	}
	zoned := sample()
	zoned.Updated = time.Now().In(time.FixedZone("somewhere", 3600))
	zoned.Layers = nil
	body, err := Encode(zoned)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(body); err != nil {
		t.Fatal(err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	good, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("nothing to replace: %s", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"white space":           {edit(`,"epoch"`, ",\n  \"epoch\""), nil},
		"newer":                 {`{"format":4,"shiny":[1]}`, ErrNewer},
		"much newer, same":      {edit(`"format":3`, `"format":99`), ErrNewer},
		"empty":                 {``, ErrCorrupt},
		"cut":                   {string(good[:len(good)-1]), ErrCorrupt},
		"trailing":              {string(good) + "{}", ErrCorrupt},
		"null":                  {`null`, ErrCorrupt},
		"no format":             {`{}`, ErrCorrupt},
		"format zero":           {edit(`"format":3`, `"format":0`), ErrCorrupt},
		"old, with a new field": {edit(`"format":3`, `"format":1`), ErrCorrupt},
		"nothing is kept":       {edit(`"retain_seconds":86400,`, ``), nil},
		"nothing, written out":  {edit(`"retain_seconds":86400`, `"retain_seconds":0`), ErrCorrupt},
		"kept for ever":         {edit(`"retain_seconds":86400`, `"retain_seconds":9999999999`), ErrCorrupt},
		"kept for less":         {edit(`"retain_seconds":86400`, `"retain_seconds":-1`), ErrCorrupt},
		"unknown field":         {edit(`"epoch"`, `"shiny":1,"epoch"`), ErrCorrupt},
		"missing field":         {edit(`"commits":9223372036854775809,`, ``), ErrCorrupt},
		"doubled field":         {edit(`"epoch":7`, `"epoch":7,"epoch":7`), ErrCorrupt},
		"misspelled field":      {edit(`"epoch"`, `"Epoch"`), ErrCorrupt},
		"number as text":        {edit(`"wal_start":121`, `"wal_start":"121"`), ErrCorrupt},
		"fraction":              {edit(`"wal_start":121`, `"wal_start":121.0`), ErrCorrupt},
		"negative":              {edit(`"epoch":7`, `"epoch":-7`), ErrCorrupt},
		"null layers":           {edit(`[{"key":"base/6-100","epoch":6,"seq":100,"hash":"","raw_bytes":1099511627776,"stored_bytes":5,"taken":"2026-01-01T02:03:04.000000005Z"},{"key":"base/7-120","epoch":7,"seq":120,"hash":"","raw_bytes":0,"stored_bytes":0,"taken":"0001-01-01T00:00:00Z","segments":3}]`, `null`), ErrCorrupt},
		"key goes up":           {edit(`base/6-100`, `base/../lease`), ErrCorrupt},
		"absolute key":          {edit(`base/6-100`, `/base/6-100`), ErrCorrupt},
		"empty key":             {edit(`base/6-100`, ``), ErrCorrupt},
		"layers out of order":   {edit(`"seq":100`, `"seq":120`), ErrCorrupt},
		"layer of the future":   {edit(`"epoch":6,"seq"`, `"epoch":8,"seq"`), ErrCorrupt},
		"negative size":         {edit(`1099511627776`, `-1`), ErrCorrupt},
		"gap in the log":        {edit(`"wal_start":121`, `"wal_start":122`), ErrCorrupt},
		"last seq":              {edit(`"seq":120`, `"seq":18446744073709551615`), ErrCorrupt},
		"no database":           {edit(`"db-1"`, `""`), ErrCorrupt},
		"no write id":           {edit(`"01W"`, `""`), ErrCorrupt},
		"bad hash":              {edit(`a0a0`, `a0`), ErrCorrupt},
		"long text":             {edit(`db-1`, strings.Repeat("d", maxText+1)), ErrCorrupt},
		"too large":             {edit(`{`, "{"+strings.Repeat(" ", MaxBytes)), ErrCorrupt},
		"time of another zone":  {edit(`05.000000678Z`, `05.000000678+00:00`), ErrCorrupt},
	} {
		_, err := Decode([]byte(c.body))
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if errors.Is(err, ErrCorrupt) != errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: ErrCorrupt is not the store's", name)
		}
	}
	if _, err := Decode([]byte(edit(`"epoch"`, `"shiny":1,"epoch"`))); !strings.Contains(err.Error(), `"shiny"`) {
		t.Errorf("the message does not name the unknown field: %v", err)
	}
	_, err = Decode([]byte(`{"format":4}`))
	if !strings.Contains(err.Error(), "format 4") || !strings.Contains(err.Error(), "up to 3") {
		t.Errorf("the message does not name both versions: %v", err)
	}
}

func TestEncodeRefusesContradictions(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Manifest){
		"format":    func(m *Manifest) { m.Format = 4 },
		"retain":    func(m *Manifest) { m.Format, m.Layers[1].Segments = 1, 0 },
		"segments":  func(m *Manifest) { m.Format = 2 },
		"negative":  func(m *Manifest) { m.Layers[1].Segments = -1 },
		"key":       func(m *Manifest) { m.Layers[0].Key = "a/../b" },
		"not UTF-8": func(m *Manifest) { m.Writer = "\xff" },
		"year":      func(m *Manifest) { m.Updated = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"layers": func(m *Manifest) {
			for i := range MaxLayers {
				m.Layers = append(m.Layers, Layer{Key: fmt.Sprint("x/", i), Seq: uint64(121 + i)})
			}
		},
	} {
		m := sample()
		spoil(&m)
		if _, err := Encode(m); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":4}`))
	f.Add([]byte(`{"format":1,"database_id":"d","layers":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Decode(body)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if m2, err := Decode(again); err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("%+v became %+v, %v", m, m2, err)
		}
	})
}
