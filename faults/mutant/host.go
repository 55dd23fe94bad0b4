package mutant

// hostMutants break the code that hosts PostgreSQL's: its rewriting, the calls between it and the host, the compilation cache.
func hostMutants() []Mutant {
	const (
		mendFile   = "core/pglite/internal/wasmbin/mend.go"
		invokeFile = "core/pglite/invoke.go"
		cacheFile  = "core/pglite/compilations.go"
		imageFile  = "core/pglite/snapshot_unix.go"
		keptFile   = "core/pglite/kept.go"
		keptTests  = "./core/pglite -run TestKeptStart"
		binTests   = "./core/pglite/internal/wasmbin -run AreRight"
	)
	return []Mutant{
		{
			Name: "float-select", Invariant: host, File: mendFile, Plan: binTests,
			Doc: "selects of f64 are left to wazero, which compiles some of them wrongly on amd64",
			Old: "\tcase F64:\n", New: "\tcase FuncRef:\n",
		},
		{
			Name: "unsuspected-call", Invariant: host, File: mendFile, Plan: "./core/pglite/internal/wasmbin -run TestSuspects",
			Doc: "a select of floats that come from a call is not searched for",
			Old: "s.types(s.m.Funcs[i].Results)", New: "s.types(s.m.Funcs[i].Params)",
		},
		{
			Name: "unsigned-conversion", Invariant: host, File: mendFile, Plan: binTests,
			Doc: "conversions of unsigned integers to f64 are left to wazero",
			Old: "\tcase in.op == opF64ConvertI64U:\n", New: "\tcase in.op == opF64ConvertI64U && f.walk == nil:\n",
		},
		{
			Name: "dirty-results", Invariant: host, File: invokeFile, Plan: "./core/pglite -run TestHostResultsAreClean",
			Doc: "the upper half of the slot of a host function's i32 result is not cleared",
			Old: "\t\tif narrowResult {\n", New: "\t\tif narrowResult && f == nil {\n",
		},
		{
			Name: "damaged-compilation", Invariant: host, File: cacheFile, Plan: "./core/pglite -run TestDamagedCompilation",
			Doc: "a damaged entry of the compilation cache stays where it is",
			Old: "\t\tif !known[name] {\n", New: "\t\tif !known[name] && c == nil {\n",
		},
		{
			Name: "behind-an-image", Invariant: host, File: imageFile, Plan: "./core/pglite -run TestBehindAnImage",
			Doc: "beyond what an image holds, a process has what was there before",
			Old: "rest := region[s.ends:s.size]; len(rest) > 0", New: "rest := region[s.size:s.size]; len(rest) > 0",
		},
		{
			Name: "image-cut", Invariant: host, File: imageFile, Plan: "./core/pglite -run TestBehindAnImage",
			Doc: "only the part of an image before the first hole is mapped",
			Old: "\t\ts.ends = min(uint64(to), s.size)\n", New: "\t\ts.ends = min(uint64(to), s.size)\n\t\tbreak\n",
		},
		{
			Name: "kept-unseen", Invariant: host, File: keptFile, Plan: keptTests,
			Doc: "the checksum of a kept start is not checked",
			Old: "\t\tb, err = unsealed(b)\n", New: "\t\tb = b[:len(b)-4]\n",
		},
		{
			Name: "kept-cut", Invariant: host, File: keptFile, Plan: keptTests,
			Doc: "the last piece of a start's shared memory is not kept",
			Old: "\tw.extents(p.segment)\n", New: "\tw.extents(p.segment[:len(p.segment)-1])\n",
		},
	}
}
