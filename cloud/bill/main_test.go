package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// stand stands in for Google's interfaces, in the shape that their documentation gives.
func stand(t *testing.T, change func(path string, q map[string][]string) string) google {
	t.Helper()
	point := func(value string) string {
		return `"points": [{"interval": {"startTime": "2026-11-01T00:00:00Z", "endTime": "2026-11-02T00:00:00Z"}, "value": {` + value + `}}]`
	}
	asked := func(method, code string, n int) string {
		return fmt.Sprintf(`{"metric": {"type": "storage.googleapis.com/api/request_count", "labels": {"method": %q, "response_code": %q}},
			"resource": {"type": "gcs_bucket", "labels": {"project_id": "p"}}, "metricKind": "DELTA", "valueType": "INT64", %s}`, method, code, point(fmt.Sprintf(`"int64Value": "%d"`, n)))
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"error": {"code": 401, "status": "UNAUTHENTICATED"}}`, http.StatusUnauthorized)
			return
		}
		if text := change(r.URL.Path, r.URL.Query()); text != "" {
			fmt.Fprint(w, text)
			return
		}
		q := r.URL.Query()
		switch filter := q.Get("filter"); {
		case r.URL.Path == "/bigquery/v2/projects/p/queries":
			var body struct {
				Query      string
				Parameters []struct {
					Name string `json:"name"`
				} `json:"queryParameters"`
			}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil || !strings.Contains(body.Query, "`p.billing.gcp_billing_export_v1_0`") || len(body.Parameters) != 3 {
				t.Errorf("%+v %v", body, err)
			}
			fmt.Fprint(w, `{"kind": "bigquery#queryResponse", "jobComplete": true, "totalRows": "2", "rows": [
				{"f": [{"v": "Cloud Run"}, {"v": "Services CPU (Request-based billing)"}, {"v": "second"}, {"v": "USD"}, {"v": "140.0"}, {"v": "0.00336"}, {"v": "-0.00336"}]},
				{"f": [{"v": "Cloud Storage"}, {"v": "Standard Storage Class A Operations"}, {"v": "count"}, {"v": "USD"}, {"v": "1343"}, {"v": "0.006715"}, {"v": "0"}]}]}`)
		case r.URL.Path != "/v3/projects/p/timeSeries", q.Get("aggregation.perSeriesAligner") != "ALIGN_DELTA", q.Get("aggregation.alignmentPeriod") != "86400s",
			q.Get("interval.startTime") != "2026-11-01T00:00:00Z", q.Get("interval.endTime") != "2026-11-02T00:00:00Z":
			t.Errorf("asked for %s", r.URL)
		case strings.Contains(filter, "billable_instance_time") && strings.Contains(filter, `service_name="svc"`):
			fmt.Fprintf(w, `{"timeSeries": [{"metric": {"type": "x"}, "metricKind": "DELTA", "valueType": "DOUBLE", %s}], "unit": "s"}`, point(`"doubleValue": 140.5`))
		case strings.Contains(filter, "run.googleapis.com/request_count"):
			fmt.Fprintf(w, `{"timeSeries": [{%s}]}`, point(`"int64Value": "1001"`))
		case strings.Contains(filter, "storage.googleapis.com/api/request_count") && strings.Contains(filter, `bucket_name="b"`) && len(q["aggregation.groupByFields"]) == 2:
			if q.Get("pageToken") == "" {
				fmt.Fprintf(w, `{"timeSeries": [%s, %s], "nextPageToken": "more"}`, asked("WriteObject", "OK", 1200), asked("ListObjects", "OK", 48))
				return
			}
			fmt.Fprintf(w, `{"timeSeries": [%s, %s, %s, %s]}`, asked("ReadObject", "OK", 1600), asked("DeleteObject", "OK", 30), asked("ReadObject", "NOT_FOUND", 7), asked("Frobnicate", "OK", 1))
		default:
			t.Errorf("asked for %s", r.URL)
		}
	}))
	t.Cleanup(s.Close)
	return google{client: s.Client(), monitoring: s.URL, bigquery: s.URL, token: func(context.Context) (string, error) { return "secret", nil }}
}

func nothing(string, map[string][]string) string { return "" }

var day = []string{"-project", "p", "-service", "svc", "-bucket", "b", "-from", "2026-11-01T00:00:00Z", "-to", "2026-11-02T00:00:00Z"}

// TestBill: a day's usage, by Cloud Monitoring and by the billing export.
func TestBill(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), append(day, "-gib", "0.5", "-table", "p.billing.gcp_billing_export_v1_0"), &out, &errs, stand(t, nothing)); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	for _, says := range []string{
		"1001 requests, 140.5 s of instances billed",
		"1248 of class A, 1600 of class B, 30 deletions, 7 not billed  $0.006880", // 1248 * 0.005/1000 + 1600 * 0.0004/1000
		"or $0.3248 in a month of 30 days",                                        // 30 * (140.5 * (0.000024 + 0.5 * 0.0000025) + 1001 * 0.4e-6 + 0.00688)
		"class is unknown: Frobnicate",
		"Services CPU (Request-based billing): 140 second, 0.003360 USD, credits -0.003360",
		"total: 0.010075 USD, and credits of -0.003360",
	} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("the output lacks %q:\n%s", says, out.String())
		}
	}
}

// TestBillRefuses: a value missing from the platform's answers does not count as zero.
func TestBillRefuses(t *testing.T) {
	for name, answer := range map[string]string{
		"an answer that is none":   `<html>`,
		"a point without a number": `{"timeSeries": [{"points": [{"value": {"stringValue": "x"}}]}]}`,
		"a number that is none":    `{"timeSeries": [{"points": [{"value": {"int64Value": "x"}}]}]}`,
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), day, &out, &errs, stand(t, func(string, map[string][]string) string { return answer })); code != 1 || out.Len() > 0 {
			t.Errorf("%s: exit code %d: %s", name, code, out.String())
		}
	}
	for name, answer := range map[string]string{
		"a query that is not through": `{"jobComplete": false}`,
		"a row of other columns":      `{"jobComplete": true, "rows": [{"f": [{"v": "1"}]}]}`,
	} {
		var out, errs bytes.Buffer
		g := stand(t, func(path string, _ map[string][]string) string {
			if strings.HasPrefix(path, "/bigquery") {
				return answer
			}
			return ""
		})
		if code := run(t.Context(), append(day, "-table", "p.billing.gcp_billing_export_v1_0"), &out, &errs, g); code != 1 {
			t.Errorf("%s: exit code %d: %s", name, code, out.String())
		}
	}
	g := stand(t, nothing)
	g.token = func(context.Context) (string, error) { return "wrong", nil }
	var out, errs bytes.Buffer
	if code := run(t.Context(), day, &out, &errs, g); code != 1 || !strings.Contains(errs.String(), "401") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, day[:6], append(day, "more"), append(day, "-table", "x`; DROP"), append(day, "-vcpu", "0"), append(day, "-to", "2026-11-01T00:00:30Z"), append(day, "-service", `a"b`),
		{"-from", "yesterday", "-project", "p", "-service", "s", "-bucket", "b"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs, google{}); code != 2 {
			t.Errorf("%q: exit code %d: %s", args, code, errs.String())
		}
	}
}
