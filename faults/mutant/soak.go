package mutant

import "fmt"

// SoakMutants are broken variants of the service that take days, or an account of them, to show: what scenario e5 has to catch. Plan is its
// probe.
func SoakMutants() []Mutant {
	return []Mutant{
		{
			Name: "collect-too-early", Invariant: restorable, File: gcFile, Plan: "e5.1",
			Doc: "a collection deletes the records that an older layer of the manifest, which is kept for a while, is restored with",
			Old: "if seq >= c.m.WalStart || !b.do", New: "if len(c.m.Layers) == 0 || seq > c.m.Layers[len(c.m.Layers)-1].Seq || !b.do",
		},
	}
}

// SoakMutant is the one of a name.
func SoakMutant(name string) (Mutant, error) {
	for _, m := range SoakMutants() {
		if m.Name == name {
			return m, nil
		}
	}
	return Mutant{}, fmt.Errorf("there is no mutant %q of the soak", name)
}
