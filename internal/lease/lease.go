package lease

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// PayloadKey opens payloads of one customer that expire on one day.
type PayloadKey struct {
	Day     Day
	Private []byte // 32 bytes, see [seal.NewPrivateKey]
}

// Walk implements [wire.Message].
func (m *PayloadKey) Walk(c *wire.Coder) {
	m.Day.Walk(c)
	c.Bytes(&m.Private)
}

// Worker is what a worker gets: the keys of its one instance, and the channel to
// the egress node that holds the other half.
type Worker struct {
	Lease          id.Lease
	Customer       id.Customer
	Instance       id.Instance
	Definition     [32]byte // the only definition to run
	ConfigVersion  uint64   // the newest, so that an older config is refused
	Expires        time.Time
	Payload        []PayloadKey
	InstanceKey    []byte // 32 bytes: config values and state
	IdempotencyKey []byte // 32 bytes: HMAC key of idempotency keys and state names
	Channel        []byte // 32 bytes, see [seal.NewChannel]; the worker is the caller
	Egress         id.Node
	ServerKey      seal.PublicKey // label values are sealed to it
	Viewers        []Viewer
	CallbackBase   string // URL prefix of callbacks
	Read           *Read  // set: a lease for a read, without a channel to egress
}

// Walk implements [wire.Message].
func (m *Worker) Walk(c *wire.Coder) {
	c.Fixed(m.Lease[:])
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Definition[:])
	c.Uint(&m.ConfigVersion)
	c.Time(&m.Expires)
	wire.List(c, &m.Payload)
	c.Bytes(&m.InstanceKey)
	c.Bytes(&m.IdempotencyKey)
	c.Bytes(&m.Channel)
	c.Fixed(m.Egress[:])
	c.Fixed(m.ServerKey[:])
	wire.List(c, &m.Viewers)
	c.String(&m.CallbackBase)
	wire.Optional(c, &m.Read)
}

// Binding says where a credential may be used. It is part of the sealed record:
// a request cannot change it, and changing it needs the secret again.
type Binding struct {
	Scheme   string // http or https
	Host     string // canonical; "*.example.com" is every host below
	Port     uint32
	BasePath string   // prefix of every path, without a slash at the end
	Methods  []string // empty: all
	Paths    []string // templates such as /orders/{id}; empty: all
	// Bases are further places by name, which requests choose from; scheme, methods and paths are those of the first.
	Bases []Base
	// Follow are the hosts to which redirects of actions lead. The credential does not go there.
	Follow []Follow
}

// Follow says to which hosts a redirect of an action's download may lead.
type Follow struct {
	Action string
	Hosts  []string // canonical; "*.example.com" is every host below
}

// Walk implements [wire.Message].
func (m *Follow) Walk(c *wire.Coder) {
	c.String(&m.Action)
	c.Strings(&m.Hosts)
}

// Base is a further place where a credential may be used.
type Base struct {
	Name     string // as the connector's manifest calls it
	Host     string // canonical, no pattern
	Port     uint32
	BasePath string
}

// Walk implements [wire.Message].
func (m *Base) Walk(c *wire.Coder) {
	c.String(&m.Name)
	c.String(&m.Host)
	c.Uint32(&m.Port)
	c.String(&m.BasePath)
}

// PortOf is the port of a place: the scheme's own where it names none.
func PortOf(scheme string, port uint32) uint32 {
	switch {
	case port != 0:
		return port
	case scheme == "http":
		return 80
	}
	return 443
}

// SplitPort takes apart what may be a host with its port, as in [Record.Hosts]; the port is 0 where there is none. What stands
// behind the last colon and is no port makes ok false. An IPv6 address stands in brackets.
func SplitPort(text string) (host string, port uint32, ok bool) {
	at := strings.LastIndexByte(text, ':')
	if at < strings.LastIndexByte(text, ']') || at < 0 {
		return text, 0, text != ""
	}
	n, err := strconv.ParseUint(text[at+1:], 10, 16)
	return text[:at], uint32(n), err == nil && n > 0 && at > 0
}

// Authorities are all hosts for display, each once, the first first.
func (m *Binding) Authorities() []string {
	list := []string{m.Authority()}
	for _, b := range m.Bases {
		if a := (&Binding{Scheme: m.Scheme, Host: b.Host, Port: b.Port}).Authority(); !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Authority is the host for display, with its port where that is not the scheme's own.
func (m *Binding) Authority() string {
	if m.Port == 0 || m.Scheme == "https" && m.Port == 443 || m.Scheme == "http" && m.Port == 80 {
		return m.Host
	}
	host := m.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // IPv6
	}
	return host + ":" + strconv.FormatUint(uint64(m.Port), 10)
}

// Walk implements [wire.Message].
func (m *Binding) Walk(c *wire.Coder) {
	c.String(&m.Scheme)
	c.String(&m.Host)
	c.Uint32(&m.Port)
	c.String(&m.BasePath)
	c.Strings(&m.Methods)
	c.Strings(&m.Paths)
	wire.List(c, &m.Bases)
	wire.List(c, &m.Follow)
}

// Egress is what an egress node gets for one worker: the credentials of the
// instance's connections, and the channel on which only that worker can ask.
type Egress struct {
	Lease    id.Lease
	Customer id.Customer
	Instance id.Instance
	Runner   id.Node // answers go to it
	Expires  time.Time
	Channel  []byte // 32 bytes; egress is the callee
	Slots    []SlotRecord
	Requests uint64 // budget over the life of the lease
	Bytes    uint64 // budget in both directions together
}

// Walk implements [wire.Message].
func (m *Egress) Walk(c *wire.Coder) {
	c.Fixed(m.Lease[:])
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Runner[:])
	c.Time(&m.Expires)
	c.Bytes(&m.Channel)
	wire.List(c, &m.Slots)
	c.Uint(&m.Requests)
	c.Uint(&m.Bytes)
}

