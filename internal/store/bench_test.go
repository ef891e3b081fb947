package store

import (
	"context"
	"testing"
)

// BenchmarkOpenTemporary measures a new database for one run.
func BenchmarkOpenTemporary(b *testing.B) {
	for range b.N {
		s, err := Open(context.Background(), Options{Dir: b.TempDir(), Durability: Temporary})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
