package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// google gives access to Google's APIs.
type google struct {
	client               *http.Client
	monitoring, bigquery string // addresses
	token                func(context.Context) (string, error)
}

// mostAnswer bounds the size of an answer, in bytes.
const mostAnswer = 16 << 20

// ask sends a request, and decodes the answer into into.
func (g google) ask(ctx context.Context, method, address string, body, into any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, sent)
	if err != nil {
		return err
	}
	bearer, err := g.token(ctx)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	answer, err := g.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", r.URL.Host, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d: %.300s", r.URL.Host, answer.StatusCode, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer of %s is not what its documentation says: %w", r.URL.Host, err)
	}
	return nil
}

// series is a time series as timeSeries.list returns it.
type series struct {
	Metric struct {
		Labels map[string]string `json:"labels"`
	} `json:"metric"`
	Points []struct {
		Value struct {
			Int64  *string  `json:"int64Value"` // JSON has no 64-bit integers
			Double *float64 `json:"doubleValue"`
		} `json:"value"`
	} `json:"points"`
}

// sum adds up a series.
func (s series) sum() (float64, error) {
	total := 0.0
	for _, p := range s.Points {
		switch {
		case p.Value.Double != nil:
			total += *p.Value.Double
		case p.Value.Int64 != nil:
			n, err := strconv.ParseInt(*p.Value.Int64, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read a point of Cloud Monitoring: %w", err)
			}
			total += float64(n)
		default:
			return 0, errors.New("read a point of Cloud Monitoring: it has no number")
		}
	}
	return total, nil
}

// list reads all series of a filter, one for each value of the labels they are grouped by.
func (g google) list(ctx context.Context, s span, filter string, by ...string) ([]series, error) {
	q := url.Values{
		"filter":                         {filter},
		"interval.startTime":             {s.from.UTC().Format(time.RFC3339)},
		"interval.endTime":               {s.to.UTC().Format(time.RFC3339)},
		"aggregation.alignmentPeriod":    {strconv.Itoa(int(s.to.Sub(s.from).Seconds())) + "s"},
		"aggregation.perSeriesAligner":   {"ALIGN_DELTA"},
		"aggregation.crossSeriesReducer": {"REDUCE_SUM"},
	}
	for _, label := range by {
		q.Add("aggregation.groupByFields", label)
	}
	var all []series
	for {
		var page struct {
			TimeSeries    []series `json:"timeSeries"`
			NextPageToken string   `json:"nextPageToken"`
		}
		if err := g.ask(ctx, http.MethodGet, g.monitoring+"/v3/projects/"+url.PathEscape(s.project)+"/timeSeries?"+q.Encode(), nil, &page); err != nil {
			return nil, fmt.Errorf("read Cloud Monitoring: %w", err)
		}
		all = append(all, page.TimeSeries...)
		if page.NextPageToken == "" {
			return all, nil
		}
		q.Set("pageToken", page.NextPageToken)
	}
}

// class is the class an operation is billed as. Source: cloud.google.com/storage/pricing#operations-by-class, and the names of
// storage.googleapis.com/api/request_count.
func class(method string) string {
	switch method {
	case "WriteObject", "ListObjects", "ComposeObject", "CopyObject", "RewriteObject", "UpdateObject", "PatchObject", "ListBuckets":
		return "a"
	case "ReadObject", "GetObjectMetadata", "GetBucketMetadata":
		return "b"
	case "DeleteObject":
		return "free"
	}
	return ""
}

