package lease

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestCheckCall(t *testing.T) {
	t.Parallel()
	server, runner := newNode(t, wire.RoleServer, ""), newNode(t, wire.RoleRunner, "")
	good := SignCall(server.sign, OpPayloadKey, []byte("body"), testNow)
	if err := CheckCall(server.identity, good, testNow); err != nil {
		t.Fatal(err)
	}
	if again := SignCall(server.sign, OpPayloadKey, []byte("body"), testNow); again.Nonce == good.Nonce {
		t.Error("two calls have one nonce")
	}
	for name, change := range map[string]func(*wire.VaultCall){
		"another operation": func(m *wire.VaultCall) { m.Op = OpConnectionDelete },
		"another body":      func(m *wire.VaultCall) { m.Body = []byte("bodz") },
		"another time":      func(m *wire.VaultCall) { m.Issued = m.Issued.Add(time.Second) },
		"another nonce":     func(m *wire.VaultCall) { m.Nonce[0] ^= 1 },
		"no signature":      func(m *wire.VaultCall) { m.Signature = nil },
		"an old call": func(m *wire.VaultCall) {
			*m = *SignCall(server.sign, m.Op, m.Body, testNow.Add(-MaxDispatchAge-time.Second))
		},
		"a future call": func(m *wire.VaultCall) {
			*m = *SignCall(server.sign, m.Op, m.Body, testNow.Add(MaxDispatchAge+time.Second))
		},
		"a runner's call": func(m *wire.VaultCall) { *m = *SignCall(runner.sign, m.Op, m.Body, testNow) },
	} {
		m := *good
		change(&m)
		if err := CheckCall(server.identity, &m, testNow); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	if err := CheckCall(runner.identity, SignCall(runner.sign, OpPeers, nil, testNow), testNow); !errors.Is(err, ErrRefused) {
		t.Errorf("a runner's own call: %v, want ErrRefused", err)
	}
}

// Who carries the answer must not be able to put a payload key of its own in it.
func TestCheckAnswer(t *testing.T) {
	t.Parallel()
	server := newNode(t, wire.RoleServer, "")
	authority, _ := seal.GenerateSignKey()
	bus, _ := seal.GenerateSignKey()
	call, other := SignCall(server.sign, OpPayloadKey, []byte("a"), testNow), SignCall(server.sign, OpPayloadKey, []byte("a"), testNow)
	key := wire.AppendBody(nil, &PayloadKeyAnswer{Key: seal.PublicKey{1}})
	good := SignAnswer(authority, call, key)
	if err := CheckAnswer(authority.Public(), call, good); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*wire.VaultAnswer{
		"another key":            {Body: wire.AppendBody(nil, &PayloadKeyAnswer{Key: seal.PublicKey{2}}), Signature: good.Signature},
		"signed by another":      SignAnswer(bus, call, key),
		"unsigned":               {Body: key},
		"the answer to another":  SignAnswer(authority, other, key),
		"no body":                {Signature: good.Signature},
		"signed for another use": {Body: key, Signature: authority.Sign(PurposeCall, answerTuple(call, key))},
	} {
		if err := CheckAnswer(authority.Public(), call, a); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
}
