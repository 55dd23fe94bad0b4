package mutant

// SoakMutants are broken variants of the service that take days, or an account of them, to show: what scenario e5 has to catch. Plan is its
// probe.
func SoakMutants() []Mutant {
	return []Mutant{
		{
			Name: "collect-too-early", Invariant: restorable, File: gcFile, Plan: "e5.1",
			Doc: "a collection deletes the records that an older layer of the manifest, which is kept for a while, is restored with",
			Old: "if seq >= c.m.WalStart || !b.do", New: "if len(c.m.Layers) == 0 || seq > c.m.Layers[len(c.m.Layers)-1].Seq || !b.do",
		},
		{
			Name: "double-count", Invariant: "bill", File: "core/store/gcs/billed.go", Plan: "e5.2",
			Doc: "an instance counts what it writes twice",
			Old: "\t\tc.classA.Add(1)\n", New: "\t\tc.classA.Add(2)\n",
		},
		{
			Name: "idle-poll", Invariant: idle, File: modeFile, Plan: "e5.3",
			Doc: "an instance looks at the lease every twenty seconds, whether anybody asks for anything or not",
			Old: "\te.commits = m\n",
			New: "\te.commits = m\n\tm.background.Go(func() {\n\t\tfor m.o.Clock.Sleep(m.ctx, 20*time.Second) == nil {\n\t\t\t_, _ = m.o.Store.Get(m.ctx, lease.Key)\n\t\t}\n\t})\n",
		},
	}
}
