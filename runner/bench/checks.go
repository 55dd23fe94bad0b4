package bench

import "blobpglite/runner/scenario"

// Names of checks made by several packages.
const (
	CheckChecksum     = "checksum"
	CheckDurability   = "durability"
	CheckLocked       = "locked"
	CheckOneEpoch     = "one-epoch"
	CheckRefused      = "refused"
	CheckCollected    = "collected"
	CheckVerified     = "verified"
	CheckBounded      = "bounded"
	CheckClient       = "client"
	CheckBank         = "bank"
	CheckLinearizable = "linearizable"
	CheckDenseLog     = "dense-log"
	CheckWriteOnce    = "write-once"
)

// commonChecks returns these checks, with what each of them says.
func commonChecks() []scenario.Named {
	return []scenario.Named{
		{Name: CheckChecksum, Doc: "every chunk of rows has the digest that the checksum table keeps"},
		{Name: CheckDurability, Doc: "every acknowledged row is in the restored database, and nothing uncommitted"},
		{Name: CheckLocked, Doc: "a second writer is told who holds the lease and until when"},
		{Name: CheckOneEpoch, Doc: "of simultaneous takeovers one succeeds, and the epoch rises by exactly one"},
		{Name: CheckRefused, Doc: "a writer that was taken over is refused, and nothing of it is in the log"},
		{Name: CheckCollected, Doc: "after a collection the bucket holds nothing unreachable from the manifest and the retained records"},
		{Name: CheckVerified, Doc: "every layer and every record is sound, read from end to end"},
		{Name: CheckBounded, Doc: "after a year a cold start makes no more requests, and no more is stored besides fences, than in the first days"},
		{Name: CheckClient, Doc: "a real client does its usual work, and nothing fails"},
		{Name: CheckBank, Doc: "the sum is right in every read and every restored state, and the balances follow from the transfers"},
		{Name: CheckLinearizable, Doc: "some order of the register and bank operations explains what every client saw"},
		{Name: CheckDenseLog, Doc: "the log is dense and chained, epochs never fall, and what the manifest names is complete"},
		{Name: CheckWriteOnce, Doc: "no record was created twice, and no fence was deleted"},
	}
}
