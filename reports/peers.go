package main

import "strings"

// peer is an alternative that could hold the small application's database, and its price per month. Both cloud/README.md and the decision
// about the month are rendered from it.
type peer struct{ name, month, what, source string }

func peers() []peer {
	return []peer{
		{"Neon, plan Launch", "$5", "its minimum. At $0.106 a CU-hour the 48 cold starts of this traffic, each five minutes and more at 0.25 CU, are about $3.5 of it",
			"neon.com/docs/introduction/plans and neon.com/faqs, read in November 2026"},
		{"Cloud SQL, db-f1-micro", "not known", "its instance with a shared processor, around the clock. No page with its price could be read from here", "-"},
		{"Cloud SQL, the smallest with a processor of its own", "$49", "1 vCPU, 3.75 GB, us-central1, around the clock, without storage: $0.0413 a vCPU-hour and $0.007 a GB-hour",
			"usage.ai/blogs/gcp/cloud-sql/pricing, of May 2026, a third party's"},
		{"Litestream on a small VM", "some $5", "SQLite's. A machine around the clock, and $0.03 for the replica in a bucket, which has what is acknowledged a second later",
			"dev.to/streamersuite/cheap-cheerful-high-availability-replicating-sqlite-with-litestream-ahc; mtlynch.io/litestream, of 2021"},
		{"The TypeScript original", "$0.30", "its operations alone, by its own model. Only the figure is known here, from the plan that this project began with", "none, and no date; not checked"},
	}
}

// peerTable renders the table of cloud/README.md.
func peerTable() string {
	var rows [][]string
	for _, p := range peers() {
		rows = append(rows, []string{p.name, p.month, p.what, p.source})
	}
	return table([]string{"beside it", "a month", "what that is", "source"}, rows)
}

// peersInWords names each with its price.
func peersInWords() string {
	var parts []string
	for _, p := range peers() {
		parts = append(parts, p.name+" "+p.month)
	}
	return strings.Join(parts, ", ")
}
