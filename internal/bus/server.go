package bus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	// MaxMessage is the largest message in bytes; a batch is cut below it.
	MaxMessage = 8 << 20
	// startTimeout bounds how long the server may take to listen.
	startTimeout = 5 * time.Second
	// certificateLife is longer than any process lives; trust comes from the pin.
	certificateLife = 10 * 365 * 24 * time.Hour
)

// ServerConfig says whom the bus trusts and where it listens.
type ServerConfig struct {
	Operator string // NATS operator JWT, signed by the vault
	Account  string // NATS account JWT, signed by the operator
	Listen   string // host:port; port 0 picks one
	Log      *slog.Logger
}

// Server is a running bus.
type Server struct {
	nats *server.Server
	pin  [sha256.Size]byte
}

// NewServer starts a bus and returns once it listens.
func NewServer(cfg ServerConfig) (*Server, error) {
	opts, pin, err := options(cfg)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make bus: %w", err)
	}
	s.SetLoggerV2(logger{cfg.Log}, false, false, false)
	go s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("start bus on %s: it does not listen after %v", cfg.Listen, startTimeout)
	}
	return &Server{s, pin}, nil
}

// Addr is where the bus listens.
func (s *Server) Addr() string { return s.nats.Addr().String() }

// Pin is the SHA-256 of the bus's certificate, which connections check.
func (s *Server) Pin() [sha256.Size]byte { return s.pin }

// Shutdown ends the bus and every connection.
func (s *Server) Shutdown(context.Context) {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

func options(cfg ServerConfig) (*server.Options, [sha256.Size]byte, error) {
	var pin [sha256.Size]byte
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, pin, err
	}
	operator, err := jwt.DecodeOperatorClaims(cfg.Operator)
	if err != nil {
		return nil, pin, fmt.Errorf("read operator of bus: %w", err)
	}
	account, err := jwt.DecodeAccountClaims(cfg.Account)
	if err != nil {
		return nil, pin, fmt.Errorf("read account of bus: %w", err)
	}
	accounts := &server.MemAccResolver{}
	if err := accounts.Store(account.Subject, cfg.Account); err != nil {
		return nil, pin, fmt.Errorf("store account of bus: %w", err)
	}
	certificate, err := newCertificate()
	if err != nil {
		return nil, pin, err
	}
	return &server.Options{
		ServerName:       "bulkhead",
		Host:             host,
		Port:             port,
		DontListen:       false,
		NoSigs:           true,
		NoSystemAccount:  true,
		TrustedOperators: []*jwt.OperatorClaims{operator},
		AccountResolver:  accounts,
		MaxPayload:       MaxMessage,
		MaxPending:       64 << 20,
		MaxSubs:          64,
		WriteDeadline:    10 * time.Second,
		PingInterval:     20 * time.Second,
		AuthTimeout:      5,
		TLS:              true,
		TLSTimeout:       5,
		TLSVerify:        false,
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{certificate},
		},
		TLSHandshakeFirst: true,
		NoLog:             false,
	}, sha256.Sum256(certificate.Certificate[0]), nil
}

func splitListen(listen string) (string, int, error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("read listen address %q of bus: %w", listen, err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("read port of %q: want a number up to 65535", listen)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

// newCertificate makes a self-signed certificate. Nothing in it matters but its hash.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key of bus: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make serial of bus: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "bulkhead bus"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"bulkhead-bus"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate of bus: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// ErrPin means that what answers at the bus's address is not the bus.
var ErrPin = errors.New("the bus shows another certificate than the pinned one")

// clientTLS accepts the one certificate that is pinned at the time and no other. The
// usual chain check is replaced, not left out: there is no name and no authority to check.
func clientTLS(pin func() [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // #nosec G402 -- VerifyConnection compares the whole certificate
		ServerName:         "bulkhead-bus",
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 || sha256.Sum256(s.PeerCertificates[0].Raw) != pin() {
				return ErrPin
			}
			return nil
		},
	}
}

// logger passes the bus's own messages on. They name clients and never payloads.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(f string, v ...any) { l.log.Debug("bus notice", "text", fmt.Sprintf(f, v...)) }

func (l logger) Warnf(f string, v ...any) {
	text := fmt.Sprintf(f, v...)
	if strings.Contains(text, "System Account") || strings.Contains(text, "TLS Handshake First") {
		l.log.Debug("bus notice", "text", text) // both are meant to be so
		return
	}
	l.log.Warn("bus warning", "text", text)
}

func (l logger) Fatalf(f string, v ...any) { l.log.Error("bus failure", "text", fmt.Sprintf(f, v...)) }

func (l logger) Errorf(f string, v ...any) { l.log.Error("bus error", "text", fmt.Sprintf(f, v...)) }
func (logger) Debugf(string, ...any)       {}
func (logger) Tracef(string, ...any)       {}
