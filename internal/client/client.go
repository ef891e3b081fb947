// Package client speaks to the API of a server on this machine, over the Unix socket
// that only the server's user and root may use.
//
// Credentials and config are sealed to the vault here, before they are sent. A Client
// is safe for concurrent use. Errors of the server are [*Error].
package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxAnswer bounds an answer that is no stream, in bytes.
const maxAnswer = 16 << 20

// Client is a connection to one server.
type Client struct {
	http   *http.Client
	public *http.Client // to what the server serves to the outside
	vault  seal.PublicKey
}

// New makes a Client of the server behind a Unix socket, whose vault has the key.
func New(socket string, vault seal.PublicKey) *Client {
	var d net.Dialer
	return &Client{
		vault: vault,
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
			Proxy:       nil,
		}},
		public: &http.Client{Transport: &http.Transport{DialContext: d.DialContext, Proxy: nil}},
	}
}

// Close gives up idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.public.CloseIdleConnections()
}

// Error is what the server answered instead.
type Error struct{ api.Problem }

// Error implements error.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Title
	}
	return e.Title + ": " + e.Detail
}

func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	b, ok := body.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("make request: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://bulkhead"+path, bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask server: %w", err)
	}
	if a.StatusCode < 300 {
		return a, nil
	}
	defer a.Body.Close()
	e := &Error{}
	if err := json.NewDecoder(io.LimitReader(a.Body, maxAnswer)).Decode(&e.Problem); err != nil {
		return nil, fmt.Errorf("ask server: it answers %s", a.Status)
	}
	return nil, e
}

func (c *Client) ask(ctx context.Context, method, path string, body, answer any) error {
	a, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("read answer of server: %w", err)
	}
	return nil
}

// PutCustomer makes or updates a customer.
func (c *Client) PutCustomer(ctx context.Context, externalID, name string) (id.Customer, error) {
	var a api.CustomerAnswer
	err := c.ask(ctx, http.MethodPost, "/api/v1/customers", api.CustomerRequest{ExternalID: externalID, Name: name}, &a)
	return a.ID, err
}

// Publish publishes an integration, given as canonical JSON.
func (c *Client) Publish(ctx context.Context, definition []byte) (digest [32]byte, err error) {
	var a api.IntegrationAnswer
	if err := c.ask(ctx, http.MethodPost, "/api/v1/integrations", definition, &a); err != nil {
		return digest, err
	}
	b, err := hex.DecodeString(a.Digest)
	if err != nil || len(b) != len(digest) {
		return digest, errors.New("read answer of server: no digest")
	}
	return [32]byte(b), nil
}

// PutConnection seals a credential record to the vault and saves it.
func (c *Client) PutConnection(ctx context.Context, r *lease.Record) error {
	sealed, err := seal.Seal(c.vault, lease.PurposeVault, lease.ConnectionPlace(r.Customer, r.Connection), wire.AppendBody(nil, r))
	if err != nil {
		return fmt.Errorf("seal credential: %w", err)
	}
	return c.ask(ctx, http.MethodPut, "/api/v1/connections/"+r.Connection.String(), api.ConnectionRequest{
		Customer: r.Customer, Connector: r.Connector, Kind: string(r.Kind), Host: r.Binding.Host, Record: sealed,
	}, nil)
}

// Deploy seals config values to the vault and deploys a version to a customer.
func (c *Client) Deploy(ctx context.Context, customer id.Customer, instance id.Instance, digest [32]byte, config []byte, slots map[string]id.Connection) error {
	sealed, err := seal.Seal(c.vault, lease.PurposeVault, lease.ConfigPlace(customer, instance, 0), config)
	if err != nil {
		return fmt.Errorf("seal config: %w", err)
	}
	return c.ask(ctx, http.MethodPut, "/api/v1/instances/"+instance.String(), api.InstanceRequest{
		Customer: customer, Digest: hex.EncodeToString(digest[:]), Config: sealed, Slots: slots,
	}, nil)
}

// Cancel ends an execution.
func (c *Client) Cancel(ctx context.Context, customer id.Customer, e id.Execution) error {
	return c.ask(ctx, http.MethodDelete, "/api/v1/executions/"+e.String(), api.CancelRequest{Customer: customer}, nil)
}

// Skip lets the time of a wait of a test execution come at once.
func (c *Client) Skip(ctx context.Context, customer id.Customer, e id.Execution, path string) error {
	return c.ask(ctx, http.MethodPost, "/api/v1/executions/"+e.String()+"/skip", api.SkipRequest{Customer: customer, Path: path}, nil)
}

// Answer posts to the address of a callback, as the service that was given it does.
func (c *Client) Answer(ctx context.Context, url string, headers http.Header, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("answer callback: %w", err)
	}
	r.Header = headers
	a, err := c.public.Do(r)
	if err != nil {
		return fmt.Errorf("answer callback: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		return fmt.Errorf("answer callback: it answers %s", a.Status)
	}
	return nil
}

// Stream is what a viewer sees of an execution, until it ends.
type Stream struct {
	body io.ReadCloser
	in   *json.Decoder
	view id.View
	key  *seal.PrivateKey
}

// Start starts one flow and watches it. The caller closes the stream; that ends the
// watching, not the execution.
func (c *Client) Start(ctx context.Context, instance id.Instance, r api.ExecutionRequest) (*Stream, error) {
	key, err := seal.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make viewer key: %w", err)
	}
	public := key.Public()
	r.Key = public[:]
	a, err := c.send(ctx, http.MethodPost, "/api/v1/instances/"+instance.String()+"/executions", r)
	if err != nil {
		return nil, err
	}
	return &Stream{body: a.Body, in: json.NewDecoder(a.Body), view: r.View, key: key}, nil
}

// Next is the next event, io.EOF after the last.
func (s *Stream) Next() (*api.Event, error) {
	e := &api.Event{}
	if err := s.in.Decode(e); err != nil {
		return nil, err
	}
	return e, nil
}

// Close ends the watching.
func (s *Stream) Close() { _ = s.body.Close() }

// Open opens the sealed page of an event.
func (s *Stream) Open(e *api.Event) ([]byte, error) {
	place := lease.ViewPlace(s.view, e.Execution, wire.ViewKind(e.ViewKind), e.Path)
	if e.Kind == api.EventReply {
		place = (&wire.Reply{View: s.view, Execution: e.Execution}).Place()
	}
	b, err := s.key.Open(lease.PurposeView, place, e.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open page of %s: %w", e.Path, err)
	}
	return b, nil
}
