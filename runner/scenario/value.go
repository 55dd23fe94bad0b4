package scenario

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. KB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024; B is a byte.
type Size int64

// Rate is a number of events per second.
type Rate float64

// sizeUnits are tried in this order when a size is written.
func sizeUnits() []struct {
	name  string
	bytes int64
} {
	return []struct {
		name  string
		bytes int64
	}{
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"B", 1},
	}
}

// ParseSize reads a size such as "1.5MB". A bare number is refused.
func ParseSize(text string) (Size, error) {
	for _, u := range sizeUnits() {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok || number == "" || !isNumber(number) {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		bytes := n * float64(u.bytes)
		if err != nil || bytes < 0 || bytes >= math.MaxInt64 || bytes != math.Trunc(bytes) {
			return 0, fmt.Errorf("%q is no whole number of bytes", text)
		}
		return Size(bytes), nil
	}
	return 0, fmt.Errorf("%q is no size: write a number and a unit, such as 500KB, 10MB or 8KiB", text)
}

// String writes the size in the largest unit that leaves it whole.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// ParseRate reads a rate such as "20/s" or "90/m".
func ParseRate(text string) (Rate, error) {
	number, unit, ok := strings.Cut(text, "/")
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if !ok || seconds == 0 || !isNumber(number) {
		return 0, fmt.Errorf("%q is no rate: write a number and a time, such as 20/s, 90/m or 5/h", text)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%q is no rate: the number is out of range", text)
	}
	return Rate(n / seconds), nil
}

// String writes the rate per second.
func (r Rate) String() string {
	return strconv.FormatFloat(float64(r), 'g', -1, 64) + "/s"
}

// ParseDuration parses a time such as "250ms" or "1m30s", which must not be negative.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration: write a number and a unit, such as 250ms, 10s or 1m30s", text)
	}
	return d, nil
}

func isNumber(text string) bool {
	return regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`).MatchString(text)
}

// infer gives a plain (unquoted) text of a document its type by its form: a duration, a size, a rate, or else the text itself.
func infer(text string) any {
	if d, err := ParseDuration(text); err == nil && text != "0" {
		return d
	}
	if s, err := ParseSize(text); err == nil {
		return s
	}
	if r, err := ParseRate(text); err == nil {
		return r
	}
	return text
}

// inferScalar is infer for text that YAML has not looked at, as in -set.
func inferScalar(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
		return f
	}
	switch text {
	case "true":
		return true
	case "false":
		return false
	}
	return infer(text)
}

// written returns a typed value as a document would write it: numbers and booleans unchanged, sizes, rates and durations as text, lists as
// lists.
func written(v any) any {
	switch v := v.(type) {
	case Size, Rate, time.Duration:
		return fmt.Sprint(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = written(e)
		}
		return out
	default:
		return v
	}
}

// coerce converts v to the argument's kind, or says what the kind requires.
func coerce(v any, a Arg) (any, error) {
	out, ok := convert(v, a.Kind)
	if !ok {
		return nil, fmt.Errorf("%v is no %s", written(v), kindHint(a.Kind))
	}
	if text, isText := out.(string); isText && len(a.OneOf) > 0 && !contains(a.OneOf, text) {
		return nil, fmt.Errorf("%q is none of %s%s", text, strings.Join(a.OneOf, ", "), didYouMean(text, a.OneOf))
	}
	return out, nil
}

func kindHint(k Kind) string {
	switch k {
	case KindDuration:
		return "duration: write a number and a unit, such as 250ms or 10s"
	case KindSize:
		return "size: write a number and a unit, such as 10MB or 8KiB"
	case KindRate:
		return "rate: write a number and a time, such as 20/s"
	case KindBool:
		return "bool: write true or false"
	case KindInt:
		return "whole number"
	default:
		return k.String()
	}
}

func convert(v any, kind Kind) (any, bool) {
	switch kind {
	case KindString:
		switch v := written(v).(type) {
		case string:
			return v, true
		case int64, float64, bool:
			return fmt.Sprint(v), true
		}
		return nil, false
	case KindInt:
		if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
		n, ok := v.(int64)
		return n, ok
	case KindFloat:
		if n, ok := v.(int64); ok {
			return float64(n), true
		}
		f, ok := v.(float64)
		return f, ok
	case KindBool:
		b, ok := v.(bool)
		return b, ok
	case KindStrings:
		return toStrings(v)
	default:
		return convertUnit(v, kind)
	}
}

// convertUnit converts to the kinds that are written with a unit; a quoted text is parsed here, because inference leaves it alone.
func convertUnit(v any, kind Kind) (any, bool) {
	if text, ok := v.(string); ok {
		v = infer(text)
	}
	switch kind {
	case KindDuration:
		d, ok := v.(time.Duration)
		return d, ok
	case KindSize:
		s, ok := v.(Size)
		return s, ok
	case KindRate:
		r, ok := v.(Rate)
		return r, ok
	}
	return nil, false
}

func toStrings(v any) (any, bool) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := make([]string, len(list))
	for i, e := range list {
		text, ok := convert(e, KindString)
		if !ok {
			return nil, false
		}
		out[i] = text.(string)
	}
	return out, true
}
