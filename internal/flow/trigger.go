package flow

import "encoding/json"

// Trigger says what starts a flow. Exactly one field is set.
type Trigger struct {
	Webhook  *Webhook  `json:"webhook,omitempty"`
	Schedule *Schedule `json:"schedule,omitempty"`
	Poll     *Poll     `json:"poll,omitempty"`
	Event    *Event    `json:"event,omitempty"`
	Manual   *Input    `json:"manual,omitempty"`
	Call     *Input    `json:"call,omitempty"`
	Deploy   *Empty    `json:"deploy,omitempty"`
	Remove   *Empty    `json:"remove,omitempty"`
}

// TriggerKind names a kind of trigger as the document does.
type TriggerKind string

// Kinds of triggers.
const (
	TriggerNone     TriggerKind = ""
	TriggerWebhook  TriggerKind = "webhook"
	TriggerSchedule TriggerKind = "schedule"
	TriggerPoll     TriggerKind = "poll"
	TriggerEvent    TriggerKind = "event"
	TriggerManual   TriggerKind = "manual"
	TriggerCall     TriggerKind = "call"
	TriggerDeploy   TriggerKind = "deploy"
	TriggerRemove   TriggerKind = "remove"
)

// TriggerKinds returns every kind in the order of the specification.
func TriggerKinds() []TriggerKind {
	return []TriggerKind{
		TriggerWebhook, TriggerSchedule, TriggerPoll, TriggerEvent, TriggerManual, TriggerCall, TriggerDeploy, TriggerRemove,
	}
}

// Kind returns which field is set.
func (t *Trigger) Kind() TriggerKind {
	switch {
	case t.Webhook != nil:
		return TriggerWebhook
	case t.Schedule != nil:
		return TriggerSchedule
	case t.Poll != nil:
		return TriggerPoll
	case t.Event != nil:
		return TriggerEvent
	case t.Manual != nil:
		return TriggerManual
	case t.Call != nil:
		return TriggerCall
	case t.Deploy != nil:
		return TriggerDeploy
	case t.Remove != nil:
		return TriggerRemove
	}
	return TriggerNone
}

// Empty is a trigger without settings.
type Empty struct{}

// Input describes what a manual or call trigger takes.
type Input struct {
	Schema json.RawMessage `json:"input,omitempty"` // JSON Schema of trigger.body, compact; empty: anything
}

// Answers of a webhook.
const (
	RespondAsync = "async" // 202 as soon as the event is stored; the default
	RespondSync  = "sync"  // the answer of a respond step
)

// Webhook starts a flow on an HTTP request to the flow's own address.
type Webhook struct {
	Methods []string `json:"methods,omitempty"` // upper case; empty: POST
	Verify  Verify   `json:"verify"`
	Dedupe  Value    `json:"dedupe,omitzero"` // references and templates of trigger only
	Respond string   `json:"respond,omitempty"`
}

// Schedule starts a flow at times. Exactly one of Cron and Every is set.
type Schedule struct {
	Cron     Value    `json:"cron,omitzero"`     // five fields; a text or template of config and customer
	Timezone Value    `json:"timezone,omitzero"` // IANA name; absent: UTC
	Every    Value    `json:"every,omitzero"`    // ISO 8601 duration
	Jitter   Duration `json:"jitter,omitempty"`  // each start is delayed by up to this
}

// Starts of a poll.
const (
	StartNow       = "now"       // what exists at the first poll is not an event; the default
	StartBeginning = "beginning" // what exists at the first poll is
)

// Poll starts a flow for every new item that an action lists.
type Poll struct {
	Uses   string `json:"uses"` // slot.action
	With   Value  `json:"with,omitzero"`
	Every  Value  `json:"every"`
	Items  Value  `json:"items,omitzero"`  // the list in result; absent: what the connector's own recipe finds on every page
	Key    Value  `json:"key"`             // identifies an item
	Cursor Value  `json:"cursor,omitzero"` // what the next poll sees as cursor
	Start  string `json:"start,omitempty"`
}

// Event starts a flow on a trigger of a connector, which subscribes on deploy.
type Event struct {
	Uses string `json:"uses"` // slot.trigger
	With Value  `json:"with,omitzero"`
}

// SecretRef names a config variable of type secret; as text it is `config.NAME`. It is resolved where the schema lets a
// secret stand, never in an expression.
type SecretRef string

// Name returns the name of the config variable.
func (r SecretRef) Name() string {
	if len(r) > len("config.") {
		return string(r[len("config."):])
	}
	return ""
}

// Verify says how a webhook's sender is recognised. Exactly one field is set; None must be written.
type Verify struct {
	None             bool
	Connector        string // slot whose connector has a recipe
	StandardWebhooks *VerifyStandard
	HMAC             *VerifyHMAC
	Header           *VerifyHeader
	Basic            *VerifyBasic
	Bearer           *VerifyBearer
	JWT              *VerifyJWT
}

// VerifyStandard is the recipe of the Standard Webhooks specification.
type VerifyStandard struct {
	Secret    SecretRef `json:"secret"`
	Tolerance Duration  `json:"tolerance,omitempty"` // zero: DefaultTolerance
}

// VerifyHMAC is a signature over the request.
type VerifyHMAC struct {
	Header    string           `json:"header"`
	Algorithm string           `json:"algorithm"`          // sha1, sha256, sha384, sha512
	Encoding  string           `json:"encoding,omitempty"` // hex (default), base64, base64url
	Prefix    string           `json:"prefix,omitempty"`   // before the signature in the header
	Secrets   []SecretRef      `json:"secrets"`            // any of them may match: rotation
	Signed    string           `json:"signed,omitempty"`   // what is signed: {body}, {timestamp}, {method}, {path}; empty: {body}
	Timestamp *VerifyTimestamp `json:"timestamp,omitempty"`
}

// VerifyTimestamp bounds the age of a signed request.
type VerifyTimestamp struct {
	Header    string   `json:"header"`
	Tolerance Duration `json:"tolerance,omitempty"` // zero: DefaultTolerance
}

// VerifyHeader compares a header with a secret.
type VerifyHeader struct {
	Name   string    `json:"name"`
	Secret SecretRef `json:"secret"`
}

// VerifyBasic is HTTP basic authentication (RFC 7617).
type VerifyBasic struct {
	Username string    `json:"username"`
	Password SecretRef `json:"password"`
}

// VerifyBearer is a bearer token (RFC 6750).
type VerifyBearer struct {
	Secret SecretRef `json:"secret"`
}

// VerifyJWT is a signed token (RFC 7519) in the Authorization header or in the one named.
type VerifyJWT struct {
	Algorithm string    `json:"algorithm"` // HS256, HS384, HS512, RS256, ES256 or EdDSA
	Secret    SecretRef `json:"secret"`    // the shared secret, or the public key in PEM
	Issuer    string    `json:"issuer,omitempty"`
	Audience  string    `json:"audience,omitempty"`
	Header    string    `json:"header,omitempty"`
	Tolerance Duration  `json:"tolerance,omitempty"` // of exp and nbf; zero: DefaultTolerance
}
