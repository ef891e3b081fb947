package connector

import "encoding/json"

// Types of triggers.
const (
	TriggerWebhook = "webhook" // a subscription per flow: made on deploy, removed on removal
	TriggerApp     = "app"     // one address per provider app for all customers, routed by the account in the event
	TriggerPoll    = "poll"
)

// Trigger is something that happens on the other side and starts a flow.
type Trigger struct {
	Name        string          `json:"name"` // [a-zA-Z][a-zA-Z0-9_]{0,62}
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Docs        string          `json:"docs,omitempty"`
	Type        string          `json:"type"`
	Inputs      []Input         `json:"input,omitempty"`   // what a flow may set in with; In is not used
	Payload     json.RawMessage `json:"payload,omitempty"` // JSON Schema of trigger.body
	Scopes      []string        `json:"scopes,omitempty"`
	Data        []DataClass     `json:"data,omitempty"`

	Webhook *Subscription `json:"webhook,omitempty"`
	App     *AppRoute     `json:"app,omitempty"`
	Poll    *PollRecipe   `json:"poll,omitempty"`

	Verify    *Verify    `json:"verify,omitempty"`    // of webhook and app
	Challenge *Challenge `json:"challenge,omitempty"` // of webhook and app
	Key       string     `json:"key,omitempty"`       // "body:a.b" or "header:NAME": the delivery's id, for dedupe; several, joined by +, are one: body:id+header:X-Time
	Match     []Match    `json:"match,omitempty"`     // the events that are this trigger's
}

// Subscription is how the other side is told to send events of one flow.
type Subscription struct {
	Subscribe   SubscribeCall  `json:"subscribe"`
	Unsubscribe *SubscribeCall `json:"unsubscribe,omitempty"`
	Renew       *SubscribeCall `json:"renew,omitempty"`
	RenewEvery  Seconds        `json:"renew_every,omitempty"`
	// Find is how those that the other side has are listed. Behind each subscribe, others at the same address are ended, and
	// on removal all of them: one may be left of a call whose answer was lost.
	Find   *FindCall `json:"find,omitempty"`
	ID     string    `json:"id,omitempty"`     // path in the answer's body: names the subscription; "header:location" for a header
	Secret string    `json:"secret,omitempty"` // path in the answer's body: the secret that the other side made
}

// SubscribeCall is an action with inputs. In values, the texts {url}, {secret}, {id}, {expires} and {input.NAME} stand for
// the flow's address, a random secret made for the subscription, its id, the time until which it is wanted, and inputs.
type SubscribeCall struct {
	Action string       `json:"action"`
	With   []FixedValue `json:"with,omitempty"` // At is the name of an input
}

// FindCall is an action that lists subscriptions, all pages of it. In values, the texts {url} and {input.NAME} stand for the
// flow's address and inputs.
type FindCall struct {
	Action string       `json:"action"`
	With   []FixedValue `json:"with,omitempty"`  // At is the name of an input
	Items  string       `json:"items,omitempty"` // path of the list in the answer's body; empty: as the action's pages say
	URL    string       `json:"url"`             // path in an item: the address that it sends to
	ID     string       `json:"id"`              // path in an item: what `unsubscribe` takes as {id}
}

// AppRoute says whose an event of an app-wide address is.
type AppRoute struct {
	Account string `json:"account"` // "body:team.id", "header:NAME" or "query:NAME": names the account that was connected
	// Connected is the path of the same id in the token answer or the callback; see the recipe's account.
	Many string `json:"many,omitempty"` // path of a list in the body, or . for the body itself: each item is an event
	Form string `json:"form,omitempty"` // the body is a form, and this field of it holds the event as JSON
}

// PollRecipe is a trigger that asks now and then.
type PollRecipe struct {
	Action string   `json:"action"`
	With   []Passed `json:"with,omitempty"`   // From names an input of the trigger; "cursor" is the cursor
	Items  string   `json:"items,omitempty"`  // path in the body of the first page, for lists with the newest first; empty: all pages by the action's own recipe
	Key    string   `json:"key"`              // path in an item; several, joined by +, are one key: id+updated_at, of which those after the first may be absent
	Cursor string   `json:"cursor,omitempty"` // path in an item; the greatest of a poll is the next cursor
	Window Seconds  `json:"window,omitempty"` // of a cursor that is a time of RFC 3339: how far back it may lie at most, also that of the first poll; what Items finds from before is not new
	Every  Seconds  `json:"every,omitempty"`  // at least; default five minutes
}

// What the key of a signature is.
const (
	KeyText   = "text"
	KeyBase64 = "base64"
)

// Verify says how an event proves its sender. Where the secret comes from is told by Secret.
type Verify struct {
	Type      string  `json:"type"`                // hmac, header, basic (user Value), query, body (path Header), standard-webhooks, none
	Secret    string  `json:"secret"`              // subscription, app (the client record's signing secret), client (its client secret)
	Algorithm string  `json:"algorithm,omitempty"` // sha1, sha256, sha384, sha512
	Encoding  string  `json:"encoding,omitempty"`  // hex (default), base64
	Key       string  `json:"key,omitempty"`       // of hmac, what its key is: text (the secret as it is, default), base64 (what the secret stands for in standard Base64)
	Header    string  `json:"header,omitempty"`    // or the query parameter, of type query
	Prefix    string  `json:"prefix,omitempty"`
	List      string  `json:"list,omitempty"`      // separator of several signatures in the header
	Pairs     string  `json:"pairs,omitempty"`     // the header is k=v pairs with this separator; Part names the signature's key
	Part      string  `json:"part,omitempty"`      //
	Signed    string  `json:"signed,omitempty"`    // template of {body}, {timestamp}, {method}, {url}, {path}, {form} (sorted parameters), {header.NAME}; empty: {body}
	Timestamp string  `json:"timestamp,omitempty"` // "header:NAME", "part:NAME" or "body:PATH"
	Tolerance Seconds `json:"tolerance,omitempty"` // zero: five minutes
	Value     string  `json:"value,omitempty"`     // of header: a fixed expected part before the secret
}

// Challenge says how the other side checks an address before it sends events.
type Challenge struct {
	When   string `json:"when"`             // "body:type=url_verification", "query:validationToken", "header:x-hook-secret", "method:HEAD"
	Answer string `json:"answer"`           // "body:challenge", "query:validationToken": the text that is answered
	As     string `json:"as,omitempty"`     // text (default), json (an object with the key Name), header (Name)
	Name   string `json:"name,omitempty"`   //
	HMAC   string `json:"hmac,omitempty"`   // the answer is the HMAC-SHA256 of the text under the secret: hex or base64
	Keep   bool   `json:"keep,omitempty"`   // the text is the subscription's secret from now on (Asana)
	Status int    `json:"status,omitempty"` // default 200
}

// Match is a condition on an event: the value at From is one of Values.
type Match struct {
	From   string   `json:"from"` // "body:a.b" or "header:NAME"
	Values []string `json:"values,omitempty"`
	Input  string   `json:"input,omitempty"` // or equal to this input of the trigger
	// Present: there is something, also where the input is not given.
	Present bool `json:"present,omitempty"`
}

// AppProof is how the events of the app prove their sender, which is the same for all triggers of type app; nil: there is
// none.
func (m *Manifest) AppProof() *Verify {
	for i := range m.Triggers {
		if t := &m.Triggers[i]; t.Type == TriggerApp && t.Verify.ProvesApp() {
			return t.Verify
		}
	}
	return nil
}
