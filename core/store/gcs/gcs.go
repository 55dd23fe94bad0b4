// Package gcs is a store.Store over Google Cloud Storage, and the only importer of its SDK.
//
//	bucket, prefix, err := gcs.ParseURL("gs://my-bucket/my-database")
//	st, err := gcs.Open(ctx, gcs.Options{Bucket: bucket, Prefix: prefix})
//	defer st.Close()
//	err = st.Probe(ctx) // once per database: does this bucket honour the two conditions?
//	gen, err := st.Put(ctx, "wal/00000000000000000001", body, store.NewWriteID(), store.IfAbsent())
//
// An object is stored under <prefix>/<key>, its write id in the custom metadata field "writeid".
//
// It survives:
//
//   - A reply lost after the write was applied. The SDK's own retry would send the upload again, get 412,
//     and report a conflict with our own object. So each conditional upload is a single request that the SDK never
//     repeats; after any answer but a plain yes the object is read back and its write id decides.
//   - 429 for the losers of a race to create one name: like a 412, it makes the store read the object and decide.
//   - An upload that ends halfway: every upload carries the CRC32C of the whole body, so a truncated one is refused.
//   - 408, 429, 5xx, resets and truncated bodies on reads: retried a bounded number of times, with growing pauses.
//   - A transient refusal (401, 403, 404, 409, any other 4xx) by a bucket that has served before: retried a few times, after
//     a 401 with new credentials. The table in status.go says what each answer means. A wrong 404 to a read cannot be told
//     from a right one.
//   - Connections that died while the process was frozen: one immediate retry.
//
// It does not survive: a service that ignores preconditions (Probe detects it), and a bucket whose objects something
// else changes.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/option"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// Defaults of Options, and fixed bounds.
const (
	DefaultAttempts       = 7                      // requests per operation
	DefaultBackoffBase    = 100 * time.Millisecond // pause before the second request; doubles
	DefaultBackoffMax     = 4 * time.Second        // longest pause
	DefaultAttemptTimeout = 60 * time.Second       // for one request with its body

	maxIdleConns = 100 // to an emulator; the SDK decides for the real service
)

// emulatorEnv is the variable that points Google's tools at an emulator.
const emulatorEnv = "STORAGE_EMULATOR_HOST"

// Options says where the objects are and how to reach them.
type Options struct {
	Bucket string // required
	Prefix string // keys live below it; may be empty

	// Endpoint is the base URL of an emulator, such as http://127.0.0.1:4443, or its host:port. Empty: the value of
	// STORAGE_EMULATOR_HOST, else the real service. Requests to an emulator carry no credentials.
	Endpoint string
	// HTTPClient replaces the client that sends requests. Against the real service it must authenticate by itself.
	// Nil: application default credentials, or none for an emulator.
	HTTPClient *http.Client

	Clock  clock.Clock    // waits between attempts; nil: the system's
	Jitter func() float64 // in [0,1), spreads the pauses; nil: the process's random source

	Attempts       int           // requests per operation, at least 1; 0: DefaultAttempts
	BackoffBase    time.Duration // 0: DefaultBackoffBase
	BackoffMax     time.Duration // 0: DefaultBackoffMax
	AttemptTimeout time.Duration // 0: DefaultAttemptTimeout
}

// Store is one prefix of one bucket. It implements store.Store, store.RangeGetter and store.Copier, and is safe for concurrent use.
type Store struct {
	o      Options
	prefix string // empty, or ends with a slash

	clients *clients

	// bucketSeen is set by the first answer that only an existing bucket can give.
	bucketSeen atomic.Bool
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.RangeGetter = (*Store)(nil)
	_ store.Copier      = (*Store)(nil)
)

// Open returns the store. It sends no request to the bucket. Missing credentials are store.ErrDenied; a bad bucket, prefix
// or endpoint is store.ErrInvalid. Close it after use.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := checkBucket(o.Bucket); err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	o.Prefix = strings.TrimSuffix(o.Prefix, "/")
	if o.Prefix != "" {
		if err := store.CheckKey(o.Prefix); err != nil {
			return nil, fmt.Errorf("open bucket %q with prefix %q: %w", o.Bucket, o.Prefix, err)
		}
		o.Prefix += "/"
	}
	if o.Attempts < 0 || o.BackoffBase < 0 || o.BackoffMax < 0 || o.AttemptTimeout < 0 {
		return nil, fmt.Errorf("open bucket %q: %w: attempts, pauses and timeout must not be negative", o.Bucket, store.ErrInvalid)
	}
	o = o.withDefaults()
	clientOptions, client, err := o.clientOptions()
	if err != nil {
		return nil, fmt.Errorf("open bucket %q: %w", o.Bucket, err)
	}
	c := &clients{connect: func(ctx context.Context) (*handle, error) {
		return connect(context.WithoutCancel(ctx), o.Bucket, client, clientOptions)
	}}
	if c.now, err = c.connect(ctx); err != nil {
		return nil, fmt.Errorf("open bucket %q: %w", o.Bucket, err)
	}
	return &Store{o: o, prefix: o.Prefix, clients: c}, nil
}

