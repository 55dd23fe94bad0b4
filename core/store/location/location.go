// Package location parses the URL of a database and opens the store there. It is the only package that knows every kind of store.
//
//	at, err := location.Parse("gs://my-bucket/my-database") // or "file:///home/me/my-database"
//	st, err := at.Open(ctx, location.Options{Create: true})
//	defer st.Close()
package location

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"blobpglite/core/store"
	"blobpglite/core/store/file"
	"blobpglite/core/store/gcs"
)

// Forms says how a location is written, for messages.
const Forms = "gs://name/prefix or file:///folder"

const (
	gsScheme   = "gs://"
	fileScheme = "file://"
)

// Location is where one database is: a prefix of a bucket, or a folder. Make one with Parse.
type Location struct {
	bucket, prefix string
	dir            string // of file://; with slashes
}

// Store is the store at a location.
type Store interface {
	store.Store
	store.RangeGetter
	// Probe checks that create-if-absent and compare-and-swap work there. It is called before a database is made.
	Probe(ctx context.Context) error
	// Close releases connections, files and locks. The store must not be used afterwards.
	Close() error
	String() string // the URL
}

// Options of Open.
type Options struct {
	Endpoint string // of gs://: base URL of an emulator; empty: STORAGE_EMULATOR_HOST, else the real service
	Create   bool   // of file://: make the folder and the store in it if missing
}

// Parse parses a URL. The root of a bucket or of a file system is refused: a prefix or a folder is needed. Errors wrap
// store.ErrInvalid and say what to write.
func Parse(text string) (Location, error) {
	at, err := parse(text)
	if err != nil && !errors.Is(err, store.ErrInvalid) {
		err = fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	if err != nil {
		return Location{}, fmt.Errorf("%q: %w: write %s", text, err, Forms)
	}
	return at, nil
}

func parse(text string) (Location, error) {
	switch {
	case strings.HasPrefix(text, gsScheme):
		bucket, prefix, err := gcs.ParseURL(gsScheme + strings.TrimSuffix(text[len(gsScheme):], "/"))
		if err == nil && prefix == "" {
			err = errors.New("the prefix is missing: a database needs one of its own")
		}
		return Location{bucket: bucket, prefix: prefix}, err
	case strings.HasPrefix(text, fileScheme):
		return parseFile(text)
	}
	return Location{}, errors.New("it is neither the URL of a bucket nor that of a folder")
}

func parseFile(text string) (Location, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Location{}, errors.New("it is malformed: in a folder's name, write %, ? and # as %25, %3F and %23")
	case u.Host != "" && u.Host != "localhost":
		return Location{}, fmt.Errorf("it names the machine %q: write a folder of this machine with three slashes, from the root", u.Host)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return Location{}, errors.New("in a folder's name, write %, ? and # as %25, %3F and %23")
	}
	dir := path.Clean("/" + u.Path)
	if u.Path == "" || dir == "/" || strings.ContainsRune(dir, 0) {
		return Location{}, errors.New("the folder is missing: a database needs one of its own")
	}
	return Location{dir: dir}, nil
}

// IsFolder reports whether it is a folder on this machine, not a bucket.
func (l Location) IsFolder() bool { return l.dir != "" }

// String returns the URL.
func (l Location) String() string {
	if l.IsFolder() {
		return (&url.URL{Scheme: "file", Path: l.dir}).String()
	}
	return gsScheme + l.bucket + "/" + l.prefix
}

// Below returns a location inside this one. Only experiments use it: a database must not lie inside another one.
func (l Location) Below(name string) Location {
	if l.IsFolder() {
		l.dir += "/" + name
	} else {
		l.prefix += "/" + name
	}
	return l
}

// Overlaps reports whether one of the two lies inside the other, or both are the same. Links between folders are not
// followed.
func (l Location) Overlaps(other Location) bool {
	if l.IsFolder() != other.IsFolder() || l.bucket != other.bucket {
		return false
	}
	a, b := l.prefix+l.dir+"/", other.prefix+other.dir+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// Open opens the store. Close it after use. Errors are those of gcs.Open and file.Open.
func (l Location) Open(ctx context.Context, o Options) (Store, error) {
	if l.IsFolder() {
		st, err := file.Open(ctx, file.Options{Dir: filepath.FromSlash(l.dir), Create: o.Create})
		if err != nil {
			return nil, err
		}
		return st, nil
	}
	st, err := gcs.Open(ctx, gcs.Options{Bucket: l.bucket, Prefix: l.prefix, Endpoint: o.Endpoint})
	if err != nil {
		return nil, err
	}
	return st, nil
}
