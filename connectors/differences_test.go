package connectors_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
)

const sampleDescription = `
openapi: 3.0.3
servers: [{url: "https://api.acme.example/{version}", variables: {version: {default: v2}}}]
paths:
  /things/{thing_id}:
    parameters: [{name: thing_id, in: path, required: true}]
    get:
      parameters: [{$ref: '#/components/parameters/deep'}, {name: api_key, in: query, required: true}]
      responses: {"200": {content: {application/json: {schema: {$ref: '#/components/schemas/Thing'}}}}}
  /things:
    get:
      parameters:
        - {name: limit, in: query}
        - {name: 'kind[]', in: query, schema: {type: array, items: {enum: [a, b]}}}
        - {name: tenant, in: header, required: true}
        - {name: Locale, in: header}
      responses: {"200": {content: {application/json: {schema: {type: object, properties: {
        things: {type: array, items: {$ref: '#/components/schemas/Thing'}}, paging: {type: object, properties: {next: {type: string}}}}}}}}}
    post:
      requestBody: {required: true, content: {application/json: {schema: {allOf: [
        {type: object, required: [name], properties: {name: {type: string}, size: {type: integer}, labels: {type: object, additionalProperties: {type: string}}}},
        {type: object, required: [owner, id], properties: {id: {type: string, readOnly: true},
          owner: {oneOf: [{type: object, required: [team], properties: {team: {type: string}}}, {type: object, required: [user], properties: {user: {type: string}}}]}}}]}}}}
      responses: {"201": {content: {application/vnd.acme+json: {schema: {$ref: '#/components/schemas/Thing'}}}}}
components:
  parameters: {deep: {name: deep, in: query, schema: {type: boolean}}}
  schemas:
    Thing: {type: object, properties: {id: {type: integer}, name: {type: string, nullable: true}, extra: {type: object}, part: {$ref: '#/components/schemas/Thing'}}}
  securitySchemes: {key: {type: apiKey, in: query, name: api_key}}
`

const sampleHead = `
connector: acme
version: 1.0.0
title: Acme
tier: verified
provenance: {kind: hand}
hosts: [api.acme.example]
base_url: https://api.acme.example/v2
auth: [{id: key, type: api_key, fields: [{name: key, secret: true}], places: [{in: query, name: api_key, format: "{key}"}, {in: header, name: Tenant, format: acme}]}]
`

// sampleAlike is a manifest that says what the description says.
const sampleAlike = sampleHead + `
actions:
  getThing:
    method: GET
    path: /things/{id}
    input: {id: {}, deep: {type: boolean}}
    output: {type: object, properties: {id: {type: integer}, name: {anyOf: [{type: string}, {type: "null"}]}, extra: {type: object, properties: {any: {type: string}}}, part: {$ref: "#/schemas/part"}}}
  listThings:
    method: GET
    path: /things
    input: {limit: {type: integer}, kind: {type: array, style: brackets, enum: [a, b]}}
    paginate: {type: cursor, name: limit, from: paging.next, items: things}
    output: {type: object, properties: {things: {type: array, items: {$ref: "#/schemas/part"}}}}
  createThing:
    method: POST
    path: /things
    input: {name: {required: true}, size: {type: integer}, team: {as: owner.team, required: true}, labels: {type: object, schema: {additionalProperties: {type: string}}}}
    output: {$ref: "#/schemas/part"}
triggers:
  newThing: {type: poll, poll: {action: listThings, key: id+name}}
schemas: {part: {type: object, properties: {id: {type: integer}, part: {$ref: "#/schemas/part"}}}}
`

// sampleApart is a manifest of which every line differs.
const sampleApart = sampleHead + `
defaults: {headers: {Locale: en, Acme-Version: "2"}}
actions:
  getThing:
    method: GET
    path: /things/{id}
    input: {id: {}, deeper: {type: boolean}}
    output: {type: object, properties: {id: {type: string}, name: {type: string}, title: {type: string}, part: {$ref: "#/schemas/part"}}}
  listThings:
    method: GET
    path: /things
    input: {kind: {type: array, style: brackets, enum: [a, c]}}
    paginate: {type: cursor, name: after, from: paging.after, items: results}
  createThing:
    method: POST
    path: /things
    body: form
    input: {name: {}, size: {}, color: {}, labels: {type: array}}
  updateThing: {method: PATCH, path: "/things/{id}", input: {id: {}}}
triggers:
  newThing: {type: poll, poll: {action: listThings, items: things, key: id, cursor: changed}}
schemas: {part: {type: object, properties: {part: {type: object, properties: {owner: {type: string}}}}}}
`