// handle is a client of the SDK, which keeps its credentials for as long as they are valid.
type handle struct {
	client *storage.Client
	bucket *storage.BucketHandle
	http   *http.Client // nil: the SDK's own, over HTTP/2, which keeps one connection and abandons it when it breaks
}

// dropIdle closes the idle connections.
func (h *handle) dropIdle() {
	if h.http != nil {
		h.http.CloseIdleConnections()
	}
}

func connect(ctx context.Context, bucket string, through *http.Client, options []option.ClientOption) (*handle, error) {
	client, err := storage.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: no usable credentials: run `gcloud auth application-default login`, "+
			"or point GOOGLE_APPLICATION_CREDENTIALS at a key file: %w", store.ErrDenied, err)
	}
	client.SetRetry(storage.WithPolicy(storage.RetryNever)) // only the loops here retry
	return &handle{client: client, bucket: client.Bucket(bucket), http: through}, nil
}

// clients holds the client of a store and its views; there is one at a time.
type clients struct {
	connect func(context.Context) (*handle, error) // with current credentials

	mu  sync.Mutex
	now *handle
	old []*handle // replaced; may still have running requests

	counts counts
}

func (c *clients) current() *handle {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// renew replaces the client whose credentials were refused by one that fetches new ones; the SDK would keep the old
// ones until the token expires. Of many concurrently refused requests, one does this.
func (c *clients) renew(ctx context.Context, refused *handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != refused {
		return nil
	}
	h, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.old = append(c.old, c.now)
	c.now = h
	for len(c.old) > maxOld { // no request takes that long
		_ = c.old[0].client.Close()
		c.old = c.old[1:]
	}
	return nil
}

// maxOld bounds the number of replaced clients kept.
const maxOld = 16

// Close releases the connections. The store must not be used afterwards.
func (s *Store) Close() error {
	c := s.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, h := range append(c.old, c.now) {
		errs = append(errs, h.client.Close())
	}
	c.old = nil
	return errors.Join(errs...)
}

// String returns the address, gs://bucket/prefix.
func (s *Store) String() string { return strings.TrimSuffix(s.url(""), "/") }

// url names an object in messages.
func (s *Store) url(key string) string { return "gs://" + s.o.Bucket + "/" + s.prefix + key }

// fits returns err, the result of checking the arguments; if it is nil, it checks that prefix and key together are
// not too long for a name.
func (s *Store) fits(key string, err error) error {
	if n := len(s.prefix) + len(key); err == nil && n > store.MaxKeyBytes {
		return fmt.Errorf("%w: the key has %d bytes with its prefix, the limit is %d", store.ErrInvalid, n, store.MaxKeyBytes)
	}
	return err
}

func (s *Store) object(h *handle, key string) *storage.ObjectHandle {
	return h.bucket.Object(s.prefix + key)
}

func (o Options) withDefaults() Options {
	if o.Endpoint == "" {
		o.Endpoint = os.Getenv(emulatorEnv)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Attempts == 0 {
		o.Attempts = DefaultAttempts
	}
	if o.BackoffBase == 0 {
		o.BackoffBase = DefaultBackoffBase
	}
	if o.BackoffMax == 0 {
		o.BackoffMax = DefaultBackoffMax
	}
	if o.AttemptTimeout == 0 {
		o.AttemptTimeout = DefaultAttemptTimeout
	}
	return o
}

// clientOptions selects the API for reading bodies. On the real service it is XML, the SDK's default: its replies
// carry the custom metadata, and so the write id, which replies of the JSON API lack. Emulators answer only the JSON
// API properly, and add the metadata to it.
func (o Options) clientOptions() ([]option.ClientOption, *http.Client, error) {
	options := []option.ClientOption{option.WithTelemetryDisabled()}
	client := o.HTTPClient
	if o.Endpoint != "" {
		base, err := parseEndpoint(o.Endpoint)
		if err != nil {
			return nil, nil, err
		}
		options = append(options, option.WithEndpoint(base+"/storage/v1/"), option.WithoutAuthentication(), storage.WithJSONReads())
		if client == nil {
			transport := http.DefaultTransport.(*http.Transport).Clone()
			transport.MaxIdleConns, transport.MaxIdleConnsPerHost = maxIdleConns, maxIdleConns
			client = &http.Client{Transport: transport}
		}
	}
	if client != nil {
		options = append(options, option.WithHTTPClient(client))
	}
	return options, client, nil
}

// parseEndpoint returns the scheme and host of an emulator's address.
func parseEndpoint(s string) (string, error) {
	full := s
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("%w: endpoint %q is not a base URL: write it like http://127.0.0.1:4443, without a path", store.ErrInvalid, s)
	}
	return u.Scheme + "://" + u.Host, nil
}
