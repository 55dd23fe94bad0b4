package gcs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/api/option"

	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
)

// documented is every status and reason on the page of Cloud Storage's JSON API, read November 2026, and the outcome of a request that
// always gets it. Empty: redirects, or answers to nothing that this program sends.
var documented = []struct {
	status  int
	reasons string
	means   string // for every kind of request, unless exceptions says otherwise
	says    string // of the advice
}{
	{304, "notModified", "transient", ""},
	{308, "", "transient", ""},
	{400, "badRequest badRequestException corsRequestWithXOrigin invalid invalidAltValue invalidArgument invalidParameter notDownload notUpload " +
		"parseError push.channelIdInvalid push.channelIdNotUnique push.webhookUrlNoHostOrAddress push.webhookUrlNotHttps required " +
		"resourceNotEncryptedWithCustomerEncryptionKey turnedDown wrongUrlForUpload customerEncryptionAlgorithmIsInvalid " +
		"customerEncryptionKeyFormatIsInvalid customerEncryptionKeyIsIncorrect customerEncryptionKeySha256IsInvalid", "refused", ""},
	{400, "cloudKmsBadKey cloudKmsCannotChangeKeyName cloudKmsDecryptionKeyNotFound cloudKmsDisabledKey cloudKmsEncryptionKeyNotFound " +
		"cloudKmsKeyLocationNotAllowed resourceIsEncryptedWithCustomerEncryptionKey", "forbidden", "cryptoKeyEncrypterDecrypter"},
	{400, "userProjectInvalid userProjectMissing", "forbidden", "--no-requester-pays"},
	{401, "authError required lockedDomainExpired", "credentials", "gcloud auth application-default login"},
	{401, "AuthenticationRequiredRequesterPays", "forbidden", "--no-requester-pays"},
	{403, "accountDisabled UserProjectAccountProblem BILLING_DISABLED", "forbidden", "billing"},
	{403, "countryBlocked", "forbidden", "country"},
	{403, "forbidden insufficientPermissions stopChannelCallerNotOwner", "denied", "roles/storage.objectUser"},
	{403, "objectUnderActiveHold", "forbidden", "--no-temporary-hold"},
	{403, "retentionPolicyNotMet", "forbidden", "--clear-retention-period"},
	{403, "sslRequired", "forbidden", "TLS"},
	{403, "UserProjectAccessDenied", "forbidden", "--no-requester-pays"},
	{403, "rateLimitExceeded userRateLimitExceeded quotaExceeded", "throttled", ""},
	{403, "dailyLimitExceeded", "forbidden", "quota"},
	{403, "accessNotConfigured SERVICE_DISABLED", "denied", "gcloud services enable"},
	{403, "SECURITY_POLICY_VIOLATED", "forbidden", "organization"},
	{404, "notFound", "no bucket", "does not exist"},
	{405, "methodNotAllowed", "refused", ""},
	{408, "uploadBrokenConnection", "transient", ""},
	{409, "conflict", "throttled", ""},
	{410, "", "refused", ""},
	{411, "", "refused", ""},
	{412, "conditionNotMet", "precondition", ""},
	{412, "orgPolicyConstraintFailed", "forbidden", "organization"},
	{412, "softDeletePolicyNotSet objectNotSoftDeleted", "refused", ""},
	{413, "uploadTooLarge", "refused", ""},
	{416, "requestedRangeNotSatisfiable", "refused", ""},
	{429, "rateLimitExceeded", "throttled", ""},
	{499, "", "transient", ""},
	{500, "backendError internalError", "transient", ""},
	{501, "notImplemented", "refused", ""},
	{502, "", "transient", ""},
	{503, "backendError", "transient", ""},
	{504, "", "transient", ""},
}

// exceptions mean something else for some kinds.
var exceptions = map[string]string{
	"404 get": "missing", "404 delete": "missing", "416 get": "range",
}

var kinds = []string{"get", "list", "create", "swap", "put", "delete"}

