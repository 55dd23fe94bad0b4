package history

// State is everything that a reader found in a database.
type State struct {
	Ledger    []LedgerRow     `json:"ledger"`
	Balances  []int64         `json:"balances"`  // by account, from 0
	Transfers []int64         `json:"transfers"` // tokens
	Registers map[int64]int64 `json:"registers"`
	Blocks    []BlockRow      `json:"blocks"`
	Tables    []int64         `json:"tables"` // tokens of the tables that DDL made
	Copies    []CopyRow       `json:"copies"`
}

// LedgerRow is one entry: Hash is computed from the previous entry's and this token.
type LedgerRow struct {
	ID    int64  `json:"id"`
	Token int64  `json:"token"`
	Hash  string `json:"hash"`
}

// BlockRow is rows that were inserted together with their digest.
type BlockRow struct {
	Token  int64  `json:"token"`
	Rows   int64  `json:"rows"`   // according to the digest's row
	Found  int64  `json:"found"`  // in the table
	Digest string `json:"digest"` // as stored
	Actual string `json:"actual"` // of the rows found
}

// CopyRow is what is there of one COPY.
type CopyRow struct {
	Token int64 `json:"token"`
	Rows  int64 `json:"rows"`
	Wrong int64 `json:"wrong"` // rows that differ from their own digest
}
