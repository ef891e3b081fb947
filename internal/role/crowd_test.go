package role

import (
	"io"
	"net"
	"testing"
)

// A connection over the bound is closed, the others stay, and one that ends makes room.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]bool{2: false, 3: true} { // with room for three it is not
		plain, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := crowd(plain, most)
		t.Cleanup(func() { _ = l.Close() })
		accepted := make(chan net.Conn, 8)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("x"))
				accepted <- c
			}
		}()
		served := func() bool {
			c, err := net.Dial("tcp", plain.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			n, _ := io.ReadFull(c, make([]byte, 1))
			return n == 1
		}
		for range 2 {
			if !served() {
				t.Error("a connection within the bound was closed")
			}
		}
		if got := served(); got != want {
			t.Errorf("the third of at most %d is served: %v", most, got)
		}
		first := <-accepted
		_, _ = first.Close(), first.Close() // it counts once
		if !served() {
			t.Error("one that ended made no room")
		}
		if served() {
			t.Error("one that was closed twice made room for two")
		}
	}
}
