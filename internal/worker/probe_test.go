package worker

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What the platform asks through a connection is an execution of a flow for each question. It answers who waits with no more
// than was asked for.
func TestAProbeAsksTheActionsOfAConnector(t *testing.T) {
	t.Parallel()
	var l connector.Lock
	if err := json.Unmarshal([]byte(acme), &l); err != nil {
		t.Fatal(err)
	}
	m := &connector.Manifest{Name: "acme", Version: "1.0.0", Defaults: l.Defaults, Actions: l.Actions}
	m.Auth = []credential.Method{{ID: "key", Type: credential.Bearer, Test: &credential.Test{Action: "report"}}}
	in := &m.Action("createContact").Inputs[0]
	in.Choices = &connector.Choices{Action: "listContacts", Value: "id", Label: "name.first"}
	in.SchemaFrom = &connector.SchemaFrom{Action: "report", Path: "a.b"}
	m.Action("getContact").Inputs[0].Choices = &connector.Choices{Action: "search", Value: "id"}
	i, err := flow.Probe(m)
	if err != nil {
		t.Fatal(err)
	}
	choices, schema := flow.ProbeChoices(in.Choices), flow.ProbeSchema(in.SchemaFrom)
	var names []string
	for n := range i.Flows {
		names = append(names, i.Flows[n].Name)
	}
	if got, want := fmt.Sprint(names), fmt.Sprint([]string{"test.key", choices, schema}); got != want {
		t.Fatalf("flows %s, want %s", got, want)
	}
	definition, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if i, err = flow.Decode(definition); err != nil {
		t.Fatal(err)
	}
	many := `{"items":[` + strings.Repeat(`{"id":7,"name":{}},`, flow.MaxChoices+5) + `{"id":8}]}`
	for _, x := range []struct{ flow, event, answer, want, sent string }{
		{"test.key", `{"body":{}}`, `{"secret":"data"}`, `{"status":200}`, "report GET /report"},
		{choices, `{"body":{"since":5}}`, `{"items":[{"id":7,"name":{"first":"Ann"}},{"name":{}}]}`, `{"list":[{"value":7,"label":"Ann"},{"value":null,"label":null}]}`, "listContacts GET /contacts ?since=5 ?limit=2"},
		{choices, `{"body":{"since":5}}`, many, `{"list":[` + strings.TrimSuffix(strings.Repeat(`{"value":7,"label":null},`, flow.MaxChoices), ",") + `]}`, "listContacts GET /contacts ?since=5 ?limit=2"},
		{choices, `{"body":{"nothing":5}}`, `{}`, `{"error":{"type":"invalid-input","status":0,"message":""}}`, ""},
		{schema, `{"body":{}}`, `{"a":{"b":{"type":"object"}}}`, `{"schema":{"type":"object"}}`, "report GET /report"},
		{schema, `{"body":{}}`, `[]`, `{"error":{"type":"expression","status":0,"message":""}}`, "report GET /report"},
	} {
		h := newHost(t, i)
		h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, x.answer) }
		if got := h.replyTo(x.flow, x.event); got != x.want {
			t.Errorf("%s of %.80s: %.200s, want %.200s", x.flow, x.answer, got, x.want)
		}
		if sent := h.sent(); x.sent == "" && len(sent) > 0 || x.sent != "" && (len(sent) != 1 || line(&sent[0]) != x.sent) {
			t.Errorf("%s: %v", x.flow, sent)
		}
	}
	for _, x := range []struct {
		response *wire.Response
		want     string
	}{
		{&wire.Response{ErrorType: "upstream", Message: "the connection broke"}, `{"error":{"type":"upstream","status":0,"message":"the connection broke"}}`},
		{&wire.Response{ErrorType: "upstream", Message: "the service's certificate is bad"}, `{"error":{"type":"upstream","status":0,"message":"the service's certificate is bad"}}`},
		{&wire.Response{ErrorType: "upstream", Message: "the answer is not JSON: data"}, `{"error":{"type":"upstream","status":0,"message":""}}`},
		{&wire.Response{ErrorType: "upstream", Message: "it said so", Status: 500}, `{"error":{"type":"upstream","status":500,"message":""}}`},
		{&wire.Response{ErrorType: "auth", Message: "it ended"}, `{"error":{"type":"auth","status":0,"message":""}}`},
	} {
		h := newHost(t, i)
		h.egress = func(*wire.Request) *wire.Response { return x.response }
		if got := h.replyTo("test.key", `{"body":{}}`); got != x.want {
			t.Errorf("%+v: %s, want %s", x.response, got, x.want)
		}
	}
	m.Action("createContact").Inputs[0].Choices = &connector.Choices{Action: "nothing", Value: "id"}
	if _, err := flow.Probe(m); err == nil {
		t.Error("an action that is not there was probed")
	}
}

// replyTo runs a flow and gives what its sender is answered.
func (h *host) replyTo(flow, event string) string {
	h.t.Helper()
	key := h.viewerKey.Public()
	x := h.add(flow, strings.TrimSuffix(event, "}")+fmt.Sprintf(`,"reply":{"view":%q,"key":%q}}`, h.view, base64.StdEncoding.EncodeToString(key[:])))
	h.run(x).unit.Viewer = id.View{}
	if got := h.finish(h.started(), x); got.Status != wire.StatusCompleted {
		h.t.Errorf("%+v", got)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.replies) != 1 {
		h.t.Fatalf("%d replies", len(h.replies))
	}
	return string(h.replies[0].Body)
}
