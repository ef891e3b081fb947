package lease

import (
	"crypto/sha256"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// OpMac checks what proves who the sender of a webhook is: MacCall → MacAnswer. The secret
// is a config value of the instance, one of its subscription, or one of an app, and does not
// leave the vault, whose answer is yes or no.
const OpMac = "mac"

// Limits of a MacCall.
const (
	// MaxMacChecks is the most checks of one call.
	MaxMacChecks = 256
	// MaxMacData is the most signed bytes of one check; more come in several calls.
	MaxMacData = 512 << 10
	// MaxMacSecrets is the most secrets of one check, any of which may match.
	MaxMacSecrets = 8
	// MaxMacCandidates is the most signatures of one request, any of which may match.
	MaxMacCandidates = 16
)

// MacKind says how a secret proves something.
type MacKind byte

// The kinds of checks.
const (
	MacEqual MacKind = 1 + iota // a candidate is the secret
	MacHMAC                     // a candidate is the HMAC (RFC 2104) of the data under the secret
	MacJWS                      // a candidate is the signature of the data by the algorithm (RFC 7518) under the secret, or for the public key that the config value holds in PEM
	// MacSign answers a provider that wants to see that we know the secret: the result has the
	// HMAC of the data, which is a token of at most MaxMacToken letters, digits, - and _, so that
	// nothing that means something can be signed with it.
	MacSign
)

// MaxMacToken is the longest data of a MacSign, in bytes.
const MaxMacToken = 256

// MacToken reports whether data is one that MacSign signs.
func MacToken(data []byte) bool {
	if len(data) == 0 || len(data) > MaxMacToken {
		return false
	}
	for _, c := range data {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// MacDecoding says how the bytes of a key stand in the config value.
type MacDecoding byte

// The decodings.
const (
	MacRaw      MacDecoding = iota // the text is the key
	MacStandard                    // base64 after an optional "whsec_" (Standard Webhooks)
	MacBase64                      // base64
)

// MacCheck is one check. A long one comes in parts: all but the last carry More, every one
// the same Session, which is random, and data in order; the candidates come with the last.
type MacCheck struct {
	Customer      id.Customer
	Instance      id.Instance
	ConfigVersion uint64
	Config        []byte // sealed, at ConfigPlace; empty when the vault has opened it a moment ago
	Kind          MacKind
	Algorithm     string // of HMAC: sha1, sha256, sha384, sha512; of JWS: HS256, HS384, HS512, RS256, ES256, EdDSA
	Decoding      MacDecoding
	Secrets       []string // names of config values
	Data          []byte
	Candidates    [][]byte
	Session       [16]byte
	Part          uint32 // counts the parts, from 0
	More          bool

	// State, of a check with a subscription's secret, is the sealed state value of that name,
	// see [SubscriptionSecret]; empty like Config. StateHash is its SHA-256.
	State     []byte
	StateName [32]byte
	StateHash [32]byte
	// Client, of a check with a secret of an app: the client record of Customer, of which
	// Secrets are fields. Instance and config are not used.
	Client id.Connection
}

// SubscriptionSecret is the name of the state value in which the secret of a flow's
// subscription is. Other names of state values are secret: this one tells nothing that the
// server does not know.
func SubscriptionSecret(i id.Instance, flow string) [32]byte {
	return sha256.Sum256(seal.Tuple(nil, []byte("subscription/1"), i[:], []byte(flow)))
}

// Walk implements [wire.Message].
func (m *MacCheck) Walk(c *wire.Coder) {
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Uint(&m.ConfigVersion)
	c.Bytes(&m.Config)
	c.Byte((*byte)(&m.Kind))
	c.String(&m.Algorithm)
	c.Byte((*byte)(&m.Decoding))
	c.Strings(&m.Secrets)
	c.Bytes(&m.Data)
	list := make([]macBytes, len(m.Candidates))
	for i, b := range m.Candidates {
		list[i] = b
	}
	wire.List(c, &list)
	if c.Reading() {
		m.Candidates = make([][]byte, len(list))
		for i, b := range list {
			m.Candidates[i] = b
		}
	}
	c.Fixed(m.Session[:])
	c.Uint32(&m.Part)
	c.Bool(&m.More)
	c.Bytes(&m.State)
	c.Fixed(m.StateName[:])
	c.Fixed(m.StateHash[:])
	c.Fixed(m.Client[:])
}

type macBytes []byte

// Walk implements [wire.Message].
func (m *macBytes) Walk(c *wire.Coder) { c.Bytes((*[]byte)(m)) }

// MacCall is checks of any customers, in one frame.
type MacCall struct{ Checks []MacCheck }

// Walk implements [wire.Message].
func (m *MacCall) Walk(c *wire.Coder) { wire.List(c, &m.Checks) }

// MacVerdict is what the vault says to a check.
type MacVerdict byte

// The verdicts. Everything but MacMatch means that the sender is not who it should be.
const (
	MacMatch    MacVerdict = 1 + iota
	MacMismatch            // no candidate fits
	MacMissing             // the instance has no such secret, or one that is no key
	MacUnopened            // ask again with the config
	MacPart                // the part was taken
	MacRefused             // the check makes no sense, or the config is not the newest one
	MacBusy                // too many checks that come in parts are open
)

// MacResult is the verdict of one check.
type MacResult struct {
	Verdict MacVerdict
	Secret  uint32 // which of the secrets matched
	Sum     []byte // of MacSign
}

// Walk implements [wire.Message].
func (m *MacResult) Walk(c *wire.Coder) {
	c.Byte((*byte)(&m.Verdict))
	c.Uint32(&m.Secret)
	c.Bytes(&m.Sum)
}

// MacAnswer has a result for each check, in order.
type MacAnswer struct{ Results []MacResult }

// Walk implements [wire.Message].
func (m *MacAnswer) Walk(c *wire.Coder) { wire.List(c, &m.Results) }
