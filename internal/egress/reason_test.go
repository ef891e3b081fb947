package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
)

// Reasons are told without what the other side has chosen.
func TestReasonOf(t *testing.T) {
	t.Parallel()
	const hostile = "canary; the client certificate canary"
	invalid := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	leaf := &x509.Certificate{DNSNames: []string{hostile}}
	for name, c := range map[string]struct {
		err  error
		more string
		want string
	}{
		"unknown authority": {invalid(x509.UnknownAuthorityError{Cert: leaf}), "", "its certificate is of no authority that is trusted here"},
		"another name":      {invalid(x509.HostnameError{Certificate: leaf, Host: "bank.example"}), "", "its certificate is for another name"},
		"no name":           {invalid(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "bank.example"}), "", "its certificate is for no name"},
		"no address":        {invalid(x509.HostnameError{Certificate: leaf, Host: "127.0.0.1"}), "", "its certificate is for no address such as this"},
		"expired":           {invalid(x509.CertificateInvalidError{Reason: x509.Expired, Detail: hostile}), "", "its certificate has expired, or is not valid yet"},
		"no CA":             {invalid(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), "", "its certificate was signed by a certificate that may not sign others"},
		"wrong usage":       {invalid(x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}), "", "its certificate is not for servers"},
		"something else":    {invalid(errors.New(hostile)), "", "its certificate is not valid"},
		"alert": {
			&net.OpError{Op: "remote error", Err: tls.AlertError(42)}, "", "it refuses the TLS connection: bad certificate",
		},
		"alert, with a doubt": {
			&net.OpError{Op: "remote error", Err: tls.AlertError(42)}, doubtPrefix + "expired on a day",
			"it refuses the TLS connection: bad certificate; the client certificate expired on a day",
		},
		"no TLS":     {tls.RecordHeaderError{Msg: hostile}, "", "it does not speak TLS on this port"},
		"refused":    {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "", "dial: connection refused"},
		"no name ":   {&net.DNSError{Name: hostile, IsNotFound: true}, "", "its name does not resolve"},
		"no lookup":  {&net.DNSError{Name: hostile}, "", "its name could not be looked up"},
		"broke":      {errors.New(hostile), "", "the connection broke, or the answer is not HTTP"},
		"broke late": {errors.New(hostile), doubtPrefix + "expired", "the connection broke, or the answer is not HTTP; the client certificate expired"},
	} {
		message := transportMessage(c.err) + c.more
		if got := Reason(message); got != c.want || strings.Contains(got, "canary") {
			t.Errorf("%s: %q of %q, want %q", name, got, message, c.want)
		}
	}
	for _, other := range []string{"", "the other side says that the request failed: canary", "the service answered 500: canary"} {
		if got := Reason(other); got != "" {
			t.Errorf("%q is told of %q", got, other)
		}
	}
}
