package mutant

// postlinkMutants break how compiled code is arranged, and what is checked before that.
func postlinkMutants() []Mutant {
	const (
		blocks   = "core/pglite/internal/postlink/blocks.go"
		emit     = "core/pglite/internal/postlink/emit.go"
		peephole = "core/pglite/internal/postlink/peephole.go"
		walk     = "core/pglite/internal/postlink/walk.go"
		tests    = "./core/pglite/internal/postlink -run "
	)
	return []Mutant{
		{
			Name: "turned-the-wrong-way", Invariant: host, File: blocks, Plan: tests + "TestForms",
			Doc: "a branch over a jump goes where the jump went, under the condition it had",
			Old: "return b.cond ^ 1, b.next, -1", New: "return b.cond, b.next, -1",
		},
		{
			Name: "errors-stay-in-the-way", Invariant: host, File: blocks, Plan: tests + "TestForms",
			Doc: "code that leads only to a trap stays where it was",
			Old: "trapped(b.taken) && trapped(b.next) {", New: "trapped(b.taken) && trapped(b.next) && false {",
		},
		{
			Name: "further-than-eight-bits", Invariant: host, File: emit, Plan: tests + "TestCallsAndDistances",
			Doc: "a jump too far for eight bits is made short",
			Old: "d == int(int8(d))", New: "d >= -128 && d <= 128",
		},
		{
			Name: "table-as-it-was", Invariant: host, File: emit, Plan: tests + "TestTables",
			Doc: "the entries of a jump table lead to where their code used to be",
			Old: "uint64(int64(w.begin+w.blocks[to].at-begin))", New: "uint64(int64(w.begin+int(w.ins[w.blocks[to].begin].at)-begin))",
		},
		{
			Name: "constants-astray", Invariant: host, File: emit, Plan: tests + "TestForms",
			Doc: "constants are not where the instructions that load them expect them",
			Old: "w.align(consts % alignment)", New: "w.align(0)",
		},
		{
			Name: "frame-kept", Invariant: host, File: peephole, Plan: tests + "TestFrames",
			Doc: "a function returns without giving back what it took from the stack",
			Old: "if gave == took {", New: "if gave.pushed == took.pushed {",
		},
		{
			Name: "flags-of-an-addition", Invariant: host, File: peephole, Plan: tests + "TestForms",
			Doc: "a test after an addition is left out, although the addition sets other flags",
			Old: "case 0x23, 0x0b, 0x33:", New: "case 0x23, 0x0b, 0x33, 0x03:",
		},
		{
			Name: "half-of-a-register", Invariant: host, File: peephole, Plan: tests + "TestForms",
			Doc: "a test of 64 bits is left out after an and of 32",
			Old: "if other&8 != rex&8 || ", New: "if ",
		},
		{
			Name: "instructions-overlap", Invariant: host, File: walk, Plan: tests + "TestRefusals",
			Doc: "a jump into an instruction is followed",
			Old: "if in.at < end {", New: "if in.at < end && in.kind == trap {",
		},
		{
			Name: "code-as-it-was", Invariant: host, File: "core/pglite/runtime.go", Plan: "./core/pglite -run TestCodeIsArranged",
			Doc: "compiled code is written unarranged",
			Old: "files.Arrange = checked == nil", New: "files.Arrange = false",
		},
	}
}
