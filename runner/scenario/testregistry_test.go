package scenario

// testRegistry has verbs with every kind of argument.
func testRegistry() Registry {
	sqlRatios := metricDocs("select1_ratio", "prepared_insert_ratio", "error_ratio", "insert_10k_ratio", "bulk_insert_ratio", "scan_ratio", "join_ratio",
		"sort_ratio", "lookup_ratio")
	return Registry{
		Verbs: []Verb{
			{Name: "start", Doc: "starts a node", Args: []Arg{{Name: "node", Required: true, Doc: "which"}}},
			{Name: "hold", Doc: "waits", Args: []Arg{{Name: "for", Kind: KindDuration, Required: true, Doc: "how long"}}},
			{Name: "sync", Doc: "waits for nothing in particular"},
			{Name: "stop", Doc: "stops a node at a point", Args: []Arg{
				{Name: "node", Required: true, Doc: "which"},
				{Name: "at", Doc: "the fault point"},
				{Name: "within", Kind: KindDuration, Doc: "the limit"},
			}},
			{Name: "await", Doc: "waits for a role", Args: []Arg{
				{Name: "node", Required: true, Doc: "which"},
				{Name: "within", Kind: KindDuration, Doc: "the limit"},
			}},
			{Name: "load", Doc: "sends statements", Args: []Arg{
				{Name: "rate", Kind: KindRate, Default: "10/s", Doc: "how many"},
				{Name: "size", Kind: KindSize, Doc: "how much"},
				{Name: "share", Kind: KindFloat, Default: "0.5", Doc: "of reads"},
				{Name: "cases", Kind: KindStrings, Doc: "which"},
				{Name: "dry", Kind: KindBool, Doc: "only says what it would do"},
				{Name: "label", Doc: "free text"},
			}},
			{
				Name: "roundtrip", Doc: "commits and reopens", Args: []Arg{
					{Name: "size", Kind: KindSize, Required: true, Doc: "of the database"},
					{Name: "rounds", Kind: KindInt, Default: "1", Doc: "how often"},
					{Name: "commit", OneOf: []string{"snapshot"}, Default: "snapshot", Doc: "the mode"},
					{Name: "open_transaction", Kind: KindBool, Doc: "leaves one open"},
				},
				Metrics: metricDocs("database_bytes", "clone_us", "compressed_bytes", "restore_ms", "peak_rss_bytes"),
			},
			{
				Name: "fresh", Doc: "makes new databases", Args: []Arg{{Name: "rounds", Kind: KindInt, Doc: "how often"}},
				Metrics: metricDocs("new_database_ms", "open_ms"),
			},
			{
				Name: "sqlbench", Doc: "measures against Node", Args: []Arg{
					{Name: "rounds", Kind: KindInt, Doc: "how often"},
					{Name: "rows", Kind: KindInt, Doc: "of the bulk cases"},
					{Name: "cases", Kind: KindStrings, Doc: "which"},
				},
				Metrics: append(metricDocs("start_ratio"), sqlRatios...),
			},
			{
				Name: "nativebench", Doc: "measures against a native build", Args: []Arg{
					{Name: "rounds", Kind: KindInt, Doc: "how often"},
					{Name: "rows", Kind: KindInt, Doc: "of the bulk cases"},
					{Name: "source", Kind: KindString, Doc: "where it is built from"},
				},
				Metrics: metricDocs("select1_cpu_ratio", "prepared_insert_cpu_ratio", "insert_10k_cpu_ratio", "bulk_insert_cpu_ratio",
					"scan_cpu_ratio", "join_cpu_ratio", "sort_cpu_ratio", "lookup_cpu_ratio"),
			},
			{
				Name: "wakes", Doc: "measures against an older commit", Args: []Arg{
					{Name: "older", Required: true, Doc: "which"},
					{Name: "turns", Kind: KindInt, Doc: "how often"},
					{Name: "setups", Kind: KindInt, Doc: "how often"},
				},
				Metrics: metricDocs("cpu_ratio", "wall_ratio", "rss_ratio", "setup_ratio"),
			},
			{
				Name: "sqlolder", Doc: "measures against an older commit", Args: []Arg{
					{Name: "older", Kind: KindString, Doc: "which"},
					{Name: "repeat", Kind: KindInt, Doc: "how often"},
					{Name: "rows", Kind: KindInt, Doc: "of the bulk cases"},
				},
				Metrics: sqlRatios,
			},
			{
				Name: "sqlchecked", Doc: "measures with checks and without", Args: []Arg{
					{Name: "repeat", Kind: KindInt, Doc: "how often"},
					{Name: "rows", Kind: KindInt, Doc: "of the bulk cases"},
				},
				Metrics: sqlRatios,
			},
		},
		Checks: []Named{{Name: "checksum", Doc: "digests"}, {Name: "durability", Doc: "nothing lost"}},
		Seams:  []Named{{Name: "http", Doc: "between client and store"}},
	}
}

func metricDocs(names ...string) []MetricDoc {
	docs := make([]MetricDoc, len(names))
	for i, name := range names {
		docs[i].Name = name
	}
	return docs
}
