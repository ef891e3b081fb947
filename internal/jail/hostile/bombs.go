//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// enough is what a bomb must reach to count as a breach: four times the budget that the tests give.
const enough = 128 << 20

func bombs() map[string]try {
	return map[string]try{
		"bomb-heap":       bombHeap,
		"bomb-string":     bombString,
		"bomb-huge":       func(string) (string, error) { return fill(make([]byte, 16<<30)) },
		"bomb-large":      func(string) (string, error) { return fill(make([]byte, 8*enough)) },
		"bomb-map":        bombMap,
		"bomb-native":     bombNative,
		"bomb-stack":      func(string) (string, error) { return fmt.Sprint(recurse(1 << 40)), nil },
		"bomb-goroutines": bombGoroutines,
		"bomb-threads":    bombThreads,
		"bomb-files":      bombFiles,
		"spin":            spin,
		"spin-alloc":      spinAlloc,
	}
}

func fill(block []byte) (string, error) {
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	return fmt.Sprintf("%d bytes", len(block)), nil
}

func bombHeap(string) (string, error) {
	var kept [][]byte
	for total := 0; total < enough; total += 64 << 10 {
		block := make([]byte, 64<<10)
		_, _ = fill(block)
		kept = append(kept, block)
	}
	return fmt.Sprintf("%d blocks", len(kept)), nil
}

func bombString(string) (string, error) {
	text := "x"
	for len(text) < 2*enough {
		text += text
	}
	return fmt.Sprintf("%d bytes", len(text)-strings.Count(text, "y")), nil
}

func bombMap(string) (string, error) {
	kept := map[int][64]byte{}
	for i := range enough / 64 {
		kept[i] = [64]byte{1}
	}
	return fmt.Sprintf("%d entries", len(kept)), nil
}

// bombNative asks the kernel for memory behind the Go runtime's back, as native code would.
func bombNative(string) (string, error) {
	const block = 16 << 20
	total := 0
	for total < 4*enough {
		memory, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return "", fmt.Errorf("after %d MiB: %w", total>>20, err)
		}
		_, _ = fill(memory)
		total += block
	}
	return fmt.Sprintf("%d bytes", total), nil
}

//go:noinline
func recurse(depth int) int {
	var pad [128]byte
	if depth == 0 {
		return 0
	}
	pad[depth%128] = 1
	return recurse(depth-1) + int(pad[depth%7])
}

func bombGoroutines(string) (string, error) {
	block := make(chan int) // never closed: the goroutines stay
	const count = enough / 2048
	for range count {
		go func() { <-block }()
		runtime.Gosched()
	}
	return fmt.Sprintf("%d goroutines", count), nil
}

func bombThreads(string) (string, error) {
	const count = 64
	ready, block := make(chan int), make(chan int) // never closed: the threads stay
	for range count {
		go func() {
			runtime.LockOSThread()
			ready <- 1
			<-block
		}()
		<-ready
	}
	return fmt.Sprintf("%d threads", count), nil
}

func bombFiles(string) (string, error) {
	const count = 64
	for i := range count {
		if _, err := unix.EpollCreate1(0); err != nil {
			return "", fmt.Errorf("after %d: %w", i, err)
		}
	}
	return fmt.Sprintf("%d descriptors", count), nil
}

func spin(string) (string, error) {
	var used unix.Timespec
	for used.Sec < 3 {
		for range 1 << 20 {
			used.Nsec++
		}
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
			return "", err
		}
	}
	return "3 seconds", nil
}

func spinAlloc(string) (string, error) {
	var used unix.Timespec
	for used.Sec < 3 {
		_ = fmt.Sprint(make([]byte, 100))
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
			return "", err
		}
	}
	return "3 seconds", nil
}
