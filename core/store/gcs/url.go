package gcs

import (
	"fmt"
	"regexp"
	"strings"

	"blobpglite/core/store"
)

const scheme = "gs://"

// ParseURL splits gs://bucket/prefix; the prefix may be missing. Errors wrap store.ErrInvalid and say what to write.
func ParseURL(s string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		if other, _, found := strings.Cut(s, "://"); found {
			return "", "", fmt.Errorf("parse bucket URL %q: %w: the scheme %q is not supported: write gs://bucket/prefix", s, store.ErrInvalid, other)
		}
		return "", "", fmt.Errorf("parse bucket URL %q: %w: write it as gs://bucket/prefix", s, store.ErrInvalid)
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	if err := checkBucket(bucket); err != nil {
		return "", "", fmt.Errorf("parse bucket URL %q: %w", s, err)
	}
	if prefix != "" {
		prefix = strings.TrimSuffix(prefix, "/")
		if err := store.CheckKey(prefix); err != nil {
			return "", "", fmt.Errorf("parse bucket URL %q: prefix: %w", s, err)
		}
	}
	return bucket, prefix, nil
}

// checkBucket refuses what cannot be a bucket. Source: cloud.google.com/storage/docs/buckets#naming.
func checkBucket(bucket string) error {
	if bucket == "" {
		return fmt.Errorf("%w: the bucket's name is missing: write gs://bucket/prefix", store.ErrInvalid)
	}
	const pattern = `^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`
	if !regexp.MustCompile(pattern).MatchString(bucket) {
		return fmt.Errorf("%w: %q is not a bucket name: 3 to 63 lower-case letters, digits, dots, dashes and underscores, "+
			"beginning and ending with a letter or digit", store.ErrInvalid, bucket)
	}
	return nil
}
