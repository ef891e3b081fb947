package connector

import (
	"encoding/json"
	"time"
)

// Action is one operation of the other side's API, as data: where each input goes in the request.
type Action struct {
	Name        string `json:"name"` // [a-zA-Z][a-zA-Z0-9_]{0,62}
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Docs        string `json:"docs,omitempty"`

	Method  string  `json:"method"`         // GET, HEAD, POST, PUT, PATCH, DELETE
	Base    string  `json:"base,omitempty"` // one of the manifest's bases; empty: base_url
	Path    string  `json:"path"`           // behind the base URL; {name} stands for the input with in: path of that key
	Inputs  []Input `json:"input,omitempty"`
	Body    Body    `json:"body,omitempty"` // how the inputs with in: body are sent; empty: json
	Headers []Fixed `json:"headers,omitempty"`
	Query   []Fixed `json:"query,omitempty"`
	// Arguments is the header that carries the inputs with in: arguments, as one JSON object in ASCII.
	Arguments string `json:"arguments,omitempty"`
	// Fields are fixed parts of a JSON or form body, for APIs that name the operation there. Names are paths such as a.b.
	Fields []FixedValue `json:"fields,omitempty"`

	Response string `json:"response,omitempty"` // auto (default), json, text, file
	// Follow are the hosts to one of which the other side redirects for the file: names, or *.example.com for every host below.
	// The redirect is followed once, over https and without credential, cookies and headers.
	Follow []string        `json:"follow,omitempty"`
	Output json.RawMessage `json:"output,omitempty"` // JSON Schema of the answer's body
	Expect []string        `json:"expect,omitempty"` // statuses of 400 and more that are no error

	Paginate    *Paginate    `json:"paginate,omitempty"` // instead of the default; a type of "none" is none
	Idempotency *Idempotency `json:"idempotency,omitempty"`
	Limits      *Limits      `json:"limits,omitempty"`
	Error       *ErrorBody   `json:"error,omitempty"`
	Timeout     Seconds      `json:"timeout,omitempty"`
	Scopes      []string     `json:"scopes,omitempty"` // that the credential needs
	Auth        []string     `json:"auth,omitempty"`   // ids of the methods that it works with; empty: all
	Data        []DataClass  `json:"data,omitempty"`   // what kind of data it carries
	Visibility  Visibility   `json:"visibility,omitempty"`
	Deprecated  string       `json:"deprecated,omitempty"` // what to use instead
	Confirm     bool         `json:"confirm,omitempty"`    // destroys something: ask before it is tried by hand
}

// Seconds is a duration in whole seconds.
type Seconds int

// Std is the duration as the standard library has it.
func (s Seconds) Std() time.Duration { return time.Duration(s) * time.Second }

// Body is how a request's body is written.
type Body string

// The kinds of bodies.
const (
	BodyJSON      Body = "json"
	BodyForm      Body = "form"      // application/x-www-form-urlencoded
	BodyMultipart Body = "multipart" // multipart/form-data
	BodyText      Body = "text"      // one input with in: body and no at
	BodyFile      Body = "file"      // one input with in: body and no at, of type file
	BodyNone      Body = "none"
)

// Visibility says how prominently an action or input is offered.
type Visibility string

// The levels.
const (
	VisibilityImportant Visibility = "important"
	VisibilityNormal    Visibility = ""
	VisibilityAdvanced  Visibility = "advanced"
	VisibilityInternal  Visibility = "internal" // for triggers and choices of the connector only
)

// DataClass is a kind of data that a reviewer wants to know of.
type DataClass string

// The classes.
const (
	DataPII       DataClass = "pii"
	DataFinancial DataClass = "financial"
	DataHealth    DataClass = "health"
)

// Place is the part of a request into which an input goes.
type Place string

// The places.
const (
	InPath   Place = "path"
	InQuery  Place = "query"
	InHeader Place = "header"
	InBody   Place = "body"
	InArgs   Place = "arguments" // the JSON object in the header that Arguments of the action names
)

// Type is the type of an input.
type Type string

// The types.
const (
	TypeString  Type = "string"
	TypeInteger Type = "integer"
	TypeNumber  Type = "number"
	TypeBoolean Type = "boolean"
	TypeObject  Type = "object"
	TypeArray   Type = "array"
	TypeFile    Type = "file"
	TypeAny     Type = "any"
)

