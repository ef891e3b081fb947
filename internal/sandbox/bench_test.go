package sandbox

import (
	"fmt"
	"strings"
	"testing"
)

const small = `export default ({ lead, company }) => {
  let points = 0;
  if (company.employees > 50) points += 40;
  if (/(cto|ceo|vp)/i.test(lead.title ?? "")) points += 35;
  if (company.country === lead.country) points += 5;
  return { points, grade: points >= 70 ? "A" : points >= 40 ? "B" : "C" };
};`

const smallInput = `{"lead":{"email":"a@b.example","title":"CEO","country":"de"},"company":{"employees":51,"country":"de"}}`

func benchmarkRun(b *testing.B, source, input string) {
	e := newEngine(b)
	p, err := e.Compile(source, Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		if _, err := e.Run(p, Call{Input: []byte(input), Now: recorded}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRun is one code step, compiled before, in an interpreter of its own.
func BenchmarkRun(b *testing.B) { benchmarkRun(b, small, smallInput) }

// BenchmarkRunLarge is a code step that reads and writes about 600 KB.
func BenchmarkRunLarge(b *testing.B) {
	var items []string
	for i := range 5000 {
		items = append(items, fmt.Sprintf(`{"id":%d,"name":"item %d","price":%d.5,"tags":["a","b"],"stock":{"de":%d,"us":null}}`, i, i, i, i))
	}
	benchmarkRun(b, "export default (x) => x.map((i) => ({...i, price: i.price * 2}))", "["+strings.Join(items, ",")+"]")
}

// BenchmarkCompile is the source of the small code step.
func BenchmarkCompile(b *testing.B) {
	e := newEngine(b)
	for b.Loop() {
		if _, err := e.Compile(small, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEngine is what a process pays once.
func BenchmarkEngine(b *testing.B) {
	for b.Loop() {
		newEngine(b)
	}
}
