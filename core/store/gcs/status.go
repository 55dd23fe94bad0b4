package gcs

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/api/googleapi"
)

// kind is what a request does.
type kind uint8

const (
	kindRead   kind = 1 << iota // a body or attributes
	kindList                    // a page
	kindCreate                  // if absent
	kindSwap                    // if it is at a generation
	kindPut                     // unconditionally
	kindDelete
	kindCopy // within the bucket, if the destination is absent
)

// ruling says what an answer of the service means.
type ruling struct {
	status int
	reason string // the service's word; empty: any other
	kinds  kind   // 0: any
	answer answer
	advice advice
}

// rulings has every status and reason that Cloud Storage documents, and those of the common API errors that it was
// seen to send. The first matching row applies. Source: cloud.google.com/storage/docs/json_api/v1/status-codes and
// .../docs/xml-api/reference-status (whose words are in capitals), read November 2026.
//
// What the answers mean:
//
//	transient     perhaps applied, or yet to be: reads are retried, for writes the object is read back
//	throttled     not applied, and will pass: retried
//	refused       not applied. It may be a transient fault of the service: retried a few times if the bucket has
//	              served before, otherwise returned immediately
//	denied        like refused; if it persists, a person must act: advice says how
//	forbidden     like denied, but known to persist: returned immediately
//	credentials   like denied, with new credentials from the second request on
func rulings() []ruling {
	rows := []ruling{
		{status: http.StatusNotModified, answer: answerTransient}, // so are the other 3xx: redirects are followed before
		{status: http.StatusUnauthorized, reason: "AuthenticationRequiredRequesterPays", answer: answerForbidden, advice: adviseRequester},
		{status: http.StatusUnauthorized, answer: answerCredentials, advice: adviseLogin}, // authError, required, lockedDomainExpired

		{status: http.StatusForbidden, reason: "countryBlocked", answer: answerForbidden, advice: adviseCountry},
		{status: http.StatusForbidden, reason: "sslRequired", answer: answerForbidden, advice: adviseTLS},
		{status: http.StatusForbidden, reason: "accessNotConfigured", answer: answerDenied, advice: adviseAPI},
		{status: http.StatusForbidden, reason: "SERVICE_DISABLED", answer: answerDenied, advice: adviseAPI},
		{status: http.StatusForbidden, answer: answerDenied, advice: adviseRole}, // forbidden, insufficientPermissions, AccessDenied; below: the others

		{status: http.StatusNotFound, kinds: kindRead | kindDelete | kindCopy, answer: answerMissing},
		{status: http.StatusNotFound, answer: answerNoBucket},
		{status: http.StatusMethodNotAllowed, answer: answerRefused},
		{status: http.StatusRequestTimeout, answer: answerTransient}, // uploadBrokenConnection
		{status: http.StatusConflict, answer: answerThrottled},       // conflict: something else was being changed
		{status: http.StatusGone, answer: answerRefused},             // of resumable uploads
		{status: http.StatusLengthRequired, answer: answerRefused},
		{status: http.StatusPreconditionFailed, reason: "softDeletePolicyNotSet", answer: answerRefused},
		{status: http.StatusPreconditionFailed, reason: "objectNotSoftDeleted", answer: answerRefused},
		{status: http.StatusPreconditionFailed, answer: answerPrecondition}, // conditionNotMet, PreconditionFailed
		{status: http.StatusRequestEntityTooLarge, answer: answerRefused},   // uploadTooLarge
		{status: http.StatusRequestedRangeNotSatisfiable, kinds: kindRead, answer: answerRange},
		{status: http.StatusTooManyRequests, answer: answerThrottled},
		{status: statusClientClosed, answer: answerTransient},
		{status: http.StatusNotImplemented, answer: answerRefused},
		// 500 backendError, internalError; 502; 503 backendError; 504
	}
	named := func(status int, answer answer, advice advice, reasons ...string) {
		for _, r := range reasons {
			rows = append([]ruling{{status: status, reason: r, answer: answer, advice: advice}}, rows...)
		}
	}
	named(http.StatusForbidden, answerThrottled, adviseNothing, "rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "concurrentLimitExceeded")
	named(http.StatusForbidden, answerForbidden, adviseQuota, "dailyLimitExceeded", "dailyLimitExceededUnreg")
	named(http.StatusForbidden, answerForbidden, adviseRetention, "retentionPolicyNotMet", "RetentionPolicyNotMet")
	named(http.StatusForbidden, answerForbidden, adviseHold, "objectUnderActiveHold", "ObjectUnderActiveHold")
	named(http.StatusForbidden, answerForbidden, adviseBilling, "accountDisabled", "AccountProblem", "UserProjectAccountProblem", "billingNotEnabled", "BILLING_DISABLED")
	named(http.StatusForbidden, answerForbidden, adviseRequester, "UserProjectAccessDenied")
	named(http.StatusForbidden, answerForbidden, advisePolicy, "orgPolicyConstraintFailed", "vpcServiceControls", "SECURITY_POLICY_VIOLATED")
	named(http.StatusPreconditionFailed, answerForbidden, advisePolicy, "orgPolicyConstraintFailed", "OrgPolicyConstraintFailed")
	named(http.StatusBadRequest, answerForbidden, adviseRequester, "userProjectInvalid", "userProjectMissing", "UserProjectInvalid", "UserProjectMissing")
	named(http.StatusBadRequest, answerForbidden, adviseKey, "cloudKmsBadKey", "cloudKmsCannotChangeKeyName", "cloudKmsDecryptionKeyNotFound",
		"cloudKmsDisabledKey", "cloudKmsEncryptionKeyNotFound", "cloudKmsKeyLocationNotAllowed",
		"resourceIsEncryptedWithCustomerEncryptionKey", "ResourceIsEncryptedWithCustomerEncryptionKey")
	named(http.StatusBadRequest, answerCredentials, adviseLogin, "ExpiredToken")
	return rows
}

// statusClientClosed is 499: a proxy's word for a client that has gone.
const statusClientClosed = 499

// rule returns what the service's answer to a request of a kind means. Unknown statuses: 4xx are refused, others
// transient.
func rule(k kind, status int, reason string) ruling {
	for _, r := range rulings() {
		if r.status == status && (r.reason == "" || r.reason == reason) && (r.kinds == 0 || r.kinds&k != 0) {
			return r
		}
	}
	if status >= 400 && status < 500 {
		return ruling{status: status, answer: answerRefused}
	}
	return ruling{status: status, answer: answerTransient}
}

// reasonOf returns the service's word for an error: from JSON, the first reason; from XML, the code. The SDK parses
// the body for some requests, and leaves it alone for reads.
func reasonOf(err *googleapi.Error) string {
	for _, item := range err.Errors {
		if item.Reason != "" {
			return item.Reason
		}
	}
	if body := strings.TrimSpace(err.Body); strings.HasPrefix(body, "<") {
		var x struct {
			Code string `xml:"Code"`
		}
		if xml.Unmarshal([]byte(body), &x) == nil {
			return x.Code
		}
	}
	type item struct {
		Reason string `json:"reason"`
	}
	var v struct {
		Error struct {
			Errors  []item `json:"errors"`
			Details []item `json:"details"` // the newer form
		} `json:"error"`
	}
	if json.Unmarshal([]byte(err.Body), &v) == nil {
		for _, d := range append(v.Error.Errors, v.Error.Details...) {
			if d.Reason != "" {
				return d.Reason
			}
		}
	}
	return ""
}

// advice is what a person should do about an answer.
type advice uint8

const (
	adviseNothing advice = iota
	adviseRole
	adviseLogin
	adviseRetention
	adviseHold
	adviseBilling
	adviseRequester
	advisePolicy
	adviseQuota
	adviseCountry
	adviseTLS
	adviseAPI
	adviseKey
)

// text says what was wrong with op on an object of a bucket, and what to do.
func (a advice) text(bucket, op, object string) string {
	switch a {
	case adviseRole:
		return fmt.Sprintf("bucket %q does not let this identity %s objects: grant it roles/storage.objectUser on the bucket "+
			"(gcloud storage buckets add-iam-policy-binding gs://%s --member=PRINCIPAL --role=roles/storage.objectUser)", bucket, op, bucket)
	case adviseRetention:
		return fmt.Sprintf("%s cannot be replaced or deleted yet: the bucket or the object has a retention policy. A database replaces its "+
			"manifest and its lease, and deletes superseded objects: clear the policy (gcloud storage buckets update gs://%s "+
			"--clear-retention-period), or use a bucket without one", object, bucket)
	case adviseHold:
		return fmt.Sprintf("%s is under a hold and cannot be replaced or deleted: release it (gcloud storage objects update %s --no-temporary-hold "+
			"--no-event-based-hold), and make sure that the bucket sets none by default (gcloud storage buckets update gs://%s "+
			"--no-default-event-based-hold)", object, object, bucket)
	case adviseBilling:
		return fmt.Sprintf("the account or the billing of the project of bucket %q is disabled: fix it at console.cloud.google.com/billing; "+
			"if it is the project that your own credentials bill, choose another one (gcloud auth application-default set-quota-project)", bucket)
	case adviseRequester:
		return fmt.Sprintf("bucket %q makes the requester pay, and no project to bill was named: switch Requester Pays off "+
			"(gcloud storage buckets update gs://%s --no-requester-pays), or use another bucket", bucket, bucket)
	case advisePolicy:
		return fmt.Sprintf("a policy of the organization forbids this on bucket %q: the service's message names the constraint; ask who "+
			"administers the organization's policies", bucket)
	case adviseQuota:
		return fmt.Sprintf("a daily quota of the project of bucket %q is used up: raise it at console.cloud.google.com/iam-admin/quotas, or wait", bucket)
	case adviseCountry:
		return "Cloud Storage may not be used from this country"
	case adviseTLS:
		return "Cloud Storage accepts only TLS: start -endpoint with https://, or leave it out"
	case adviseAPI:
		return fmt.Sprintf("the Cloud Storage API is not enabled in the project that is billed for bucket %q: enable it (gcloud services enable "+
			"storage.googleapis.com)", bucket)
	case adviseKey:
		return fmt.Sprintf("the key that bucket %q or %s is encrypted with cannot be used: make sure that it exists and is enabled, and that the service "+
			"agent of Cloud Storage has roles/cloudkms.cryptoKeyEncrypterDecrypter on it", bucket, object)
	}
	return fmt.Sprintf("bucket %q received no valid credentials: run `gcloud auth application-default login`, or run as a service "+
		"account that has roles/storage.objectUser on the bucket", bucket)
}

// ruled returns what an error of the service means for a request of a kind; ok: it is an answer of the service at
// all.
func ruled(k kind, err error) (ruling, bool) {
	var status *googleapi.Error
	if !errors.As(err, &status) {
		return ruling{}, false
	}
	return rule(k, status.Code, reasonOf(status)), true
}
