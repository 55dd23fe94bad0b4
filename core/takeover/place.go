package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

var (
	// ErrNested: the prefix lies inside another database's, which could take its objects for its own. Name another prefix.
	ErrNested = errors.New("the prefix lies inside another database's")
	// ErrNotEmpty: the prefix for a new database already holds something, perhaps another database. Name an empty one.
	ErrNotEmpty = errors.New("the prefix is not empty")
	// ErrManifestLost: the prefix holds a database's objects, but no manifest. Survey says what could be adopted, and Adopt adopts it. No
	// new database is made there: it would have another id, and never see those objects.
	ErrManifestLost = errors.New("the manifest is lost: pgserve verify shows what is there, and pgserve adopt continues from it; for a new database, choose an empty prefix")
)

// CheckPlace returns why no new database may be made at a prefix, which a database must have to itself; nil: one may. A manifest is no
// obstacle: another process has just made the database. It costs one read for each folder above the prefix, if the store can show them
// (store.Placed), and one list. Folders that may not be read are skipped.
//
// Errors: ErrNested, ErrNotEmpty, ErrManifestLost, the store's.
func CheckPlace(ctx context.Context, st store.Store) error {
	if err := CheckAbove(ctx, st); err != nil {
		return err
	}
	ours, stranger, err := whatIsThere(ctx, st)
	if err != nil || ours == "" && stranger == "" {
		return err
	}
	// A rival may have made the database since the manifest was read, and written these objects.
	_, err = st.Get(ctx, manifest.Key)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, store.ErrNotFound):
		return err
	case ours != "" && !Unfinished(ours):
		return fmt.Errorf("the prefix contains %s, but no manifest: %w", ours, ErrManifestLost)
	case ours != "": // layers come before segments in the list: there is none
		return fmt.Errorf("%w: it contains %s, left by an unfinished branch: run the branch again, or choose an empty prefix", ErrNotEmpty, ours)
	}
	return fmt.Errorf("%w: it contains %s, and a database's prefix belongs to it alone: choose an empty prefix", ErrNotEmpty, stranger)
}

// Unfinished says whether a key is that of a page segment written by a branch. If a prefix holds nothing else, the branch was interrupted
// before it wrote its layer, and another one may ignore its leftovers.
func Unfinished(key string) bool {
	o, ok := base.ParseSegment(key)
	return ok && o.ID != ""
}

// CheckAbove rejects a prefix that lies inside another database's (ErrNested). It reads all folders above it concurrently.
func CheckAbove(ctx context.Context, st store.Store) error {
	var looks errgroup.Group
	for _, above := range store.Above(st) {
		looks.Go(func() error { return checkFolder(ctx, above) })
	}
	return looks.Wait()
}

// checkFolder rejects a folder that is a database's prefix.
func checkFolder(ctx context.Context, above store.Store) error {
	o, err := above.Get(ctx, manifest.Key)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDenied):
		return nil
	case err != nil:
		return fmt.Errorf("look for a database above the prefix: %w", err)
	}
	// Other programs use this name, too; even a damaged manifest of ours would have this field.
	m, err := manifest.Decode(o.Body)
	if err == nil || errors.Is(err, manifest.ErrNewer) || bytes.Contains(o.Body, []byte(`"database_id"`)) {
		return fmt.Errorf("%w: there is a manifest at %q (database %q): choose another prefix", ErrNested, o.Key, m.DatabaseID)
	}
	return nil
}

// whatIsThere returns the first key under a prefix that this program would write, and the first that it would not, within the first page of
// a list. The lease and probes, which an opening leaves before there is a database, count as neither.
func whatIsThere(ctx context.Context, st store.Store) (ours, stranger string, err error) {
	n := 0
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return "", "", err
		}
		if n++; n > store.PageSize {
			break
		}
		probe, isProbe := strings.CutPrefix(a.Key, "probe/")
		switch {
		case a.Key == lease.Key, a.Key == manifest.Key, isProbe && !strings.Contains(probe, "/"):
		case isOurs(a.Key):
			return a.Key, stranger, nil
		case stranger == "":
			stranger = a.Key
		}
	}
	return "", stranger, nil
}

// isOurs says whether a key has the form of a record's, a part's, a page segment's or a layer object's.
func isOurs(key string) bool {
	_, err := wal.ParseKey(key)
	_, _, part := wal.ParsePartKey(key)
	_, layer := base.ParseObject(key)
	_, segment := base.ParseSegment(key)
	return err == nil || part || layer || segment
}
