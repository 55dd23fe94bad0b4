package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
)

// jsonFlag is for commands that print a report.
func (c *config) jsonFlag(f *flag.FlagSet) {
	f.BoolVar(&c.json, "json", false, "print one JSON object instead of text; the exit code is the same")
}

// report is the output of status. Sizes are in bytes, times in RFC 3339. The field names are part of the interface.
type report struct {
	Database  string        `json:"database"`
	Postgres  string        `json:"postgres"`
	Epoch     uint64        `json:"epoch"`
	Writer    string        `json:"writer"` // the last one that took over the database
	FirstWAL  uint64        `json:"log_from_record"`
	Retain    time.Duration `json:"retain_ns"` // 0: the present only
	retained  string
	Layers    []layerReport   `json:"base_backups"`
	Segments  *segmentsReport `json:"segments,omitempty"`
	segments  error           // why the segments are unknown
	Lease     leaseReport     `json:"lease"`
	leaseText string
}

type layerReport struct {
	Key    string    `json:"key"`
	Record uint64    `json:"up_to_record"`
	Raw    int64     `json:"raw_bytes"`
	Stored int64     `json:"stored_bytes"`
	Taken  time.Time `json:"taken"`
}

type segmentsReport struct {
	All    int     `json:"all"`
	Newest int     `json:"newest_needs"`
	Used   float64 `json:"newest_uses_share"`
	Stored int64   `json:"stored_bytes"`      // for all layers, including their indexes
	Live   int64   `json:"newest_uses_bytes"` // of these
}

