package lease

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// SignCall makes a call of a server to the vault. What carries it can neither make one
// nor send one twice.
func SignCall(server *seal.SignKey, op string, body []byte, now time.Time) *wire.VaultCall {
	m := &wire.VaultCall{Op: op, Body: body, Issued: now.UTC().Truncate(time.Microsecond)}
	_, _ = rand.Read(m.Nonce[:]) // never fails since Go 1.24
	m.Signature = server.Sign(PurposeCall, callTuple(m))
	return m
}

func callTuple(m *wire.VaultCall) []byte {
	return seal.Tuple(nil, []byte(m.Op), m.Body, seal.Uint(uint64(m.Issued.UnixMicro())), m.Nonce[:])
}

// CheckCall verifies that a live server made this call a moment ago. That its nonce has
// not come before is the caller's to check, for 2*[MaxDispatchAge].
func CheckCall(from *Identity, m *wire.VaultCall, now time.Time) error {
	if from.Role != wire.RoleServer || !from.Sign.Verify(PurposeCall, callTuple(m), m.Signature) {
		return fmt.Errorf("%w: call is not signed by a live server", ErrRefused)
	}
	return checkAge(m, now)
}

// SignTokenCall makes a call of an egress node to the vault, for the operations of tokens.
func SignTokenCall(egress *seal.SignKey, op string, body []byte, now time.Time) *wire.VaultCall {
	m := &wire.VaultCall{Op: op, Body: body, Issued: now.UTC().Truncate(time.Microsecond)}
	_, _ = rand.Read(m.Nonce[:]) // never fails since Go 1.24
	m.Signature = egress.Sign(PurposeTokenCall, callTuple(m))
	return m
}

// CheckTokenCall is [CheckCall] for a call of an egress node.
func CheckTokenCall(from *Identity, m *wire.VaultCall, now time.Time) error {
	if from.Role != wire.RoleEgress || !from.Sign.Verify(PurposeTokenCall, callTuple(m), m.Signature) {
		return fmt.Errorf("%w: call is not signed by a live egress node", ErrRefused)
	}
	return checkAge(m, now)
}

func checkAge(m *wire.VaultCall, now time.Time) error {
	if age := now.Sub(m.Issued); age > MaxDispatchAge || age < -MaxDispatchAge {
		return fmt.Errorf("%w: call is %v old", ErrRefused, age)
	}
	return nil
}

// SignAnswer makes the vault's answer to a call. A public key that the vault gives out
// is worth as much as its way to the server: sealed to another one, everything would be
// open to whoever put it there.
func SignAnswer(authority *seal.SignKey, call *wire.VaultCall, body []byte) *wire.VaultAnswer {
	return &wire.VaultAnswer{Body: body, Signature: authority.Sign(PurposeAnswer, answerTuple(call, body))}
}

func answerTuple(call *wire.VaultCall, body []byte) []byte {
	return seal.Tuple(nil, callTuple(call), body)
}

// CheckAnswer verifies that the authority gave this answer to this very call.
func CheckAnswer(authority seal.VerifyKey, call *wire.VaultCall, a *wire.VaultAnswer) error {
	if !authority.Verify(PurposeAnswer, answerTuple(call, a.Body), a.Signature) {
		return fmt.Errorf("%w: answer is not the vault's", ErrRefused)
	}
	return nil
}
