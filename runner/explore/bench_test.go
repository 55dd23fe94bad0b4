package explore

import "testing"

func BenchmarkSchedule(b *testing.B) {
	for _, p := range Plans() {
		b.Run(p.Name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				w, _, err := p.random(1, n, 40)
				if err != nil {
					b.Fatal(err)
				}
				if w.judge.broken != nil {
					b.Fatal(w.judge.broken)
				}
				w.close()
			}
		})
	}
}