// used reads from Cloud Monitoring what was used in a span.
func (g google) used(ctx context.Context, s span) (u usage, err error) {
	service := fmt.Sprintf(` AND resource.type="cloud_run_revision" AND resource.labels.service_name="%s"`, s.service)
	total := func(filter string) (sum float64, err error) {
		all, err := g.list(ctx, s, filter)
		for _, one := range all {
			n, bad := one.sum()
			sum, err = sum+n, errors.Join(err, bad)
		}
		return sum, err
	}
	seconds, err := total(`metric.type="run.googleapis.com/container/billable_instance_time"` + service)
	if err != nil {
		return u, err
	}
	requests, err := total(`metric.type="run.googleapis.com/request_count"` + service)
	if err != nil {
		return u, err
	}
	u.billed, u.requests = time.Duration(seconds*float64(time.Second)), int64(requests)
	asked, err := g.list(ctx, s, fmt.Sprintf(`metric.type="storage.googleapis.com/api/request_count" AND resource.type="gcs_bucket" AND resource.labels.bucket_name="%s"`, s.bucket),
		"metric.labels.method", "metric.labels.response_code")
	if err != nil {
		return u, err
	}
	for _, one := range asked {
		sum, err := one.sum()
		if err != nil {
			return u, err
		}
		n, method := int64(sum), one.Metric.Labels["method"]
		switch {
		case one.Metric.Labels["response_code"] != "OK":
			u.refused += n
		case class(method) == "a":
			u.ops.ClassA += n
		case class(method) == "b":
			u.ops.ClassB += n
		case class(method) == "free":
			u.ops.Delete += n
		case !slices.Contains(u.unknown, method):
			u.unknown = append(u.unknown, method)
		}
	}
	slices.Sort(u.unknown)
	return u, nil
}

// line is the billing export's sum for one SKU.
type line struct {
	service, sku, unit, currency string
	amount, cost, credits        float64
}

var tableName = regexp.MustCompile(`^[A-Za-z0-9-]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+$`)

// billed reads from the billing export what was billed for a span.
func (g google) billed(ctx context.Context, s span) ([]line, error) {
	param := func(name, kind, value string) map[string]any {
		return map[string]any{"name": name, "parameterType": map[string]string{"type": kind}, "parameterValue": map[string]string{"value": value}}
	}
	query := map[string]any{
		"query": "SELECT service.description, sku.description, ANY_VALUE(usage.pricing_unit), ANY_VALUE(currency), SUM(usage.amount_in_pricing_units), SUM(cost), " +
			"SUM(IFNULL((SELECT SUM(c.amount) FROM UNNEST(credits) c), 0)) FROM `" + s.table + "` WHERE project.id = @project AND usage_start_time >= @from AND " +
			"usage_end_time <= @to AND service.description IN ('Cloud Run', 'Cloud Storage') GROUP BY 1, 2 ORDER BY 1, 2",
		"useLegacySql": false, "parameterMode": "NAMED", "timeoutMs": 60000,
		"queryParameters": []any{
			param("project", "STRING", s.project), param("from", "TIMESTAMP", s.from.UTC().Format(time.RFC3339)), param("to", "TIMESTAMP", s.to.UTC().Format(time.RFC3339)),
		},
	}
	var answer struct {
		JobComplete bool   `json:"jobComplete"`
		PageToken   string `json:"pageToken"`
		Rows        []struct {
			F []struct {
				V *string `json:"v"` // numbers, too
			} `json:"f"`
		} `json:"rows"`
	}
	if err := g.ask(ctx, http.MethodPost, g.bigquery+"/bigquery/v2/projects/"+url.PathEscape(s.project)+"/queries", query, &answer); err != nil {
		return nil, fmt.Errorf("read the billing export: %w", err)
	}
	if !answer.JobComplete || answer.PageToken != "" {
		return nil, errors.New("read the billing export: the query did not finish within a minute, or has more rows than a page: choose a shorter time span")
	}
	var lines []line
	for _, row := range answer.Rows {
		var text [7]string
		if len(row.F) != len(text) {
			return nil, fmt.Errorf("read the billing export: a row has %d columns, not %d", len(row.F), len(text))
		}
		for i, f := range row.F {
			if f.V != nil {
				text[i] = *f.V
			}
		}
		l := line{service: text[0], sku: text[1], unit: text[2], currency: text[3]}
		for i, to := range []*float64{&l.amount, &l.cost, &l.credits} {
			n, err := strconv.ParseFloat(text[4+i], 64)
			if err != nil {
				return nil, fmt.Errorf("read the billing export: %s: %w", l.sku, err)
			}
			*to = n
		}
		lines = append(lines, l)
	}
	return lines, nil
}
