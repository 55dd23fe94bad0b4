package mutant

// SoakMutants are broken variants of the service that only show after days, or in an account of them: scenario e5 has to catch them. Plan
// is its probe.
func SoakMutants() []Mutant {
	return []Mutant{
		forgetFenceGrowth(),
		{
			Name: "ack-on-its-way", Invariant: durable, File: answersFile, Plan: "e5.1",
			Doc: "an answer leaves while its record is on its way to the bucket: an instance killed then has acknowledged what exists nowhere",
			Old: "\tif m.log.isDurable(number) {\n\t\treturn nil\n\t}\n\treturn func",
			New: "\tif m.log != nil {\n\t\tif !m.log.isDurable(number) {\n\t\t\tm.background.Go(func() { _ = m.log.wait(m.ctx, number) })\n\t\t}\n\t\treturn nil\n\t}\n\treturn func",
		},
		{
			Name: "leave-temporary-files", Invariant: "nothing is left", File: "core/engine/tempfiles.go", Plan: "e5.1",
			Doc: "the file for what queries sort keeps its name while it is used: a killed process leaves it on the disk",
			Old: "\t_ = os.Remove(f.Name()) // so", New: "\t// so",
		},
		{
			Name: "collect-too-early", Invariant: restorable, File: gcFile, Plan: "e5.1",
			Doc: "a collection deletes the records needed to restore an older layer of the manifest, which is kept for a while",
			Old: "if seq >= c.m.WalStart || !b.do", New: "if len(c.m.Layers) == 0 || seq > c.m.Layers[len(c.m.Layers)-1].Seq || !b.do",
		},
		{
			Name: "double-count", Invariant: "bill", File: "core/store/gcs/billed.go", Plan: "e5.2",
			Doc: "an instance counts its writes twice",
			Old: "\t\tc.classA.Add(1)\n", New: "\t\tc.classA.Add(2)\n",
		},
		{
			Name: "idle-poll", Invariant: idle, File: modeFile, Plan: "e5.3",
			Doc: "an instance looks at the lease every twenty seconds, even without any requests",
			Old: "\te.commits = m\n",
			New: "\te.commits = m\n\tm.background.Go(func() {\n\t\tfor m.o.Clock.Sleep(m.ctx, 20*time.Second) == nil {\n\t\t\t_, _ = m.o.Store.Get(m.ctx, lease.Key)\n\t\t}\n\t})\n",
		},
	}
}