// The associated data of everything that is sealed: where a ciphertext belongs.
// A value that was moved to another place does not open.

func place(format string, customer id.Customer, parts ...[]byte) []byte {
	var few [8][]byte // on the stack
	all := append(few[:0], []byte(format), customer[:])
	return seal.Tuple(nil, append(all, parts...)...)
}

// EventPlace is the place of the sealed trigger of an execution.
func EventPlace(c id.Customer, e id.Event, d Day) []byte {
	return place("event/1", c, e[:], seal.Uint(uint64(d)))
}

// EntryPlace is the place of a journal entry: its execution, kind, path and epoch.
func EntryPlace(c id.Customer, e id.Execution, x *wire.Entry) []byte {
	return place("entry/1", c, e[:], []byte{byte(x.Kind)}, []byte(x.Path), seal.Uint(uint64(x.Epoch)))
}

// OutputPlace is the place of the output or the fault of an execution.
func OutputPlace(c id.Customer, e id.Execution, s wire.Status) []byte {
	return place("output/1", c, e[:], []byte{byte(s)})
}

// LabelPlace is the place of a label of an execution.
func LabelPlace(c id.Customer, e id.Execution, name string) []byte {
	return place("label/1", c, e[:], []byte(name))
}

// ListenPlace is the place of what a wait at a path of an execution listens for, on its way to the server.
func ListenPlace(c id.Customer, e id.Execution, path string) []byte {
	return place("listen/1", c, e[:], []byte(path))
}

// ConfigPlace is the place of an instance's config values.
func ConfigPlace(c id.Customer, i id.Instance, version uint64) []byte {
	return place("config/1", c, i[:], seal.Uint(version))
}

// StatePlace is the place of one state value of an instance.
func StatePlace(c id.Customer, i id.Instance, name [32]byte) []byte {
	return place("state/1", c, i[:], name[:])
}

// BlobPlace is the place of a blob; the index of a chunk and whether it is the last
// are part of its nonce, see [seal.StreamKey].
func BlobPlace(b id.Blob) []byte { return seal.Tuple(nil, []byte("blob/1"), b[:]) }

// ViewPlace is the place of a page sent to a viewer.
func ViewPlace(v id.View, e id.Execution, kind wire.ViewKind, path string) []byte {
	return seal.Tuple(nil, []byte("view/1"), v[:], e[:], []byte{byte(kind)}, []byte(path))
}

// SealWorker seals a worker's half to the worker's key.
func SealWorker(to seal.PublicKey, m *Worker) ([]byte, error) {
	return seal.Seal(to, PurposeWorkerLease, nil, wire.AppendBody(nil, m))
}

// OpenWorker opens a worker's half. The result points into memory of its own.
func OpenWorker(k *seal.PrivateKey, sealed []byte) (*Worker, error) {
	m := &Worker{}
	return m, open(k, PurposeWorkerLease, sealed, m)
}

// SealEgress signs the egress half with the authority's key and seals it to the egress
// node's. Anybody can seal to a public key: without the signature, a runner could make
// leases of its own and so call whom it likes.
func SealEgress(authority *seal.SignKey, to seal.PublicKey, m *Egress) ([]byte, error) {
	body := wire.AppendBody(nil, m)
	defer clear(body)
	s := wire.AppendBody(nil, &signed{body, authority.Sign(PurposeEgressLease, egressTuple(to, body))})
	defer clear(s)
	return seal.Seal(to, PurposeEgressLease, nil, s)
}

// egressTuple is what the authority signs: the half and to whom it is sealed.
func egressTuple(to seal.PublicKey, body []byte) []byte { return seal.Tuple(nil, to[:], body) }

// OpenEgress opens the egress half and checks that the authority made it. The result
// points into memory of its own.
func OpenEgress(k *seal.PrivateKey, authority seal.VerifyKey, sealed []byte) (*Egress, error) {
	var s signed
	if err := open(k, PurposeEgressLease, sealed, &s); err != nil {
		return nil, err
	}
	if !authority.Verify(PurposeEgressLease, egressTuple(k.Public(), s.Body), s.Signature) {
		return nil, fmt.Errorf("open lease: %w: it is not by this authority", ErrRefused)
	}
	m := &Egress{}
	if err := wire.ParseBody(s.Body, m); err != nil {
		return nil, fmt.Errorf("open lease: %w", err)
	}
	return m, nil
}

func open(k *seal.PrivateKey, purpose string, sealed []byte, m wire.Message) error {
	body, err := k.Open(purpose, nil, sealed)
	if err != nil {
		return fmt.Errorf("open lease: %w", err)
	}
	if err := wire.ParseBody(body, m); err != nil {
		return fmt.Errorf("open lease: %w", err)
	}
	return nil
}
