package flowfile

import (
	"regexp"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// oneKey reports an object that does not have exactly one of some keys.
func (d *decoder) oneKey(n *source.Node, path, what string, keys []string) {
	if n.Kind != source.Map {
		return
	}
	var found []*source.Node
	for _, k := range n.Keys {
		if slices.Contains(keys, k.Value) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		at := n
		if k, ok := d.KeyAt[path]; ok {
			at = k
		} else if len(n.Keys) > 0 {
			at = n.Keys[0]
		}
		d.Problem(at, path, "", "%s needs exactly one of the keys %s", what, source.OneOf(keys))
	}
	for _, k := range found[min(1, len(found)):] {
		d.Problem(k, source.Join(path, k.Value), "", "%s takes exactly one of the keys %s: %q is there already", what, source.OneOf(keys), found[0].Value)
	}
}

func (d *decoder) trigger(dst *flow.Trigger) source.Reader {
	return func(n *source.Node, path string) {
		input := func(to **flow.Input, name string) source.Reader {
			return func(n *source.Node, path string) {
				*to = &flow.Input{}
				d.Object(n, path, name, source.Optional("input", d.schema(&(*to).Schema)))
			}
		}
		empty := func(to **flow.Empty, name string) source.Reader {
			return func(n *source.Node, path string) {
				*to = &flow.Empty{}
				d.At[path] = n
				if d.Observe != nil {
					d.Observe(name, nil)
				}
				if n.Kind != source.Map || len(n.Keys) > 0 {
					d.Problem(n, path, "write {}", "expected an empty map, found %s", source.Describe(n))
				}
			}
		}
		var kinds []string
		for _, k := range flow.TriggerKinds() {
			kinds = append(kinds, string(k))
		}
		if d.Object(
			n, path, "trigger",
			source.Optional("webhook", d.webhook(&dst.Webhook)),
			source.Optional("schedule", d.schedule(&dst.Schedule)),
			source.Optional("poll", d.poll(&dst.Poll)),
			source.Optional("event", d.event(&dst.Event)),
			source.Optional("manual", input(&dst.Manual, "manual")),
			source.Optional("call", input(&dst.Call, "call_trigger")),
			source.Optional("deploy", empty(&dst.Deploy, "empty")),
			source.Optional("remove", empty(&dst.Remove, "empty")),
		) {
			d.oneKey(n, path, "a trigger", kinds)
		}
	}
}

// methods a webhook may take: those that HTTP defines with a body, and GET for those that know no better.
func webhookMethods() []string { return []string{"POST", "PUT", "PATCH", "DELETE", "GET"} }

func (d *decoder) webhook(dst **flow.Webhook) source.Reader {
	return func(n *source.Node, path string) {
		w := &flow.Webhook{}
		*dst = w
		ok := d.Object(
			n, path, "webhook",
			source.Optional("methods", d.NonEmpty("methods", d.List("methods", flow.MaxMethods, func(n *source.Node, path string) {
				var m string
				before := len(d.Problems)
				source.Enum(d.Decoder, &m, webhookMethods()...)(n, path)
				if slices.Contains(w.Methods, m) && len(d.Problems) == before {
					d.Problem(n, path, "", "the method %s is there twice", m)
				}
				w.Methods = append(w.Methods, m)
			}))),
			source.Optional("verify", d.verify(&w.Verify)),
			source.Optional("dedupe", d.textValue(&w.Dedupe, "a reference or a template of trigger")),
			source.Optional("respond", source.Enum(d.Decoder, &w.Respond, flow.RespondAsync, flow.RespondSync)),
		)
		if ok && n.Get("verify") == nil {
			d.ProblemKey(path, `write "verify: none" if everybody may start this flow`, `the key "verify" is missing: who may call this webhook must be said`)
		}
	}
}

func (d *decoder) schedule(dst **flow.Schedule) source.Reader {
	return func(n *source.Node, path string) {
		s := &flow.Schedule{}
		*dst = s
		if d.Object(
			n, path, "schedule",
			source.Optional("cron", d.textValue(&s.Cron, "a cron line such as \"0 2 * * *\"")),
			source.Optional("timezone", d.textValue(&s.Timezone, "a time zone such as Europe/Berlin")),
			source.Optional("every", d.textValue(&s.Every, "a duration such as PT5M")),
			source.Optional("jitter", d.duration(&s.Jitter, flow.MaxJitter)),
		) {
			d.oneKey(n, path, "a schedule", []string{"cron", "every"})
		}
	}
}

func (d *decoder) poll(dst **flow.Poll) source.Reader {
	return func(n *source.Node, path string) {
		p := &flow.Poll{}
		*dst = p
		d.Object(
			n, path, "poll",
			source.Required("uses", d.uses(&p.Uses)),
			source.Optional("with", d.objectValue(&p.With, "inputs")),
			source.Required("every", d.textValue(&p.Every, "a duration such as PT5M")),
			source.Optional("items", d.expression(&p.Items, "an expression such as ${{ result.body.items }}")),
			source.Required("key", d.textValue(&p.Key, "what identifies an item, such as ${{ item.id }}")),
			source.Optional("cursor", d.textValue(&p.Cursor, "what the next poll sees as cursor, such as ${{ item.updated_at }}")),
			source.Optional("start", source.Enum(d.Decoder, &p.Start, flow.StartNow, flow.StartBeginning)),
		)
	}
}

func (d *decoder) event(dst **flow.Event) source.Reader {
	return func(n *source.Node, path string) {
		e := &flow.Event{}
		*dst = e
		d.Object(n, path, "event", source.Required("uses", d.uses(&e.Uses)), source.Optional("with", d.objectValue(&e.With, "inputs")))
	}
}

func (d *decoder) verify(dst *flow.Verify) source.Reader {
	return func(n *source.Node, path string) {
		d.At[path] = n
		ways := []string{"connector", "standard-webhooks", "hmac", "header", "basic", "bearer", "jwt"}
		if n.Kind == source.Scalar {
			if source.Resolve(n) == source.TextScalar && n.Value == "none" {
				dst.None = true
				return
			}
			suggestion := ""
			if source.Resolve(n) == source.TextScalar {
				suggestion = source.DidYouMean(n.Value, append([]string{"none"}, ways...))
			}
			d.Problem(n, path, suggestion, "expected none, or a map with one of the keys %s, found %s", source.OneOf(ways), source.Describe(n))
			return
		}
		if d.Object(
			n, path, "verify_way",
			source.Optional("connector", d.Str(&dst.Connector, "the name of a connection")),
			source.Optional("standard-webhooks", func(n *source.Node, path string) {
				v := &flow.VerifyStandard{}
				dst.StandardWebhooks = v
				d.Object(n, path, "verify_standard", source.Required("secret", d.secret(&v.Secret)), source.Optional("tolerance", d.duration(&v.Tolerance, flow.MaxTolerance)))
			}),
			source.Optional("hmac", d.verifyHMAC(dst)),
			source.Optional("header", func(n *source.Node, path string) {
				v := &flow.VerifyHeader{}
				dst.Header = v
				d.Object(n, path, "verify_header", source.Required("name", d.header(&v.Name)), source.Required("secret", d.secret(&v.Secret)))
			}),
			source.Optional("basic", func(n *source.Node, path string) {
				v := &flow.VerifyBasic{}
				dst.Basic = v
				d.Object(n, path, "verify_basic", source.Required("username", d.Str(&v.Username, "a user name")), source.Required("password", d.secret(&v.Password)))
			}),
			source.Optional("bearer", func(n *source.Node, path string) {
				v := &flow.VerifyBearer{}
				dst.Bearer = v
				d.Object(n, path, "verify_bearer", source.Required("secret", d.secret(&v.Secret)))
			}),
			source.Optional("jwt", d.verifyJWT(dst)),
		) {
			d.oneKey(n, path, "verify", ways)
		}
	}
}

func (d *decoder) verifyHMAC(dst *flow.Verify) source.Reader {
	return func(n *source.Node, path string) {
		v := &flow.VerifyHMAC{}
		dst.HMAC = v
		d.Object(
			n, path, "verify_hmac",
			source.Required("header", d.header(&v.Header)),
			source.Required("algorithm", source.Enum(d.Decoder, &v.Algorithm, "sha1", "sha256", "sha384", "sha512")),
			source.Optional("encoding", source.Enum(d.Decoder, &v.Encoding, "hex", "base64", "base64url")),
			source.Optional("prefix", d.Str(&v.Prefix, "what stands before the signature")),
			source.Required("secrets", d.NonEmpty("secrets", d.List("secrets", flow.MaxSecrets, func(n *source.Node, path string) {
				var s flow.SecretRef
				d.secret(&s)(n, path)
				v.Secrets = append(v.Secrets, s)
			}))),
			source.Optional("signed", d.signed(&v.Signed)),
			source.Optional("timestamp", func(n *source.Node, path string) {
				t := &flow.VerifyTimestamp{}
				v.Timestamp = t
				d.Object(n, path, "verify_timestamp", source.Required("header", d.header(&t.Header)), source.Optional("tolerance", d.duration(&t.Tolerance, flow.MaxTolerance)))
			}),
		)
		if n.Kind == source.Map && n.Get("timestamp") == nil && regexp.MustCompile(`\{timestamp\}`).MatchString(v.Signed) {
			d.ProblemAt(source.Join(path, "signed"), "write timestamp: {header: …}", "{timestamp} is signed, but the key \"timestamp\" does not say in which header it stands")
		}
	}
}

// signed reads what a signature covers.
func (d *decoder) signed(dst *string) source.Reader {
	return func(n *source.Node, path string) {
		d.Str(dst, "what is signed, such as {timestamp}.{body}")(n, path)
		body := false
		for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(*dst, -1) {
			switch m[1] {
			case "body":
				body = true
			case "timestamp", "method", "path":
			default:
				d.Problem(n, path, source.DidYouMean(m[1], []string{"body", "timestamp", "method", "path"}), "{%s} cannot be signed", source.Cut(m[1], 40))
			}
		}
		if *dst != "" && !body {
			d.Problem(n, path, "", "the signature does not cover {body}: anybody could replace it")
		}
	}
}

func (d *decoder) verifyJWT(dst *flow.Verify) source.Reader {
	return func(n *source.Node, path string) {
		v := &flow.VerifyJWT{}
		dst.JWT = v
		d.Object(
			n, path, "verify_jwt",
			source.Required("algorithm", source.Enum(d.Decoder, &v.Algorithm, "HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA")),
			source.Required("secret", d.secret(&v.Secret)),
			source.Optional("issuer", d.Str(&v.Issuer, "the issuer")),
			source.Optional("audience", d.Str(&v.Audience, "the audience")),
			source.Optional("header", d.header(&v.Header)),
			source.Optional("tolerance", d.duration(&v.Tolerance, flow.MaxTolerance)),
		)
	}
}

// header reads the name of an HTTP header (RFC 9110, 5.1).
func (d *decoder) header(dst *string) source.Reader {
	return d.Matching(dst, "the name of a header", regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$"), "letters, digits and dashes")
}

// secret reads config.NAME, the only way to name a secret.
func (d *decoder) secret(dst *flow.SecretRef) source.Reader {
	return func(n *source.Node, path string) {
		var s string
		before := len(d.Problems)
		if text, ok := d.PlainText(n, path, "a secret of config, such as config.hook_secret", flow.MaxTextBytes); ok {
			s = text
		}
		if len(d.Problems) > before {
			return
		}
		if !regexp.MustCompile(`^config\.[a-z][a-z0-9_]{0,62}$`).MatchString(s) {
			suggestion := "declare a config variable of type secret: secrets are never written into a file"
			if m := regexp.MustCompile(`^\$\{\{ *(config\.[a-z][a-z0-9_]{0,62}) *\}\}$`).FindStringSubmatch(s); m != nil {
				suggestion = "write " + m[1]
			}
			d.Problem(n, path, suggestion, "expected the name of a secret of config, such as config.hook_secret")
			return
		}
		*dst = flow.SecretRef(s)
	}
}
