package expr

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// body makes an order of about n bytes.
func body(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"id": 4711, "customer": {"email": "ann@example.com", "name": "Ann \"A\" Example"}, "total": 129.50, "lines": [`)
	for i := 0; b.Len() < n; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku": "SKU-%06d", "qty": %d, "price": %d.50, "title": "An article of the shop", "tags": ["a", "b"], "gift": false}`, i, i%7+1, i%90)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func benchScope() *Scope { return NewScope().With("trigger", Dyn()).With("line", Dyn()) }

func BenchmarkEnvironment(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := newBase().ready(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFirstCompile is what a new process pays before its first result.
func BenchmarkFirstCompile(b *testing.B) {
	for b.Loop() {
		if _, issues := Compile(`trigger.body.total > 100`, benchScope()); len(issues) > 0 {
			b.Fatal(issues)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	scope := benchScope()
	for name, src := range map[string]string{
		"small": `trigger.body.total > 100`,
		"large": `sum(trigger.body.lines.filter(l, l.qty > 1).map(l, l.qty * l.price)) + orElse(line.extra, 0)`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, issues := Compile(src, scope); len(issues) > 0 {
					b.Fatal(issues)
				}
			}
		})
	}
}

func BenchmarkEval(b *testing.B) {
	doc, err := ParseJSON(body(4096))
	if err != nil {
		b.Fatal(err)
	}
	v := vars{"trigger": NewObject([]string{"body"}, []Value{doc}), "line": parse(b, `{"qty": 2, "price": 1.5}`)}
	for name, src := range map[string]string{
		"reference":  `trigger.body.customer.email`,
		"comparison": `trigger.body.total > 100`,
		"arithmetic": `line.qty * line.price + 1`,
		"text":       `"order " + string(trigger.body.id)`,
		"orElse":     `orElse(trigger.body.customer.phone, "none")`,
		"object":     `{"id": trigger.body.id, "email": trigger.body.customer.email}`,
		"decimal":    `decimal("19.90") * 3`,
		"lines":      `sum(trigger.body.lines.map(l, l.qty * l.price))`,
	} {
		b.Run(name, func(b *testing.B) {
			p, issues := Compile(src, benchScope())
			if len(issues) > 0 {
				b.Fatal(issues)
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Eval(ctx, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseJSON(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 256 << 10, 10 << 20} {
		data := body(size)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseJSON(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseAndRead also looks into the document once, at its end.
func BenchmarkParseAndRead(b *testing.B) {
	for _, size := range []int{4 << 10, 10 << 20} {
		data := body(size)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				v, err := ParseJSON(data)
				if err != nil {
					b.Fatal(err)
				}
				lines, _ := Lookup(v, "lines")
				last, _ := Index(lines, Len(lines)-1)
				if _, ok := Lookup(last, "sku"); !ok {
					b.Fatal("no sku")
				}
			}
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	v, err := ParseJSON(body(4096))
	if err != nil {
		b.Fatal(err)
	}
	for name, v := range map[string]Value{"untouched": v, "built": rebuild(v)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst, err = AppendJSON(dst[:0], v)
				if err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

func BenchmarkHash(b *testing.B) {
	v, err := ParseJSON(body(4096))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4096)
	for b.Loop() {
		Hash(v)
	}
}
