package mutant

// leanMutants break what is done to the compiler's instructions, and what guards the resulting code.
func leanMutants() []Mutant {
	const (
		random     = "./core/pglite/internal/lean -run TestRandomFunctions"
		editFile   = "core/pglite/internal/lean/edit_linux_amd64.go"
		branchFile = "core/pglite/internal/wasmbin/branches.go"
		branchTest = "./core/pglite/internal/wasmbin -run TestRandomBranches"
		copyFile   = "core/pglite/internal/wasmbin/copy.go"
		copyTest   = "./core/pglite/internal/wasmbin -run TestCopyMatchesMemoryCopy"
	)
	return []Mutant{
		{
			Name: "extension-of-a-shift", Invariant: host, File: editFile, Plan: random,
			Doc: "the zero extension of a shift is removed, which becomes part of an address with bits that 32 do not hold",
			Old: "case opIshl, opSExtend, opUExtend:",
			New: "case opSExtend, opUExtend:",
		},
		{
			Name: "extension-of-an-extension", Invariant: host, File: editFile, Plan: random,
			Doc: "the zero extension of a sign-extended value is removed",
			Old: "case opIshl, opSExtend, opUExtend:",
			New: "case opIshl:",
		},
		{
			Name: "operand-of-64-bits", Invariant: host, File: editFile, Plan: random,
			Doc: "an address that was just loaded is read along with the 32 bits next to it",
			Old: "\t\t\tof.opcode = opUload32\n",
			New: "\t\t\t_ = of\n",
		},
		{
			Name: "signed-loads-stay", Invariant: host, File: editFile, Plan: random,
			Doc: "a signed load of 32 bits leaves its sign in the upper half of a register",
			Old: "table[opSload8], table[opSload16] = onSignedLoad, onSignedLoad",
			New: "table[opSload8], table[opSload16] = onOtherLoad, onOtherLoad",
		},
		{
			Name: "long-table-stays", Invariant: host, File: editFile, Plan: "./core/pglite/internal/lean -run TestShortTable",
			Doc: "each function after a large one has to walk that one's table of dominators",
			Old: "len(t) > keptRows {", New: "len(t) > 1<<30 {",
		},
		{
			Name: "an-and-stays", Invariant: host, File: editFile, Plan: "./core/pglite/internal/lean -run TestZeroAgainstAnd",
			Doc: "an and stays to the right of a comparison",
			Old: "and != nil && and.opcode == opBand",
			New: "and != nil && and.opcode == opEnd",
		},
		{
			Name: "nothing-unchecked", Invariant: host, File: editFile, Plan: "./core/pglite/internal/lean -run TestCodeWithoutChecks",
			Doc: "checks of loads and stores stay",
			Old: "\ttable[opExitIfTrue] = onExit\n",
			New: "",
		},
		{
			Name: "comparison-apart", Invariant: host, File: editFile, Plan: "./core/pglite/internal/lean -run TestComparisonsStayWithTheirBranches",
			Doc: "a comparison becomes a number where the edge of the branch that uses it is split",
			Old: "\tf.keepTogether()\n",
			New: "",
		},
		{
			Name: "all-of-it-open", Invariant: host, File: "core/pglite/memory.go", Plan: "./core/engine -run TestAWriteOutside",
			Doc: "all that a memory may ever grow to is opened when it first grows, so that a write beyond its end is no fault",
			Old: "open(l.region[len(l.view.b):max(size, uint64(len(l.view.b)))])",
			New: "open(l.region)",
		},
		{
			Name: "huge-pages-or-none", Invariant: host, File: "core/pglite/hugepages_linux.go", Plan: "./core/pglite -run TestCheckedAnswersTheSame",
			Doc: "PostgreSQL ends where the kernel refuses huge pages",
			Old: "\t\t_ = unix.Madvise(b[behind:], unix.MADV_HUGEPAGE)\n",
			New: "\t\tif err := unix.Madvise(b[behind:], unix.MADV_HUGEPAGE); err != nil {\n\t\t\tpanic(err)\n\t\t}\n",
		},
		{
			Name: "if-not-turned", Invariant: host, File: branchFile, Plan: branchTest,
			Doc: "an if whose arm becomes its else keeps its condition",
			Old: "\tdefault:\n\t\tf.out = append(f.out, opI32Eqz)\n",
			New: "",
		},
		{
			Name: "branch-not-deeper", Invariant: host, File: branchFile, Plan: branchTest,
			Doc: "a branch that gets a block of its own does not leave that block",
			Old: "f.label(in)+1), opEnd)",
			New: "f.label(in)), opEnd)",
		},
		{
			Name: "ways-shifted", Invariant: host, File: branchFile, Plan: branchTest,
			Doc: "a br_table that becomes comparisons compares with the following number",
			Old: "opI32Const, byte(i), opI32Eq)",
			New: "opI32Const, byte(i+1), opI32Eq)",
		},
		{
			Name: "copy-beyond-the-end", Invariant: host, File: copyFile, Plan: copyTest,
			Doc: "a copy that leaves the memory writes the part before its end",
			Old: "[]uint32{copyDst, copySrc}",
			New: "[]uint32{copySrc}",
		},
		{
			Name: "copy-over-itself", Invariant: host, File: copyFile, Plan: copyTest,
			Doc: "a copy stores before everything is loaded, so that overlapping ranges are copied wrongly",
			Old: "\tc.get(copyFrom).op(load, 0, 0).set(temp + 1)\n\tc.get(copyDst).get(temp).op(store, 0, 0)\n",
			New: "\tc.get(copyDst).get(temp).op(store, 0, 0)\n\tc.get(copyFrom).op(load, 0, 0).set(temp + 1)\n",
		},
	}
}
