package flow

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// Integration is one definition: what can be configured, what must be connected, and the flows.
type Integration struct {
	Format         int    // version of the format, FormatVersion
	ProfileVersion int    // version of the expression profile that it was checked with; a published version pins it
	Name           string // [a-z][a-z0-9-]{0,62}
	Title          Text
	Description    Text
	Config         []ConfigVar // unique names, in the order written
	Connections    []Slot      // unique names, in the order written
	// Locks are what the flows use of the connectors of the slots, one for each slot but those of the built-in connector, in
	// the order of Connections. A document has none: they are made when it is published.
	Locks  []connector.Lock
	Wizard []Page // empty: one page with everything
	Flows  []Flow // unique names, in the order written
}

// Flow returns the flow of a name, or nil.
func (i *Integration) Flow(name string) *Flow {
	for n := range i.Flows {
		if i.Flows[n].Name == name {
			return &i.Flows[n]
		}
	}
	return nil
}

// Lock returns what the flows use of the connector of a slot, or nil.
func (i *Integration) Lock(slot string) *connector.Lock {
	for n := range i.Locks {
		if i.Locks[n].Slot == slot {
			return &i.Locks[n]
		}
	}
	return nil
}

// Slot returns the connection slot of a name, or nil.
func (i *Integration) Slot(name string) *Slot {
	for n := range i.Connections {
		if i.Connections[n].Name == name {
			return &i.Connections[n]
		}
	}
	return nil
}

// BuiltIn says whether the slot's connector is the built-in http.
func (s *Slot) BuiltIn() bool {
	name, _ := SplitConnector(s.Connector)
	return name == ConnectorHTTP
}

// BuiltInConnector says whether a connector's name is that of the built-in http, which has no manifest, or none at all, by which
// it is meant too.
func BuiltInConnector(name string) bool { return name == "" || name == ConnectorHTTP }

// SplitConnector splits what a slot says of its connector, name@versions, in two. The versions are empty where it says none.
func SplitConnector(connector string) (name, versions string) {
	name, versions, _ = strings.Cut(connector, "@")
	return name, versions
}

// ConfigVar returns the config variable of a name, or nil.
func (i *Integration) ConfigVar(name string) *ConfigVar {
	for n := range i.Config {
		if i.Config[n].Name == name {
			return &i.Config[n]
		}
	}
	return nil
}

// ConfigType is the type of a config variable.
type ConfigType string

// Types of config variables.
const (
	ConfigString   ConfigType = "string"   // one line
	ConfigText     ConfigType = "text"     // several lines
	ConfigNumber   ConfigType = "number"   // any JSON number
	ConfigInteger  ConfigType = "integer"  // a JSON number without a fraction
	ConfigBoolean  ConfigType = "boolean"  //
	ConfigDate     ConfigType = "date"     // RFC 3339 full-date
	ConfigTime     ConfigType = "time"     // 15:04 or 15:04:05
	ConfigDateTime ConfigType = "datetime" // RFC 3339 date-time
	ConfigTimezone ConfigType = "timezone" // IANA name
	ConfigSchedule ConfigType = "schedule" // {cron, timezone} or {every}
	ConfigList     ConfigType = "list"     //
	ConfigObject   ConfigType = "object"   //
	ConfigMapping  ConfigType = "mapping"  // source field → target field, as mapFields takes it
	ConfigSecret   ConfigType = "secret"   // never visible to expressions
	ConfigFile     ConfigType = "file"     // {name, type, size} by reference
)

// ConfigTypes returns every config type in the order of the specification.
func ConfigTypes() []ConfigType {
	return []ConfigType{
		ConfigString, ConfigText, ConfigNumber, ConfigInteger, ConfigBoolean, ConfigDate, ConfigTime, ConfigDateTime,
		ConfigTimezone, ConfigSchedule, ConfigList, ConfigObject, ConfigMapping, ConfigSecret, ConfigFile,
	}
}

// Values of ConfigVar.Visible.
const (
	VisibleCustomer     = "customer"     // the customer fills it in the wizard; the default
	VisibleOrganization = "organization" // only the organization sees and sets it
)