func TestEveryDocumentedAnswerIsRuled(t *testing.T) {
	for _, d := range documented {
		for _, reason := range append(strings.Fields(d.reasons), "")[:max(1, len(strings.Fields(d.reasons)))] {
			for _, k := range kinds {
				want := d.means
				if e := exceptions[fmt.Sprint(d.status, " ", k)]; e != "" {
					want = e
				}
				if got := gcs.Rule(k, d.status, reason); got != want {
					t.Errorf("%s %d %s: %s, want %s", k, d.status, reason, got, want)
				}
			}
		}
	}
	for _, row := range gcs.Documented() { // nothing in the table is untested
		if !slices.ContainsFunc(documented, func(d struct {
			status               int
			reasons, means, says string
		}) bool {
			return d.status == row.Status
		}) {
			t.Errorf("status %d is in the table and not in this test", row.Status)
		}
	}
}

// request does one operation of a kind.
func request(ctx context.Context, s *gcs.Store, k string, gen store.Gen) (err error) {
	switch k {
	case "get":
		_, err = s.Get(ctx, "victim")
	case "list":
		for _, e := range s.List(ctx, "victim", "") {
			err = e
		}
	case "create":
		_, err = s.Put(ctx, "victim-new", []byte("new"), store.NewWriteID(), store.IfAbsent())
	case "swap":
		_, err = s.Put(ctx, "victim", []byte("new"), store.NewWriteID(), store.IfGen(gen))
	case "put":
		_, err = s.Put(ctx, "victim", []byte("new"), "", store.Always())
	case "delete":
		err = s.Delete(ctx, "victim")
	}
	return err
}

// refusals is a switch: how many incoming requests are refused, and how.
type refusals struct {
	mu         sync.Mutex
	status     int
	reason     string
	left, done int
}

// set says what to do from now on, and returns how many requests were refused before.
func (r *refusals) set(status int, reason string, n int) (before int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.done
	r.status, r.reason, r.left, r.done = status, reason, n, 0
	return before
}

func (r *refusals) next() (status int, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return 0, ""
	}
	r.left--
	r.done++
	return r.status, r.reason
}

