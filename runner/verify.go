package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/location"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
	"blobpglite/runner/progress"
)

// verifyPrefix checks a database in a bucket from end to end and changes nothing. It returns the exit code: 0 only if the database is
// sound.
func verifyPrefix(ctx context.Context, url string, out io.Writer) (int, error) {
	at, err := location.Parse(url)
	if err != nil {
		return exitUsage, usageError{fmt.Errorf("-verify: %w", err)}
	}
	st, err := at.Open(ctx, location.Options{})
	if errors.Is(err, store.ErrNotFound) {
		return exitUsage, printReport(out, url, takeover.Report{}, errNoDatabase)
	}
	if err != nil {
		return exitFail, err
	}
	show := progress.New(os.Stderr)
	report, err := takeover.VerifyWith(ctx, st, takeover.VerifyOptions{Deep: true, Progress: show.Step})
	if errors.Is(err, store.ErrNotFound) && report.DatabaseID == "" {
		err = missingManifest(ctx, st, err)
	}
	show.Close()
	closeErr := st.Close()
	if err := printReport(out, url, report, err); err != nil {
		return exitFail, errors.Join(err, closeErr)
	}
	switch {
	case errors.Is(err, errNoDatabase):
		return exitUsage, nil
	case err != nil || closeErr != nil:
		return exitFail, closeErr
	}
	return exitPass, nil
}

var (
	// errNoDatabase: the prefix is empty, so it is probably wrong.
	errNoDatabase = errors.New("there is no database at this prefix: check the URL")
	// errManifestGone: there is a log or a layer, but nothing says where to start.
	errManifestGone = fmt.Errorf("there are objects of a database, but no manifest: %w", manifest.ErrCorrupt)
)

// missingManifest distinguishes an empty prefix from a database without a manifest.
func missingManifest(ctx context.Context, st store.Store, err error) error {
	for _, prefix := range []string{wal.Prefix(), base.Prefix(), base.SegmentPrefix()} {
		for a, listErr := range st.List(ctx, prefix, "") {
			if listErr != nil {
				return errors.Join(err, listErr)
			}
			return fmt.Errorf("%w: restore an older generation of it (%s is there)", errManifestGone, a.Key)
		}
	}
	return errNoDatabase
}

// printReport says what is sound, and what is not.
func printReport(out io.Writer, url string, r takeover.Report, damage error) error {
	var text string
	if r.DatabaseID != "" {
		text = fmt.Sprintf("database  %s, epoch %d\n", r.DatabaseID, r.Epoch)
		if r.Layers > 0 {
			text += fmt.Sprintf("layers    %d, %d bytes; the newest is %s\n", r.Layers, r.LayerBytes, r.Layer)
		} else {
			text += "layers    none yet\n"
		}
		if r.To < r.From {
			text += fmt.Sprintf("log       no records after record %d\n", r.To)
		} else {
			text += fmt.Sprintf("log       records %d to %d are sound: %d fences, %d bytes\n", r.From, r.To, r.Fences, r.Bytes)
		}
	}
	if r.Lease != nil {
		text += fmt.Sprintf("lease     %v; the next writer replaces it\n", r.Lease)
	}
	for _, problem := range problems(damage) {
		text += fmt.Sprintf("%-9s %v\n", kindOf(problem), problem)
	}
	switch {
	case damage == nil:
		text += fmt.Sprintf("sound     %s, up to record %d\n", url, r.To)
	case errors.Is(damage, wal.ErrCorrupt) && r.DatabaseID != "":
		text += fmt.Sprintf("so        records up to %d can be restored, and nothing after them; the database cannot be opened for writing\n", r.To)
	}
	_, err := io.WriteString(out, text)
	return err
}

// problems takes joined errors apart.
func problems(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	// The error of fmt.Errorf with several %w also has this method, but a text of its own.
	if errors.Join(joined.Unwrap()...).Error() != err.Error() {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, problems(e)...)
	}
	return all
}

// kindOf is the first word of a line about a problem.
func kindOf(err error) string {
	for _, k := range []struct {
		err  error
		word string
	}{
		{errNoDatabase, "nothing"}, {wal.ErrForeign, "foreign"}, {wal.ErrNewer, "newer"}, {manifest.ErrNewer, "newer"}, {lease.ErrNewer, "newer"},
		{wal.ErrCorrupt, "damaged"}, {base.ErrCorrupt, "damaged"}, {store.ErrCorrupt, "damaged"},
	} {
		if errors.Is(err, k.err) {
			return k.word
		}
	}
	return "unknown" // it could not be read: nothing is known about it
}
