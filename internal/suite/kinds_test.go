package suite

import (
	"strings"
)

// kind is one kind of credential: how a manifest describes it, and what is entered.
type kind struct {
	name   string
	auth   string            // the auth method of the manifest, in YAML
	path   string            // of the action; "" is /tell
	more   string            // more of the manifest
	fields map[string]string // entered with the connection
	client map[string]string // entered with the connection template
	person bool              // somebody signs in at the provider
	knows  bool              // the provider has the secrets of old, though they are not sent
	mutual *mutual           // the provider is reached by mutual TLS
	fails  string            // what the error of every call says: no call comes through
	renews bool              // has tokens: the first ones end at once
	dead   bool              // and then the provider gives no more
	error  string            // which secret the provider tells as error code when it refuses; "": invalid_grant

	marks []*mark // the teller's lock guards it and the next while requests come
	given int     // how often tokens were given
}

// secret makes a secret of the kind and returns its value.
func (k *kind) secret(name string) string { return k.add(newPlain(credential, name)).value }

// odd makes one with characters that every encoding changes.
func (k *kind) odd(name string) string { return k.add(newMark(credential, name)).value }

// public makes a value that is no secret: it may come back.
func (k *kind) public(name string) string { return k.add(newPlain(identifier, name)).value }

func (k *kind) add(m *mark) *mark {
	m.name = k.name + ": " + m.name
	k.marks = append(k.marks, m)
	return m
}

// refusal is the error code of a token endpoint that refuses.
func (k *kind) refusal() string {
	for _, m := range k.marks {
		if k.error != "" && strings.HasSuffix(m.name, k.error) {
			return m.value
		}
	}
	return "invalid_grant"
}

// apiKey is a key at a place of requests.
func apiKey(in, name, format string) *kind {
	k := &kind{name: "key-" + in, auth: "{id: m, type: api_key, places: [{in: " + in + ", name: " + name + `, format: "` + format + `"}]}`}
	if in == "path" {
		k.path, k.fields = "/{"+name+"}/tell", map[string]string{"api_key": k.secret("key")}
	} else {
		k.fields = map[string]string{"api_key": k.odd("key")}
	}
	return k
}

// signed is a kind whose secrets sign: the provider has them since they were agreed.
func signed(name, auth string, make func(k *kind) map[string]string) *kind {
	k := &kind{name: name, auth: auth, knows: true}
	k.fields = make(k)
	return k
}

// kinds are all kinds of credentials. A new one is a row here.
func kinds() []*kind {
	all := []*kind{
		signed("bearer", `{id: m, type: bearer}`, func(k *kind) map[string]string { return map[string]string{"token": k.odd("token")} }),
		signed("basic", `{id: m, type: basic}`, func(k *kind) map[string]string {
			return map[string]string{"username": k.public("user"), "password": k.odd("password")}
		}),
		apiKey("header", "X-Api-Key", "{api_key}"), apiKey("query", "key", "{api_key}"), apiKey("path", "key", "{api_key}"),
		apiKey("body", "api_key", "{api_key}"), apiKey("cookie", "session", "{api_key}"), apiKey("basic", "x", "{api_key}"),
		signed("hmac", `{id: m, type: hmac, sign: {message: "{method}{path}{body}"}, places: [{in: header, name: X-Api-Key, format: "{signature}"}]}`, func(k *kind) map[string]string {
			return map[string]string{"secret": k.odd("secret")}
		}),
		signed("sigv4", `{id: m, type: sigv4, sign: {region: eu-west-1, service: execute-api}}`, func(k *kind) map[string]string {
			return map[string]string{"access_key_id": k.public("id"), "secret_access_key": k.odd("secret"), "session_token": k.secret("session token")}
		}),
		signed("oauth1", `{id: m, type: oauth1, sign: {algorithm: hmac-sha256}}`, oauth1Fields),
		signed("oauth1-plain", `{id: m, type: oauth1, sign: {algorithm: plaintext}}`, oauth1Fields),
	}
	all[7].auth = `{id: m, type: api_key, places: [{in: basic, user: "{api_key}", format: x}]}`
	for _, dead := range []bool{false, true} {
		all = append(all, code(dead), credentials(dead), keyed(dead), service(dead), session(dead))
	}
	return append(all, mutualKinds()...)
}