// object makes an object, so that the bucket has served.
func (r *refusals) object(t *testing.T, s *gcs.Store) store.Gen {
	t.Helper()
	gen, err := s.Put(t.Context(), "victim", []byte("old"), store.NewWriteID(), store.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	return gen
}

// switched is a store whose requests can be refused.
func switched(t *testing.T) (*gcs.Store, *refusals) {
	t.Helper()
	front := newFront(t, gcsfront.Options{})
	r := &refusals{}
	base := serveBehind(t, func(w http.ResponseWriter, q *http.Request) {
		if status, reason := r.next(); status != 0 {
			refuse(w, status, reason)
			return
		}
		front.ServeHTTP(w, q)
	})
	return openStore(t, base, "db"), r
}

// refuse answers as the JSON API does.
func refuse(w http.ResponseWriter, status int, reason string) {
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"code":%d,"message":"injected","errors":[{"domain":"global","reason":%q,"message":"injected"}]}}`, status, reason)
}

// A transient answer costs a retry, never the operation: each of them once, for each kind of request, in each form.
func TestOneRefusalIsSurvived(t *testing.T) {
	t.Parallel()
	for _, d := range documented {
		if d.means == "forbidden" || d.means == "precondition" {
			continue
		}
		reason, _, _ := strings.Cut(d.reasons, " ")
		for _, k := range kinds {
			if exceptions[fmt.Sprint(d.status, " ", k)] != "" {
				continue
			}
			t.Run(fmt.Sprint(k, " ", d.status, " ", reason), func(t *testing.T) {
				s, sw := switched(t)
				gen := sw.object(t, s)
				sw.set(d.status, reason, 1)
				if err := request(t.Context(), s, k, gen); err != nil {
					t.Errorf("refused once: %v", err)
				}
				if n := sw.set(0, "", 0); n != 1 {
					t.Errorf("it was refused %d times", n)
				}
			})
		}
	}
}

// A persistent refusal is reported in its own words, and nothing was changed.
func TestRefusalsThatStay(t *testing.T) {
	t.Parallel()
	sentinels := map[string]error{
		"transient": store.ErrUnavailable, "throttled": store.ErrThrottled, "refused": store.ErrUnavailable, "denied": store.ErrDenied,
		"forbidden": store.ErrDenied, "credentials": store.ErrDenied, "no bucket": store.ErrDenied,
	}
	for _, d := range documented {
		for _, k := range kinds {
			if d.means == "precondition" || exceptions[fmt.Sprint(d.status, " ", k)] != "" {
				continue
			}
			reasons := strings.Fields(d.reasons)
			for _, reason := range append(reasons, "")[:max(1, min(2, len(reasons)))] {
				t.Run(fmt.Sprint(k, " ", d.status, " ", reason), func(t *testing.T) {
					s, sw := switched(t)
					gen := sw.object(t, s)
					before := stored(t, s)
					sw.set(d.status, reason, 1000)
					err := request(t.Context(), s, k, gen)
					n := sw.set(0, "", 0)
					want := sentinels[d.means]
					if d.means == "transient" && k != "get" && k != "list" {
						want = store.ErrUnknown
					}
					unseen := d.means == "throttled" && errors.Is(err, store.ErrUnknown) // the look was refused as well
					if !errors.Is(err, want) && !unseen {
						t.Errorf("%v, want %v", err, want)
					}
					wantMessage(t, err, d.says)
					if d.says != "roles/storage.objectUser" && d.means == "forbidden" && strings.Contains(err.Error(), "roles/storage.objectUser") {
						t.Errorf("it speaks of a role: %v", err)
					}
					if d.means == "forbidden" && n != 1 || n > 14 {
						t.Errorf("asked %d times", n)
					}
					if after := stored(t, s); after != before {
						t.Errorf("the bucket changed from %q to %q", before, after)
					}
				})
			}
		}
	}
}

// The reason is found in each form that the service uses.
func TestReasonsInEveryForm(t *testing.T) {
	for _, form := range []gcsfront.Form{gcsfront.JSON, gcsfront.Details, gcsfront.XML} {
		s := faultyStore(t, gcsfront.Rule{
			Op: gcsfront.OpPut, Phase: gcsfront.Before, Every: 1, Do: gcsfront.Refuse, Status: http.StatusForbidden, Reason: "retentionPolicyNotMet", Form: form,
		})
		_, err := s.Put(t.Context(), "key", nil, store.NewWriteID(), store.IfAbsent())
		if !errors.Is(err, store.ErrDenied) {
			t.Errorf("%q: %v", form, err)
		}
		wantMessage(t, err, "retention", "gs://test-bucket/db/key")
	}
	s := faultyStore(t, gcsfront.Rule{Op: gcsfront.OpPut, Phase: gcsfront.Before, Every: 1, Do: gcsfront.Refuse, Status: http.StatusForbidden, Form: gcsfront.Bare})
	if _, err := s.Put(t.Context(), "key", nil, store.NewWriteID(), store.IfAbsent()); !errors.Is(err, store.ErrDenied) {
		t.Errorf("no body: %v", err)
	}
}

// Expired credentials are renewed, and the request is retried with the new ones.
func TestExpiredCredentials(t *testing.T) {
	var mu sync.Mutex
	good, refusals := "one", 0
	front := newFront(t, gcsfront.Options{})
	base := serveBehind(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ok := r.Header.Get("Authorization") == "Bearer "+good
		if !ok {
			refusals++
		}
		mu.Unlock()
		if !ok {
			refuse(w, http.StatusUnauthorized, "authError")
			return
		}
		front.ServeHTTP(w, r)
	})
	s := openStore(t, base, "db")
	asked := 0
	err := s.ConnectWith(t.Context(), func() []option.ClientOption {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return []option.ClientOption{option.WithHTTPClient(&http.Client{Transport: bearer(good)})}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"one", "two", "three"} {
		mu.Lock()
		good = next
		mu.Unlock()
		if _, err := s.Put(t.Context(), "key-"+next, nil, store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Errorf("credentials %s: %v", next, err)
		}
	}
	if asked != 3 || refusals != 2 {
		t.Errorf("credentials were asked for %d times, and refused %d times; want 3 and 2", asked, refusals)
	}
}

// bearer sends a token.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
