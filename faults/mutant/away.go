package mutant

// awayMutants break files whose bytes are elsewhere, and waiting for them.
func awayMutants() []Mutant {
	const (
		files     = "core/memfs/"
		fileTests = "./core/memfs -run "
		waitFile  = "core/pglite/away.go"
		waitTests = "./core/pglite -run "
	)
	return []Mutant{
		{
			Name: "catalogs-later", Invariant: restorable, File: "core/engine/opening.go", Plan: "./core/engine -run TestFirstRowsOfWhatWasLoaded",
			Doc: "an opening does not request the catalogs ahead, so it waits for each of their pages",
			Old: "\t\treturn base.Soon\n", New: "\t\treturn base.Later\n",
		},
		{
			Name: "boot-set-never-made", Invariant: restorable, File: "core/engine/compact.go", Plan: "./core/engine -run TestFirstRowsOfWhatWasLoaded",
			Doc: "a database that is only read after it was loaded gets no boot set, so each cold start waits for page after page",
			Old: "!m.pays() && !m.teaches() || ", New: "!m.pays() || ",
		},
		{
			Name: "boot-set-made-each-time", Invariant: restorable, File: "core/engine/compact.go", Plan: "./core/engine -run TestFirstRowsOfWhatWasLoaded",
			Doc: "each life that reads other pages takes a layer when it ends",
			Old: " && !m.taken.layer.HasBootSet()", New: "",
		},
		{
			Name: "hydration-cuts-in", Invariant: promise, File: "core/engine/hydrate.go", Plan: "./core/engine -run TestHydration$",
			Doc: "the rest of a database is fetched while a statement waits for pages",
			Old: "	if r.n > 0 {\n", New: "	if r.n < 0 {\n",
		},
		{
			Name: "advice-is-dropped", Invariant: promise, File: "core/pglite/ahead.go", Plan: "./core/engine -run TestRecoveryAsksAhead",
			Doc: "what PostgreSQL says it will read is not fetched ahead, as in recovery after a crash",
			Old: "uint32(s[3]) == adviseWillNeed &&", New: "uint32(s[3]) == ^uint32(0) &&",
		},
		{
			Name: "late-bytes-are-taken", Invariant: restorable, File: files + "away.go", Plan: fileTests + "TestAwayModel",
			Doc: "bytes that arrive late are put where a newer layer has others by now",
			Old: " || address < 0 || in.address(chunk) != address {",
			New: " || address < 0 {",
		},
		{
			Name: "evicts-what-no-layer-has", Invariant: restorable, File: files + "settle.go", Plan: fileTests + "TestAwayModel",
			Doc: "a chunk written since the layer was taken is evicted",
			Old: "if s.data != away && (s.data == nil || s.gen > in.settled) {",
			New: "if s.data != away && s.data == nil {",
		},
		{
			Name: "a-layer-of-another-file", Invariant: restorable, File: files + "settle.go", Plan: fileTests + "TestSettleKnowsTheFile",
			Doc: "what a layer holds of a file is taken for that of the file that got its number",
			Old: " || f.inodes[ino].born > uint64(m) {",
			New: " {",
		},
		{
			Name: "half-a-chunk-of-zeros", Invariant: restorable, File: files + "away.go", Plan: fileTests + "TestAwayModel",
			Doc: "a write of the beginning of a chunk that is away turns the rest into zeros",
			Old: "	if last != first && in.isAway(last) && end < min((last+1)*ChunkSize, in.size) {",
			New: "	if last != first && in.isAway(last) && end < 0 {",
		},
		{
			Name: "sorts-take-all-memory", Invariant: promise, File: files + "temporary.go", Plan: "-run TestTemporaryLimit ./core/memfs",
			Doc: "temporary files of queries take any amount of memory",
			Old: "case t.Memory < 0 || ", New: "case t.Memory != 0 || ",
		},
		{
			Name: "somebody-elses-block", Invariant: promise, File: files + "temporary.go", Plan: "-run TestTemporaryModel ./core/memfs",
			Doc: "beyond its written bytes, a temporary file shows what another one had there",
			Old: "case fresh && m < ChunkSize:", New: "case fresh && m < 0:",
		},
		{
			Name: "block-stays-taken", Invariant: promise, File: files + "temporary.go", Plan: "-run TestTemporaryModel ./core/memfs",
			Doc: "a chunk of a temporary file is truncated, but its block stays taken",
			Old: "	f.giveBlocks([]int64{block})\n}", New: "}",
		},
		{
			Name: "ended-engine-keeps-its-files", Invariant: promise, File: "core/engine/engine.go", Plan: "-run TestAnEndedEngineKeepsNoFiles ./core/engine",
			Doc: "a closed engine that is still referred to keeps the whole database in memory",
			Old: "	e.server.discard()\n", New: "",
		},
		{
			Name: "discarded-files-are-used", Invariant: restorable, File: "core/engine/server.go", Plan: "-run TestAnEndedEngineKeepsNoFiles ./core/engine",
			Doc: "work that waited for the lock while the engine ended, such as a base backup, finds a tree without files",
			Old: "		if c.Err() == nil {\n			f(c)", New: "		if c != nil {\n			f(c)",
		},
		{
			Name: "open-files-are-kept", Invariant: promise, File: files + "clone.go", Plan: "-run TestDiscard ./core/memfs",
			Doc: "a discarded tree keeps the contents of files that are open",
			Old: "			*in = inode{ino: in.ino, mode: in.mode, opens: in.opens}\n", New: "			in.nlink = 0\n",
		},
		{
			Name: "a-slow-disk-stops-all", Invariant: promise, File: "core/pglite/temporary.go", Plan: "-run TestSlowDiskHoldsNobodyUp -timeout 30s ./core/pglite",
			Doc: "a process that waits for the disk of temporary files makes all others wait",
			Old: "|| !c.diskWaits.Load() {", New: "|| c.ctx != nil {",
		},
		{
			Name: "sort-ends-without-a-word", Invariant: promise, File: "core/engine/tempfiles.go", Plan: "-run TestTemporaryFilesEnd ./core/engine",
			Doc: "a sort that does not fit ends with a full disk that does not exist",
			Old: "if n := o.tempMemory(); n > 0", New: "if n := o.tempMemory(); n < 0",
		},
		{
			Name: "moved-is-lost", Invariant: promise, File: waitFile, Plan: waitTests + "TestMovedMeanwhile",
			Doc: "a statement fails because a newer layer has moved what it fetches",
			Old: "		case !slices.Equal(needs(), missing):",
			New: "		case slices.Equal(missing, nil):",
		},
		{
			Name: "cancel-is-a-broken-disk", Invariant: promise, File: waitFile, Plan: waitTests + "TestFetchEnds",
			Doc: "a client that cancels its statement is told that the disk is broken",
			Old: "	if !p.cut || level != levelError",
			New: "	if p.cut || level != levelError",
		},
		{
			Name: "cancel-waits-for-the-bucket", Invariant: promise, File: waitFile, Plan: waitTests + "TestFetchEnds -timeout 30s",
			Doc: "a fetch that hangs cannot be canceled",
			Old: "		if p.ends(o) {\n			return nil, errInterrupted\n		}\n	}\n}",
			New: "	}\n}",
		},
	}
}