// renewed is a kind with tokens, by an auth method whose recipe takes everything that the provider tells in its answers. Of one that is
// dead, the provider refuses every renewal.
func renewed(name string, dead bool, auth string) *kind {
	const told = `answer: {more_scopes: true, keep: [{name: account_id, from: account_id}, {name: account_name, from: account_name}]}, account: {id: "{account_id}", label: "{account_name}"}`
	if dead {
		name += "-dead"
	}
	return &kind{name: name, auth: strings.NewReplacer("TOLD", told, "AT", "http://HOST/"+name).Replace(auth), renews: true, dead: dead}
}

func code(dead bool) *kind {
	k := renewed("code", dead, `{id: m, type: oauth2_code, recipe: {authorize: {url: "AT/authorize", scopes: [read]}, token: {url: "AT/token"}, revoke: {url: "AT/revoke"}, TOLD}}`)
	k.person, k.error = true, "refresh token"
	k.client = map[string]string{"client_id": k.public("client id"), "client_secret": k.odd("client secret"), "signing_secret": k.secret("signing secret")}
	if !dead {
		k.more = `triggers:
  said:
    type: app
    app: {account: "body:team"}
    verify: {type: hmac, secret: app, algorithm: sha256, header: X-Signature, prefix: "v0=", signed: "v0:{timestamp}:{body}", timestamp: "header:X-Timestamp"}
    key: body:id
`
	}
	return k
}

func credentials(dead bool) *kind {
	k := renewed("client-credentials", dead, `{id: m, type: oauth2_client, recipe: {token: {url: "AT/token", client_auth: basic}, TOLD}}`)
	k.error = "client secret"
	k.client = map[string]string{"client_id": k.public("client id"), "client_secret": k.secret("client secret")}
	return k
}

func keyed(dead bool) *kind {
	k := renewed("key-jwt", dead, `{id: m, type: oauth2_client, recipe: {token: {url: "AT/token", client_auth: assertion}, assertion: {algorithm: ES256, key: "{private_key}"}, TOLD}}`)
	key := k.key(newECKey())
	k.client = map[string]string{"client_id": k.public("client id"), "private_key": key}
	return k
}

func service(dead bool) *kind {
	k := renewed("jwt-bearer", dead, `{id: m, type: oauth2_jwt, fields: [{name: key, secret: true, multiline: true}], recipe: {token: {url: "AT/token", client_auth: custom, params: {grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion: "{assertion}"}}, assertion: {algorithm: ES256, key: "{key}", issuer: me, subject: me, audience: you}, TOLD}}`)
	key := k.key(newECKey())
	k.fields = map[string]string{"key": key}
	return k
}

func session(dead bool) *kind {
	k := renewed("session", dead, `{id: m, type: session, fields: [{name: login}, {name: word, secret: true}], recipe: {steps: [{name: enter, url: "AT/login", body: json, params: {login: "{login}", word: "{word}"}, answer: {more_scopes: true, keep: [{name: account_name, from: account_name}]}}], account: {id: "{login}", label: "{account_name}"}}}`)
	k.error = "word"
	k.fields = map[string]string{"login": k.public("login"), "word": k.secret("word")}
	return k
}

func oauth1Fields(k *kind) map[string]string {
	return map[string]string{"consumer_key": k.public("consumer key"), "consumer_secret": k.odd("consumer secret"), "token": k.public("token"), "token_secret": k.odd("token secret")}
}

// manifest is the connector of a kind.
func (k *kind) manifest(host string) string {
	scheme, path := "http", k.path
	if path == "" {
		path = "/tell"
	}
	if k.mutual != nil {
		scheme, host = "https", k.mutual.Listener.Addr().String()
	}
	return strings.NewReplacer("SCHEME", scheme, "HOST", host, "NAME", k.name, "PATH", path, "AUTH", strings.Replace(strings.ReplaceAll(k.auth, "HOST", host), "{id: m,", "{id: m, test: {action: prove},", 1)).Replace(`connector: told-NAME
version: 1.0.0
title: NAME
tier: imported
provenance: {kind: hand}
hosts: ["HOST"]
base_url: "SCHEME://HOST/NAME"
auth: [AUTH]
actions:
  tell: {method: POST, path: "PATH", input: {as: {in: query, required: true}, text: {in: body}}, idempotency: {unsafe: true}}
  prove: {method: POST, path: "PATH", query: {as: json}, fields: {text: x}, idempotency: {safe: true}}
  choose: {method: POST, path: "PATH", input: {one: {type: object, schema_from: {action: prove}}}}
`) + k.more
}
