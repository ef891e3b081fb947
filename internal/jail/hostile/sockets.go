//go:build linux && (amd64 || arm64)

package main

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// families is every address family of the kernel.
const families = 46

func socketTries() map[string]try {
	out := map[string]try{
		"socketpair": func(string) (string, error) {
			_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			return "", err
		},
		"connect": connect,
		"bind": func(string) (string, error) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return "", err
			}
			return "", unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		},
		"abstract": func(name string) (string, error) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return "", err
			}
			return "", unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + name})
		},
		"send-descriptor": func(string) (string, error) {
			return "", unix.Sendmsg(3, []byte("x"), unix.UnixRights(0), nil, 0)
		},
		"receive-message": func(string) (string, error) {
			_, _, _, _, err := unix.Recvmsg(3, make([]byte, 1), make([]byte, 100), unix.MSG_DONTWAIT)
			return "", err
		},
		"shutdown-parent": func(string) (string, error) { return "", unix.Shutdown(3, unix.SHUT_RD) },
		"peer-credentials": func(string) (string, error) {
			_, err := unix.GetsockoptUcred(3, unix.SOL_SOCKET, unix.SO_PEERCRED)
			return "", err
		},
		"socket-buffer": func(string) (string, error) { return "", unix.SetsockoptInt(3, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<30) },
	}
	for family := range families {
		out["socket:"+strconv.Itoa(family)] = func(string) (string, error) { return anySocket(family) }
	}
	return out
}

func anySocket(family int) (string, error) {
	var errs error
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
		fd, err := unix.Socket(family, kind, 0)
		if err == nil {
			return fmt.Sprintf("family %d type %d is descriptor %d", family, kind, fd), nil
		}
		errs = err
	}
	return "", errs
}

// connect dials the loopback port that the argument names.
func connect(port string) (string, error) {
	number, err := strconv.Atoi(port)
	if err != nil {
		return "", errors.New("no port")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	return "", unix.Connect(fd, &unix.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}})
}
