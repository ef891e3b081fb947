package worker

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What the platform asks through a connection is an execution of a flow for each action that it may ask.
func TestAProbeAsksTheActionsOfAConnector(t *testing.T) {
	t.Parallel()
	var l connector.Lock
	if err := json.Unmarshal([]byte(acme), &l); err != nil {
		t.Fatal(err)
	}
	m := &connector.Manifest{Name: "acme", Version: "1.0.0", Defaults: l.Defaults, Actions: l.Actions}
	m.Auth = []credential.Method{{ID: "key", Type: credential.Bearer, Test: &credential.Test{Action: "report"}}}
	m.Action("createContact").Inputs[0].Choices = &connector.Choices{Action: "listContacts", Value: "id"}
	if got := fmt.Sprint(flow.ProbeActions(m)); got != "[listContacts report]" {
		t.Errorf("actions %s", got)
	}
	i, err := flow.Probe(m, append(flow.ProbeActions(m), "getContact", "search"))
	if err != nil {
		t.Fatal(err)
	}
	if i.Flow("search") != nil || len(i.Flows) != 3 {
		t.Errorf("%d flows", len(i.Flows))
	}
	h := newHost(t, i)
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{"items":[{"id":7}]}`) }
	got := h.once("listContacts", `{"body":{"since":5}}`)
	if want := `{"status":200,"headers":{"content-type":"application/json"},"body":{"items":[{"id":7}]}}`; got.Output != want {
		t.Errorf("%+v", got)
	}
	if sent := h.sent(); len(sent) != 1 || line(&sent[0]) != "listContacts GET /contacts ?since=5" {
		t.Errorf("%v", sent)
	}
	if got := h.once("getContact", `{"body":{}}`); got.Type != typeInvalidInput {
		t.Errorf("%+v", got)
	}
	if _, err := flow.Probe(m, []string{"nothing"}); err == nil {
		t.Error("an action that is not there was probed")
	}
}