// TestLay: what a manifest and a description say alike is no difference, and everything else is.
func TestLay(t *testing.T) {
	t.Parallel()
	d, err := readDescribed([]byte(sampleDescription))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"alike", sampleAlike, nil},
		{"apart", sampleApart, []string{
			"*: header Acme-Version",
			"createThing: body color",
			"createThing: encoding form, there application/json",
			"createThing: needs body owner",
			"createThing: optional body name",
			"createThing: type body labels: array, there object",
			"getThing: answer part.part.owner",
			"getThing: answer title",
			"getThing: null answer name",
			"getThing: query deeper",
			"getThing: type answer id: string, there integer",
			"listThings: answer paging.after",
			"listThings: item changed",
			"listThings: items results",
			"listThings: query after",
			"listThings: value query kind: c",
			"updateThing: no operation PATCH /v2/things/{id}",
		}},
	} {
		doc, problems := connectorfile.Decode("connector.yaml", []byte(strings.TrimSpace(c.text)))
		report(t, problems)
		if doc == nil {
			continue
		}
		l := lay(doc.Manifest, []*described{d}, &compared{})
		if diff := cmp.Diff(c.want, l.differences); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if c.want == nil && (l.found != l.actions || l.known+l.silent != l.fields || l.silent != 1) {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
	tenant := strings.Replace(sampleAlike, `, {in: header, name: Tenant, format: acme}`, "", 1)
	doc, problems := connectorfile.Decode("connector.yaml", []byte(tenant))
	report(t, problems)
	if got, want := lay(doc.Manifest, []*described{d}, &compared{}).differences, []string{"listThings: needs header tenant"}; !cmp.Equal(got, want) {
		t.Errorf("without a credential in a header: %q", got)
	}
}

const sampleSwagger = `
swagger: "2.0"
basePath: /v2
consumes: [application/json]
parameters: {deep: {name: deep, in: query, type: boolean}}
paths:
  /things/{thing_id}:
    parameters: [{name: thing_id, in: path, required: true, type: string}]
    get:
      parameters: [{$ref: '#/parameters/deep'}, {name: api_key, in: query, required: true, type: string}]
      responses: {"200": {schema: {$ref: '#/definitions/Thing'}}}
  /things:
    get:
      parameters: [{name: limit, in: query, type: integer}, {name: kind, in: query, type: array, items: {type: string, enum: [a, b]}}]
      responses: {"200": {schema: {type: object, properties: {things: {type: array, items: {$ref: '#/definitions/Thing'}}, paging: {type: object, properties: {next: {type: string}}}}}}}
    post:
      parameters:
        - {name: thing, in: body, required: true, schema: {type: object, required: [name], properties: {name: {type: string}, size: {type: integer}, labels: {type: object}, owner: {type: object}}}}
      responses: {201: {schema: {$ref: '#/definitions/Thing'}}}
securityDefinitions: {key: {type: apiKey, in: query, name: api_key}}
definitions: {Thing: {type: object, properties: {id: {type: integer}, name: {type: string, x-nullable: true}, extra: {type: object}, part: {$ref: '#/definitions/Thing'}}}}
`

// TestLaySwagger: a description of Swagger 2.0 is read too.
func TestLaySwagger(t *testing.T) {
	t.Parallel()
	d, err := readDescribed([]byte(sampleSwagger))
	if err != nil {
		t.Fatal(err)
	}
	apart := strings.NewReplacer("size: {type: integer}", "sise: {type: integer}", "deep: {type", "deeper: {type", `[string, "null"]`, "string", `anyOf: [{type: string}, {type: "null"}]`, "type: string")
	for text, want := range map[string][]string{
		sampleAlike:                nil,
		apart.Replace(sampleAlike): {"createThing: body sise", "getThing: null answer name", "getThing: query deeper"},
	} {
		doc, problems := connectorfile.Decode("connector.yaml", []byte(strings.TrimSpace(text)))
		report(t, problems)
		if doc == nil {
			continue
		}
		if diff := cmp.Diff(want, lay(doc.Manifest, []*described{d}, &compared{}).differences); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestMatches: an explanation means what it says.
func TestMatches(t *testing.T) {
	t.Parallel()
	for pattern, texts := range map[string][2]string{
		"a: answer b":     {"a: answer b", "a: answer b.c"},
		"*: answer b":     {"a: answer b", "a: answer b.c"},
		"*: answer *.b":   {"a: answer x[].b", "a: answer b"},
		"*: answer *b":    {"a: answer b", "a: query b"},
		"a: * [].b*":      {"a: answer [].b.c", "a: answer b.c"},
		"*: answer *aa*a": {"x: answer aaa", "x: answer aa"},
	} {
		if !matches(pattern, texts[0]) || matches(pattern, texts[1]) {
			t.Errorf("%q: %q is %t, %q is %t", pattern, texts[0], matches(pattern, texts[0]), texts[1], matches(pattern, texts[1]))
		}
	}
}
