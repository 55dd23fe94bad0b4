package main

import "strings"

// peer is an alternative that could hold the small application's database, and its price per month. Both cloud/README.md and the decision
// about the month are rendered from it.
type peer struct{ name, month, what, source string }

func peers() []peer {
	return []peer{
		{"Neon, plan Launch", "$5", "the plan's minimum. At $0.106 per CU-hour, this traffic's 48 cold starts, each at least five minutes at 0.25 CU, use about $3.5 of it",
			"neon.com/docs/introduction/plans and neon.com/faqs, read in November 2026"},
		{"Cloud SQL, db-f1-micro", "not known", "the instance with a shared processor, running around the clock. No page with its price could be read", "-"},
		{"Cloud SQL, smallest with a dedicated processor", "$49", "1 vCPU, 3.75 GB, us-central1, running around the clock, without storage: $0.0413 per vCPU-hour and $0.007 per GB-hour",
			"usage.ai/blogs/gcp/cloud-sql/pricing (third party, May 2026)"},
		{"Litestream on a small VM", "about $5", "for SQLite. A machine running around the clock, and $0.03 for the replica in a bucket, which gets acknowledged writes a second later",
			"dev.to/streamersuite/cheap-cheerful-high-availability-replicating-sqlite-with-litestream-ahc; mtlynch.io/litestream (2021)"},
		{"The TypeScript original", "$0.30", "its operations only, by its own model. Only the figure is known, from this project's original plan", "none, undated, not checked"},
	}
}

// peerTable renders the table of cloud/README.md.
func peerTable() string {
	var rows [][]string
	for _, p := range peers() {
		rows = append(rows, []string{p.name, p.month, p.what, p.source})
	}
	return table([]string{"alternative", "per month", "what that is", "source"}, rows)
}

// peersInWords names each with its price.
func peersInWords() string {
	var parts []string
	for _, p := range peers() {
		parts = append(parts, p.name+" "+p.month)
	}
	return strings.Join(parts, ", ")
}