// ConfigVar is one typed value that an instance sets.
type ConfigVar struct {
	Name        string          `json:"-"`
	Type        ConfigType      `json:"type"`
	Title       Text            `json:"title,omitzero"`
	Description Text            `json:"description,omitzero"`
	Required    bool            `json:"required,omitempty"`
	Default     Value           `json:"default,omitzero"` // a literal
	Enum        []Option        `json:"enum,omitempty"`   // the only values allowed, in the order written
	Choices     *Choices        `json:"choices,omitempty"`
	From        *Choices        `json:"from,omitempty"`   // of a mapping: the source fields
	To          *Choices        `json:"to,omitempty"`     // of a mapping: the target fields
	Schema      json.RawMessage `json:"schema,omitempty"` // JSON Schema of a list or object, compact
	If          Value           `json:"if,omitzero"`      // the variable is asked for when true; sees config
	Visible     string          `json:"visible,omitempty"`
}

// Option is one allowed value of an enum with its label.
type Option struct {
	Value string `json:"value"`
	Label Text   `json:"label,omitzero"`
}

// Choices says which action lists the values that can be chosen, and the paths in an item that are its value and label.
type Choices struct {
	Uses     string   `json:"uses"` // slot.action
	With     Value    `json:"with,omitzero"`
	Items    string   `json:"items,omitempty"` // path of the list in the answer's body; empty: by the connector's own recipe, or the body
	Value    string   `json:"value"`
	Label    string   `json:"label,omitempty"`
	Required []string `json:"required,omitempty"` // of a mapping's targets: those that must be mapped
}

// Slot is a place for a connection that each instance fills.
type Slot struct {
	Name        string `json:"-"`
	Connector   string `json:"connector"` // name, or name@version range
	Title       Text   `json:"title,omitzero"`
	Description Text   `json:"description,omitzero"`
}

// ConnectorHTTP is the name of the built-in connector for any HTTP API; ActionRequest is its one action.
const (
	ConnectorHTTP = "http"
	ActionRequest = "request"
)

// Page is one page of the wizard.
type Page struct {
	Title       Text     `json:"title,omitzero"`
	Description Text     `json:"description,omitzero"`
	Connections []string `json:"connections,omitempty"`
	Config      []string `json:"config,omitempty"`
}

// Flow is one trigger and a list of steps.
type Flow struct {
	Name        string       `json:"-"`
	Title       Text         `json:"title,omitzero"`
	Description Text         `json:"description,omitzero"`
	Trigger     Trigger      `json:"trigger"`
	Labels      Labels       `json:"labels,omitempty"`
	Concurrency *Concurrency `json:"concurrency,omitempty"`
	Timeout     Duration     `json:"timeout,omitempty"`   // running time; zero: DefaultFlowTimeout
	Expires     Duration     `json:"expires,omitempty"`   // wall time; zero: see Life
	Retention   Duration     `json:"retention,omitempty"` // zero: DefaultRetention
	OnFault     string       `json:"on_fault,omitempty"`  // flow with a call trigger that is told of a fault
	Steps       []Step       `json:"steps"`
}

// Label is one searchable property of an execution. Its value holds references and templates of trigger only.
type Label struct {
	Name  string
	Value Value
}

// Concurrency bounds how many executions of a flow run at once.
type Concurrency struct {
	Limit int    `json:"limit"`           // per instance, or per key where one is written
	Key   Value  `json:"key,omitzero"`    // references and templates of trigger only
	Order string `json:"order,omitempty"` // OrderFIFO, or empty: any order
}

// OrderFIFO starts executions of one key in the order of acceptance.
const OrderFIFO = "fifo"

// Life is how long an execution may exist: `expires`, or else DefaultExpires plus every declared wait, nested ones
// included. A wait whose length is computed adds DefaultComputedWait.
func (f *Flow) Life() time.Duration {
	if f.Expires > 0 {
		return f.Expires.Std()
	}
	life := DefaultExpires
	for _, s := range Walk("", f.Steps) {
		if s.Wait != nil {
			life += s.Wait.declared()
		}
	}
	return min(life, MaxExpires)
}

// declared returns the longest time of a wait as far as the document says it.
func (w *Wait) declared() time.Duration {
	switch {
	case w.Callback != nil:
		return w.Callback.Timeout.Std()
	case w.Event != nil:
		return w.Event.Timeout.Std()
	case w.For.Kind == String:
		if d, err := ParseDuration(w.For.Text); err == nil {
			return d.Std()
		}
	}
	return DefaultComputedWait
}
