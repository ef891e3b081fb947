package client

import (
	"net/http"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Of what is not found an error says kind and name as they were given, wherever the request has them.
func TestErrorsNameWhatIsNotFound(t *testing.T) {
	t.Parallel()
	i, x := id.Instance{1}, id.Execution{2}
	for _, c := range []struct {
		want string
		call func(c *Client) error
	}{
		{"not found: customer a/b c", func(c *Client) error { _, err := c.Customer(t.Context(), "a/b c"); return err }},
		{"not found: customer acme", func(c *Client) error { _, err := c.Connections(t.Context(), "acme", List{}); return err }},
		{"not found: instance acme/hello", func(c *Client) error { _, err := c.InstanceNamed(t.Context(), "acme/hello"); return err }},
		{"not found: version 3 of integration hello", func(c *Client) error { _, err := c.Version(t.Context(), "hello", 3); return err }},
		{"not found: draft of integration hello", func(c *Client) error { _, err := c.Draft(t.Context(), "hello"); return err }},
		{"not found: webhook of flow f of instance " + i.String(), func(c *Client) error { _, err := c.HookURL(t.Context(), i, "f"); return err }},
		{"not found: execution " + x.String(), func(c *Client) error { return c.Cancel(t.Context(), x) }},
		{"not found: connect link " + id.Link{}.String(), func(c *Client) error { return c.RevokeConnectLink(t.Context(), id.Link{}) }},
		{"not found: integration hello or customer acme", func(c *Client) error {
			_, err := c.Instances(t.Context(), InstanceQuery{Customer: "acme", Integration: "hello"}, List{})
			return err
		}},
		{"not found: integration hello or customer acme", func(c *Client) error {
			_, err := c.Deploy(t.Context(), api.DeployRequest{Customer: "acme", Integration: "hello"})
			return err
		}},
		{"not found: instance " + i.String() + " or flow f", func(c *Client) error {
			_, err := c.Trigger(t.Context(), i, api.ExecutionRequest{Flow: "f"})
			return err
		}},
		{"not found: customer acme", func(c *Client) error {
			_, err := c.BulkRetry(t.Context(), api.BulkRequest{Query: api.ExecutionQuery{Customer: "acme"}})
			return err
		}},
		{"not found", func(c *Client) error { _, err := c.Brand(t.Context()); return err }},
	} {
		s := newServer(t, func(int, *http.Request) func(http.ResponseWriter) {
			return problem(http.StatusNotFound, api.Problem{Title: "not found", Code: api.CodeNotFound})
		})
		if err := c.call(s.Client); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	said := &Error{Problem: api.Problem{Title: "not found", Code: api.CodeNotFound, Detail: "There is no such customer."}, Asked: "instance acme/hello"}
	if want := "not found: instance acme/hello. There is no such customer."; said.Error() != want {
		t.Errorf("with a detail: %s, want %s", said, want)
	}
}
