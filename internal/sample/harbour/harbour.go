package harbour

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Address is where the provider is, unless somebody else is there.
const Address = "127.0.0.1:8490"

// ClientID is the id of the only client. Its secret is made at the first start.
const ClientID = "bulkhead-sample"

// Limits and times.
const (
	// Life is how long an access token lasts.
	Life     = time.Minute
	codeLife = time.Minute
	maxBody  = 64 << 10
	maxCodes = 100 // that were not used
	maxOld   = 50  // refresh tokens that are known as used, of one grant
	maxKept  = 100 // grants, the oldest go
	maxState = 1 << 20
)

// Account is what a company has at the provider.
type Account struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	User string `json:"user"` // who signs in
}

// Parcel is one that was booked.
type Parcel struct {
	ID    string `json:"id"`
	Order string `json:"order"`
	To    string `json:"to,omitempty"`
}

// Grant is what a person has allowed a client, without its tokens.
type Grant struct {
	Account  string    `json:"account"`
	Scope    string    `json:"scope"`
	Granted  time.Time `json:"granted"`
	Expires  time.Time `json:"expires"`          // of the access token
	Renewals int       `json:"renewals"`         // by refresh token
	Renewed  time.Time `json:"renewed,omitzero"` // the last of them
	Reused   int       `json:"reused"`           // refresh tokens that came twice
	Calls    int       `json:"calls"`            // of the API, with a good token
	Late     int       `json:"late"`             // calls of the API with a token that had ended
	Revoked  time.Time `json:"revoked,omitzero"` // by the client, or after a reuse
}

type hash [sha256.Size]byte

// kept is a grant as the file has it.
type kept struct {
	Grant
	Access  hash   `json:"access"`
	Refresh hash   `json:"refresh"`
	Old     []hash `json:"old"` // refresh tokens that were used
}

// state is what outlives the provider.
type state struct {
	Address string  `json:"address"`
	Secret  string  `json:"secret"`
	Grants  []*kept `json:"grants"`
}

// code is an answer that waits for its client.
type code struct {
	account   *Account
	scope     string
	redirect  string
	challenge string
	until     time.Time
	grant     *kept // that was made of it
}

// Options say how a provider is started.
type Options struct {
	Address  string        // host:port on loopback; empty: [Address], or a free port where that is taken
	File     string        // of its state; empty: it forgets
	Redirect []string      // URIs that the client may lead people back to
	Life     time.Duration // of access tokens; 0: [Life]
	Accounts []Account
	Tell     func(string) // gets a line for what happens; nil: nobody
}

// Provider is one that serves. Make it with [Start].
type Provider struct {
	URL    string // http://host:port
	o      Options
	server *http.Server
	pages  *template.Template

	mu      sync.Mutex
	state   state
	codes   map[hash]*code
	parcels map[string][]Parcel          // by account
	keys    map[string]map[string]string // ids of parcels by idempotency key, by account
}

// Start starts a provider. The caller closes it.
//
// Errors: of listening, of a file that cannot be read or is none of its kind.
func Start(o Options) (*Provider, error) {
	p := &Provider{o: o, codes: map[hash]*code{}, parcels: map[string][]Parcel{}, keys: map[string]map[string]string{}}
	if p.o.Life == 0 {
		p.o.Life = Life
	}
	if err := p.read(); err != nil {
		return nil, err
	}
	l, err := p.listen()
	if err != nil {
		return nil, err
	}
	p.state.Address = l.Addr().String()
	p.URL = "http://" + p.state.Address
	if p.state.Secret == "" {
		p.state.Secret = rand.Text()
	}
	p.pages = parsePages()
	p.server = &http.Server{Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10}
	p.mu.Lock()
	err = p.write()
	p.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	go func() { _ = p.server.Serve(l) }() // ends with Close
	return p, nil
}

// listen takes the address that was asked for, or else the one of the last time, the usual one or
// a free port.
func (p *Provider) listen() (net.Listener, error) {
	all := []string{p.state.Address, Address, "127.0.0.1:0"}
	if p.o.Address != "" {
		all = []string{p.o.Address}
	}
	var problem error
	for _, at := range all {
		if at == "" {
			continue
		}
		host, _, err := net.SplitHostPort(at)
		if err != nil || !net.ParseIP(host).IsLoopback() {
			return nil, fmt.Errorf("start sample provider: %s is not on loopback", at)
		}
		l, err := net.Listen("tcp", at)
		if err == nil {
			return l, nil
		}
		problem = err
	}
	return nil, fmt.Errorf("start sample provider: %w", problem)
}

// Close ends it.
func (p *Provider) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.server.Shutdown(ctx)
	_ = p.server.Close()
}

// Secret is that of the client.
func (p *Provider) Secret() string { return p.state.Secret }

// Grants are all that there are, the oldest first.
func (p *Provider) Grants() []Grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Grant{}
	for _, g := range p.state.Grants {
		out = append(out, g.Grant)
	}
	return out
}

func (p *Provider) tell(format string, args ...any) {
	if p.o.Tell != nil {
		p.o.Tell(fmt.Sprintf(format, args...))
	}
}

// account finds a company by the id of its account.
func (p *Provider) account(name string) *Account {
	for i := range p.o.Accounts {
		if p.o.Accounts[i].ID == name {
			return &p.o.Accounts[i]
		}
	}
	return nil
}

func (p *Provider) read() error {
	if p.o.File == "" {
		return nil
	}
	b, err := os.ReadFile(p.o.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(b) > maxState {
		err = errors.New("it is too large")
	}
	if err == nil {
		err = json.Unmarshal(b, &p.state)
	}
	if err != nil {
		return fmt.Errorf("read state of sample provider: %w", err)
	}
	return nil
}

// write puts the state into its file, as a whole. The caller holds mu.
func (p *Provider) write() error {
	if p.o.File == "" {
		return nil
	}
	b, err := json.Marshal(&p.state) // #nosec G117 -- of a client that only this sample knows
	if err != nil {
		return fmt.Errorf("write state of sample provider: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(p.o.File), ".provider-") // mode 0600
	if err != nil {
		return fmt.Errorf("write state of sample provider: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), p.o.File)
	}
	if err != nil {
		return fmt.Errorf("write state of sample provider: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// changed writes what has changed. Where that fails the provider goes on with what it knows. The
// caller holds mu.
func (p *Provider) changed() {
	if err := p.write(); err != nil {
		p.tell("Harbour: %v", err)
	}
}