// Input is one typed input of an action.
type Input struct {
	Name        string          `json:"name"` // [a-zA-Z_][a-zA-Z0-9_.-]{0,62}: what a flow writes
	In          Place           `json:"in"`
	As          string          `json:"as,omitempty"`    // name in the query, header or form, or path such as a.b in a JSON body; empty: Name
	Whole       bool            `json:"whole,omitempty"` // in: body: the input is the whole body
	Type        Type            `json:"type"`
	Schema      json.RawMessage `json:"schema,omitempty"` // JSON Schema of an object or array, and finer bounds of the others
	Required    bool            `json:"required,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
	Enum        []string        `json:"enum,omitempty"`
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Example     json.RawMessage `json:"example,omitempty"`
	Secret      bool            `json:"secret,omitempty"` // masked wherever it is shown
	Deprecated  string          `json:"deprecated,omitempty"`
	Visibility  Visibility      `json:"visibility,omitempty"`
	Style       Style           `json:"style,omitempty"`
	Raw         bool            `json:"raw,omitempty"`      // in: path: slashes in the value stay
	Language    Language        `json:"language,omitempty"` // the value is a program in a query language: literal text with :parameters
	Choices     *Choices        `json:"choices,omitempty"`
	SchemaFrom  *SchemaFrom     `json:"schema_from,omitempty"`
}

// Key is the name under which the input is sent.
func (i *Input) Key() string {
	if i.As != "" {
		return i.As
	}
	return i.Name
}

// Style is how a list or an object is written in a query or form.
type Style string

// The styles.
const (
	StyleRepeat   Style = ""         // a=1&a=2; an object is JSON
	StyleCSV      Style = "csv"      // a=1,2
	StyleSpace    Style = "space"    // a=1 2
	StylePipe     Style = "pipe"     // a=1|2
	StyleBrackets Style = "brackets" // a[]=1&a[]=2, and a[k]=v for objects
	StyleIndex    Style = "index"    // a[0]=1&a[1][k]=v
	StyleJSON     Style = "json"     // a=[1,2]
)

// Language is a query language whose values must not be put together from templates.
type Language string

// The languages.
const (
	LanguageSOQL    Language = "soql"     // Salesforce
	LanguageSuite   Language = "suiteql"  // NetSuite
	LanguageJQL     Language = "jql"      // Jira
	LanguageOData   Language = "odata"    // Microsoft
	LanguageDrive   Language = "drive"    // Google Drive search
	LanguageQBO     Language = "qbo"      // QuickBooks query
	LanguageFormula Language = "airtable" // Airtable formula
	LanguageSearch  Language = "search"   // words with quoted phrases: Gmail, GitHub, Zendesk
	LanguageGraphQL Language = "graphql"  // has variables of its own, so :name is no parameter in it
)

// FixedValue is a part of a body that is always the same.
type FixedValue struct {
	At    string          `json:"at"`
	Value json.RawMessage `json:"value"`
}

// Choices says which action lists the values that an input may have.
type Choices struct {
	Action string   `json:"action"`
	With   []Passed `json:"with,omitempty"`
	Items  string   `json:"items,omitempty"` // path of the list in the body; empty: the action's own recipe, or the body
	Value  string   `json:"value"`           // path in an item
	Label  string   `json:"label,omitempty"`
}

// SchemaFrom says which action describes the schema of an input or output at run time.
type SchemaFrom struct {
	Action string   `json:"action"`
	With   []Passed `json:"with,omitempty"`
	Path   string   `json:"path,omitempty"` // of the JSON Schema, or of the list of fields, in the body
	Name   string   `json:"name,omitempty"` // where the answer is a list of fields: path of a field's name in an item
	Type   string   `json:"type,omitempty"` // and of its type
	Label  string   `json:"label,omitempty"`
}

// Passed hands an input on: the value of the input From of the action at hand, or a literal.
type Passed struct {
	Name  string          `json:"name"`
	From  string          `json:"from,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Pagination types.
const (
	PageNone   = "none"
	PageLink   = "link"   // Link header with rel=next (RFC 8288), or a URL in the body at From
	PageCursor = "cursor" // a token at From of the answer becomes the parameter Name
	PageOffset = "offset" // Name counts items
	PageNumber = "page"   // Name counts pages
)

// Paginate says how all pages of an action are read.
type Paginate struct {
	Type  string `json:"type"`
	In    Place  `json:"in,omitempty"`    // query (default) or body
	Name  string `json:"name,omitempty"`  // parameter, or path in the body
	From  string `json:"from,omitempty"`  // path in the answer's body: the next cursor or URL; "header:NAME" for a header
	Items string `json:"items,omitempty"` // path of the list in the body; empty: the body
	// More is the path of a boolean or a non-empty value that says that there are more pages; empty: there are while From has a
	// value, or, counting, while a page is full (Size) or not empty.
	// With "!" before it, the value says that there are no more.
	More  string `json:"more,omitempty"`
	Start int    `json:"start,omitempty"` // of offset and page
	Size  *Size  `json:"size,omitempty"`  // asked for unless the flow does
	Last  string `json:"last,omitempty"`  // type cursor: the cursor is this path of the last item
	Total string `json:"total,omitempty"` // offset: path of how many items there are; page: of how many pages
	// Below, of type link: what the next URL has below the action's own path is taken too, not its query only (Salesforce).
	Below bool `json:"below,omitempty"`
}

// Size is the parameter that says how long a page is.
type Size struct {
	Name  string `json:"name"`
	In    Place  `json:"in,omitempty"` // query (default) or body
	Value int    `json:"value"`
}
