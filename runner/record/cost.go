package record

// Prices in US dollars for Standard storage in one region. Source: "Cloud Storage
// pricing", the tables "Operations" and "Data storage", cloud.google.com/storage/pricing,
// reviewed 2026-11.
const (
	// PriceClassAUSD is for one PUT, LIST, compose, copy or patch: $0.005 per 1,000.
	PriceClassAUSD = 0.005 / 1000
	// PriceClassBUSD is for one GET or stat: $0.0004 per 1,000.
	PriceClassBUSD = 0.0004 / 1000
	// PriceDeleteUSD is for one DELETE: free.
	PriceDeleteUSD = 0.0
	// PriceStorageUSD is for one GB (10^9 bytes) over one month.
	PriceStorageUSD = 0.020
)

// Ops counts a run's requests to the object store.
type Ops struct {
	// ClassA are PUT and LIST, ClassB are GET, as the store bills them.
	ClassA    int64 `json:"class_a"`
	ClassB    int64 `json:"class_b"`
	Delete    int64 `json:"delete"`
	BytesUp   int64 `json:"bytes_up"`
	BytesDown int64 `json:"bytes_down"`
}

// CostUSD is what the operations would be billed, without any free tier. Traffic within one region is free, and storage is not an
// operation.
func (o Ops) CostUSD() float64 {
	return float64(o.ClassA)*PriceClassAUSD +
		float64(o.ClassB)*PriceClassBUSD +
		float64(o.Delete)*PriceDeleteUSD
}

// Add sums two counts.
func (o Ops) Add(other Ops) Ops {
	return Ops{
		ClassA:    o.ClassA + other.ClassA,
		ClassB:    o.ClassB + other.ClassB,
		Delete:    o.Delete + other.Delete,
		BytesUp:   o.BytesUp + other.BytesUp,
		BytesDown: o.BytesDown + other.BytesDown,
	}
}

// Sub returns what was added since an earlier count.
func (o Ops) Sub(earlier Ops) Ops {
	return Ops{
		ClassA:    o.ClassA - earlier.ClassA,
		ClassB:    o.ClassB - earlier.ClassB,
		Delete:    o.Delete - earlier.Delete,
		BytesUp:   o.BytesUp - earlier.BytesUp,
		BytesDown: o.BytesDown - earlier.BytesDown,
	}
}