type leaseReport struct {
	State   string     `json:"state"` // never taken, free, held, run out, damaged
	Holder  string     `json:"holder,omitempty"`
	Address string     `json:"address,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
}

// status prints the state of a database, from its manifest, its lease and the layers' indexes.
func status(ctx context.Context, c *config, _ []string, out io.Writer) error {
	return withStore(ctx, c, func(st store.Store) error {
		m, _, err := manifest.Load(ctx, st)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no database in %s, or it has lost its manifest: pgserve verify tells which", c.bucket)
		}
		if err != nil {
			return err
		}
		r := reportOf(m)
		r.Segments, r.segments = use(ctx, st, m)
		if r.Lease, r.leaseText, err = holder(ctx, st, clock.System()); err != nil {
			return err
		}
		if c.json {
			return printJSON(out, r)
		}
		r.print(out)
		return nil
	})
}

func reportOf(m manifest.Manifest) report {
	r := report{Database: m.DatabaseID, Postgres: m.Postgres, Epoch: m.Epoch, Writer: m.Writer, FirstWAL: m.WalStart, retained: keptText(m), Layers: []layerReport{}}
	r.Retain, _ = m.Retain()
	for _, l := range m.Layers {
		r.Layers = append(r.Layers, layerReport{l.Key, l.Seq, l.RawBytes, l.StoredBytes, l.Taken})
	}
	return r
}

func (r report) print(out io.Writer) {
	fmt.Fprintf(out, "database   %s, PostgreSQL %s\nmanifest   epoch %d by %s, log from record %d\nkept       %s\n", r.Database, r.Postgres, r.Epoch, r.Writer, r.FirstWAL, r.retained)
	for _, l := range r.Layers {
		fmt.Fprintf(out, "layer      %s: up to record %d, %d bytes, %d stored\n", l.Key, l.Record, l.Raw, l.Stored)
	}
	switch {
	case r.segments != nil:
		fmt.Fprintf(out, "segments   unknown: %v\n", r.segments)
	case r.Segments != nil:
		fmt.Fprintf(out, "segments   %d for all layers, %d bytes with the indexes; the newest layer needs %d of them, and uses %.0f %% of their contents, %d bytes\n",
			r.Segments.All, r.Segments.Stored, r.Segments.Newest, 100*r.Segments.Used, r.Segments.Live)
	}
	fmt.Fprintln(out, "not kept   rows of unlogged and temporary tables: they are gone when the process that has the database open ends")
	fmt.Fprintf(out, "lease      %s\n", r.leaseText)
}

// use returns what is stored for the layers, which share segments, and how much of that the newest one uses; nil: nothing is stored.
// store.ErrNotFound: a layer was replaced after the manifest was read.
func use(ctx context.Context, st store.Store, m manifest.Manifest) (*segmentsReport, error) {
	segments, stored := map[string]int64{}, int64(0)
	var newest base.Use
	for _, l := range m.Layers {
		layer, err := base.ReadIndex(ctx, st, l.Key, base.Expected(m, l))
		if err != nil {
			return nil, err
		}
		stored += layer.IndexBytes()
		maps.Copy(segments, layer.ObjectBytes())
		newest = layer.Use()
	}
	if newest.Chunks == 0 {
		return nil, nil
	}
	for _, size := range segments {
		stored += size
	}
	return &segmentsReport{
		All: len(segments), Newest: newest.Segments, Used: float64(newest.LiveChunks) / float64(newest.Chunks), Stored: stored, Live: newest.LiveBytes,
	}, nil
}

// holder returns who holds the lease, as a report and in words.
func holder(ctx context.Context, st store.Store, clk clock.Clock) (leaseReport, string, error) {
	o, err := st.Get(ctx, lease.Key)
	if errors.Is(err, store.ErrNotFound) {
		return leaseReport{State: "never taken"}, "never taken", nil
	}
	if err != nil {
		return leaseReport{}, "", err
	}
	s, err := lease.Decode(o.Body)
	r := leaseReport{Holder: s.Holder, Address: s.Address, Expires: &s.Expires}
	switch {
	case errors.Is(err, lease.ErrCorrupt):
		return leaseReport{State: "damaged"}, fmt.Sprintf("free: %v; the next writer replaces it", err), nil
	case err != nil:
		return r, "", err
	case s.Holder == "":
		return leaseReport{State: "free"}, "free", nil
	case clk.Now().Before(s.Expires):
		r.State = "held"
		return r, fmt.Sprintf("held by %s (%s) until %s", s.Holder, s.Address, s.Expires.Format(time.RFC3339)), nil
	}
	r.State = "run out"
	return r, fmt.Sprintf("ran out at %s, last held by %s", s.Expires.Format(time.RFC3339), s.Holder), nil
}

// keptText says how far back earlier states are kept. Layers from before the retention was set, or set to none, stay until the next layer.
func keptText(m manifest.Manifest) string {
	earlier := "the present only"
	if len(m.Layers) > 1 {
		earlier = "earlier states since " + m.Layers[0].Taken.UTC().Format(time.RFC3339)
	}
	switch d, said := m.Retain(); {
	case said && d > 0:
		return "earlier states of the last " + d.String()
	case said && len(m.Layers) > 1:
		return earlier + ", until the next layer drops them"
	case said:
		return earlier
	case len(m.Layers) > 1:
		return earlier + "; how long to keep them has not been set yet"
	}
	return earlier + "; keeping earlier states has not been set yet"
}

// adoptable is what verify reports about a database that has lost its manifest.
type adoptable struct {
	Database string `json:"database"`
	Postgres string `json:"postgres"`
	Newest   string `json:"newest_base_backup"`
	Record   uint64 `json:"up_to_record"`
	To       uint64 `json:"records_to"` // up_to_record: none follow the base backup
	Epoch    uint64 `json:"epoch"`
}

func adoptableOf(a takeover.Adoptable, err error) *adoptable {
	if err != nil {
		return nil
	}
	return &adoptable{a.DatabaseID, a.Postgres, a.Layer.Key, a.Layer.Seq, a.To, a.Epoch}
}

// verifyJSON prints verify's findings as JSON.
func verifyJSON(r takeover.Report, err error, adopt *adoptable, out io.Writer) error {
	v := struct {
		Sound      bool   `json:"sound"`
		Unread     bool   `json:"unread,omitempty"` // it was not read to the end, and what was read is sound; Error says why
		Error      string `json:"error,omitempty"`
		Database   string `json:"database,omitempty"`
		Layers     int    `json:"base_backups"`
		LayerBytes int64  `json:"base_backup_bytes"`
		Newest     string `json:"newest_base_backup,omitempty"`
		From       uint64 `json:"records_from"`
		To         uint64 `json:"records_to"` // below records_from: there are none
		Bytes      int64  `json:"record_bytes"`
		Fences     int    `json:"fences"`
		Epoch      uint64 `json:"epoch"`
		Lease      string `json:"lease_damage,omitempty"`
		// If the manifest is lost: what pgserve adopt would continue from.
		Adoptable *adoptable `json:"adoptable,omitempty"`
	}{
		Sound: err == nil, Unread: unread(err), Adoptable: adopt, Database: r.DatabaseID, Layers: r.Layers, LayerBytes: r.LayerBytes, Newest: r.Layer,
		From: r.From, To: r.To, Bytes: r.Bytes, Fences: r.Fences, Epoch: r.Epoch,
	}
	if r.Lease != nil {
		v.Lease = r.Lease.Error()
	}
	if err != nil {
		if v.Error = err.Error(); r.DatabaseID != "" { // otherwise the error says so
			err = verdict(err)
		}
	}
	return errors.Join(printJSON(out, v), err)
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
