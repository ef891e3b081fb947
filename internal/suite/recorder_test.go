package suite

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// recordingName is the directory beside the roles' log whose presence asks the bus of
// that system to be recorded.
const recordingName = "recording"

// recordingDir finds that directory: a role gets no environment and no further argument,
// but the log it inherits says to which system it belongs.
func recordingDir() string {
	log, err := os.Readlink("/proc/self/fd/2")
	if err != nil {
		return ""
	}
	dir := filepath.Join(filepath.Dir(log), recordingName)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// recordBus is a bus role for the recording test: the real bus, and in front of it a
// man in the middle to whom the roles' connections are pinned, who ends TLS and writes
// down every byte in both directions.
func recordBus(dir string) int {
	if err := recorder(dir); err != nil {
		fmt.Fprintln(os.Stderr, "recorder:", err)
		return 1
	}
	return 0
}

func recorder(dir string) error {
	conn, err := jail.Conn()
	if err != nil {
		return err
	}
	in := wire.NewReader(conn)
	k, err := seal.GenerateKey()
	if err != nil {
		return err
	}
	sign, err := seal.GenerateSignKey()
	if err != nil {
		return err
	}
	if _, err := conn.Write(wire.AppendFrame(nil, &wire.Hello{Sign: sign.Public(), Seal: k.Public()})); err != nil {
		return err
	}
	f, err := in.Read()
	if err != nil {
		return err
	}
	var start wire.Start
	if err := f.Parse(&start); err != nil {
		return err
	}
	s, err := bus.NewServer(bus.ServerConfig{Operator: start.Operator, Account: start.Account, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Shutdown(context.Background())
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	var connections atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go relay(c, s.Addr(), filepath.Join(dir, fmt.Sprintf("connection-%d", connections.Add(1))))
		}
	}()
	if _, err := conn.Write(wire.AppendFrame(nil, &wire.Ready{Address: l.Addr().String(), Pin: sha256.Sum256(certificate.Certificate[0])})); err != nil {
		return err
	}
	if _, err := in.Read(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// relay passes a connection on and records both directions.
func relay(c net.Conn, to, name string) {
	defer c.Close()
	up, err := tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // the test's own bus
	if err != nil {
		return
	}
	defer up.Close()
	done := make(chan struct{}, 2)
	for _, d := range []struct {
		suffix   string
		from, to net.Conn
	}{{".sent", c, up}, {".received", up, c}} {
		f, err := os.OpenFile(name+d.suffix, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "recorder:", err)
			return
		}
		defer f.Close()
		go func() {
			_, _ = io.Copy(d.to, io.TeeReader(d.from, f)) // ends with either connection
			done <- struct{}{}
		}()
	}
	<-done
}

func selfSigned() (tls.Certificate, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}, nil
}
