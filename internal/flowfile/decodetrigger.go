package flowfile

import (
	"regexp"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// oneKey reports an object that does not have exactly one of some keys.
func (d *decoder) oneKey(n *node, path, what string, keys []string) {
	if n.kind != mapNode {
		return
	}
	var found []*node
	for _, k := range n.keys {
		if slices.Contains(keys, k.value) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		at := n
		if k, ok := d.keyAt[path]; ok {
			at = k
		} else if len(n.keys) > 0 {
			at = n.keys[0]
		}
		d.problem(at, path, "", "%s needs exactly one of the keys %s", what, oneOf(keys))
	}
	for _, k := range found[min(1, len(found)):] {
		d.problem(k, join(path, k.value), "", "%s takes exactly one of the keys %s: %q is there already", what, oneOf(keys), found[0].value)
	}
}

func (d *decoder) trigger(dst *flow.Trigger) reader {
	return func(n *node, path string) {
		input := func(to **flow.Input, name string) reader {
			return func(n *node, path string) {
				*to = &flow.Input{}
				d.object(n, path, name, optional("input", d.schema(&(*to).Schema)))
			}
		}
		empty := func(to **flow.Empty, name string) reader {
			return func(n *node, path string) {
				*to = &flow.Empty{}
				d.at[path] = n
				if d.observe != nil {
					d.observe(name, nil)
				}
				if n.kind != mapNode || len(n.keys) > 0 {
					d.problem(n, path, "write {}", "expected an empty map, found %s", describe(n))
				}
			}
		}
		var kinds []string
		for _, k := range flow.TriggerKinds() {
			kinds = append(kinds, string(k))
		}
		if d.object(
			n, path, "trigger",
			optional("webhook", d.webhook(&dst.Webhook)),
			optional("schedule", d.schedule(&dst.Schedule)),
			optional("poll", d.poll(&dst.Poll)),
			optional("event", d.event(&dst.Event)),
			optional("manual", input(&dst.Manual, "manual")),
			optional("call", input(&dst.Call, "call_trigger")),
			optional("deploy", empty(&dst.Deploy, "empty")),
			optional("remove", empty(&dst.Remove, "empty")),
		) {
			d.oneKey(n, path, "a trigger", kinds)
		}
	}
}

// methods a webhook may take: those that HTTP defines with a body, and GET for those that know no better.
func webhookMethods() []string { return []string{"POST", "PUT", "PATCH", "DELETE", "GET"} }

func (d *decoder) webhook(dst **flow.Webhook) reader {
	return func(n *node, path string) {
		w := &flow.Webhook{}
		*dst = w
		ok := d.object(
			n, path, "webhook",
			optional("methods", d.nonEmpty("methods", d.list("methods", flow.MaxMethods, func(n *node, path string) {
				var m string
				before := len(d.problems)
				enum(d, &m, webhookMethods()...)(n, path)
				if slices.Contains(w.Methods, m) && len(d.problems) == before {
					d.problem(n, path, "", "the method %s is there twice", m)
				}
				w.Methods = append(w.Methods, m)
			}))),
			optional("verify", d.verify(&w.Verify)),
			optional("dedupe", d.textValue(&w.Dedupe, "a reference or a template of trigger")),
			optional("respond", enum(d, &w.Respond, flow.RespondAsync, flow.RespondSync)),
		)
		if ok && n.get("verify") == nil {
			d.problemKey(path, `write "verify: none" if everybody may start this flow`, `the key "verify" is missing: who may call this webhook must be said`)
		}
	}
}

func (d *decoder) schedule(dst **flow.Schedule) reader {
	return func(n *node, path string) {
		s := &flow.Schedule{}
		*dst = s
		if d.object(
			n, path, "schedule",
			optional("cron", d.textValue(&s.Cron, "a cron line such as \"0 2 * * *\"")),
			optional("timezone", d.textValue(&s.Timezone, "a time zone such as Europe/Berlin")),
			optional("every", d.textValue(&s.Every, "a duration such as PT5M")),
			optional("jitter", d.duration(&s.Jitter, flow.MaxJitter)),
		) {
			d.oneKey(n, path, "a schedule", []string{"cron", "every"})
		}
	}
}

func (d *decoder) poll(dst **flow.Poll) reader {
	return func(n *node, path string) {
		p := &flow.Poll{}
		*dst = p
		d.object(
			n, path, "poll",
			required("uses", d.uses(&p.Uses)),
			optional("with", d.objectValue(&p.With, "inputs")),
			required("every", d.textValue(&p.Every, "a duration such as PT5M")),
			required("items", d.expression(&p.Items, "an expression such as ${{ result.body.items }}")),
			required("key", d.textValue(&p.Key, "what identifies an item, such as ${{ item.id }}")),
			optional("cursor", d.textValue(&p.Cursor, "what the next poll sees as cursor, such as ${{ item.updated_at }}")),
			optional("start", enum(d, &p.Start, flow.StartNow, flow.StartBeginning)),
		)
	}
}

func (d *decoder) event(dst **flow.Event) reader {
	return func(n *node, path string) {
		e := &flow.Event{}
		*dst = e
		d.object(n, path, "event", required("uses", d.uses(&e.Uses)), optional("with", d.objectValue(&e.With, "inputs")))
	}
}

func (d *decoder) verify(dst *flow.Verify) reader {
	return func(n *node, path string) {
		d.at[path] = n
		ways := []string{"connector", "standard-webhooks", "hmac", "header", "basic", "bearer", "jwt"}
		if n.kind == scalarNode {
			if resolve(n) == textScalar && n.value == "none" {
				dst.None = true
				return
			}
			suggestion := ""
			if resolve(n) == textScalar {
				suggestion = didYouMean(n.value, append([]string{"none"}, ways...))
			}
			d.problem(n, path, suggestion, "expected none, or a map with one of the keys %s, found %s", oneOf(ways), describe(n))
			return
		}
		if d.object(
			n, path, "verify_way",
			optional("connector", d.str(&dst.Connector, "the name of a connection")),
			optional("standard-webhooks", func(n *node, path string) {
				v := &flow.VerifyStandard{}
				dst.StandardWebhooks = v
				d.object(n, path, "verify_standard", required("secret", d.secret(&v.Secret)), optional("tolerance", d.duration(&v.Tolerance, flow.MaxTolerance)))
			}),
			optional("hmac", d.verifyHMAC(dst)),
			optional("header", func(n *node, path string) {
				v := &flow.VerifyHeader{}
				dst.Header = v
				d.object(n, path, "verify_header", required("name", d.header(&v.Name)), required("secret", d.secret(&v.Secret)))
			}),
			optional("basic", func(n *node, path string) {
				v := &flow.VerifyBasic{}
				dst.Basic = v
				d.object(n, path, "verify_basic", required("username", d.str(&v.Username, "a user name")), required("password", d.secret(&v.Password)))
			}),
			optional("bearer", func(n *node, path string) {
				v := &flow.VerifyBearer{}
				dst.Bearer = v
				d.object(n, path, "verify_bearer", required("secret", d.secret(&v.Secret)))
			}),
			optional("jwt", d.verifyJWT(dst)),
		) {
			d.oneKey(n, path, "verify", ways)
		}
	}
}

func (d *decoder) verifyHMAC(dst *flow.Verify) reader {
	return func(n *node, path string) {
		v := &flow.VerifyHMAC{}
		dst.HMAC = v
		d.object(
			n, path, "verify_hmac",
			required("header", d.header(&v.Header)),
			required("algorithm", enum(d, &v.Algorithm, "sha1", "sha256", "sha384", "sha512")),
			optional("encoding", enum(d, &v.Encoding, "hex", "base64", "base64url")),
			optional("prefix", d.str(&v.Prefix, "what stands before the signature")),
			required("secrets", d.nonEmpty("secrets", d.list("secrets", flow.MaxSecrets, func(n *node, path string) {
				var s flow.SecretRef
				d.secret(&s)(n, path)
				v.Secrets = append(v.Secrets, s)
			}))),
			optional("signed", d.signed(&v.Signed)),
			optional("timestamp", func(n *node, path string) {
				t := &flow.VerifyTimestamp{}
				v.Timestamp = t
				d.object(n, path, "verify_timestamp", required("header", d.header(&t.Header)), optional("tolerance", d.duration(&t.Tolerance, flow.MaxTolerance)))
			}),
		)
		if n.kind == mapNode && n.get("timestamp") == nil && regexp.MustCompile(`\{timestamp\}`).MatchString(v.Signed) {
			d.problemAt(join(path, "signed"), "write timestamp: {header: …}", "{timestamp} is signed, but the key \"timestamp\" does not say in which header it stands")
		}
	}
}

// signed reads what a signature covers.
func (d *decoder) signed(dst *string) reader {
	return func(n *node, path string) {
		d.str(dst, "what is signed, such as {timestamp}.{body}")(n, path)
		body := false
		for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(*dst, -1) {
			switch m[1] {
			case "body":
				body = true
			case "timestamp", "method", "path":
			default:
				d.problem(n, path, didYouMean(m[1], []string{"body", "timestamp", "method", "path"}), "{%s} cannot be signed", cut(m[1], 40))
			}
		}
		if *dst != "" && !body {
			d.problem(n, path, "", "the signature does not cover {body}: anybody could replace it")
		}
	}
}

func (d *decoder) verifyJWT(dst *flow.Verify) reader {
	return func(n *node, path string) {
		v := &flow.VerifyJWT{}
		dst.JWT = v
		d.object(
			n, path, "verify_jwt",
			required("algorithm", enum(d, &v.Algorithm, "HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA")),
			required("secret", d.secret(&v.Secret)),
			optional("issuer", d.str(&v.Issuer, "the issuer")),
			optional("audience", d.str(&v.Audience, "the audience")),
			optional("header", d.header(&v.Header)),
			optional("tolerance", d.duration(&v.Tolerance, flow.MaxTolerance)),
		)
	}
}

// header reads the name of an HTTP header (RFC 9110, 5.1).
func (d *decoder) header(dst *string) reader {
	return d.matching(dst, "the name of a header", regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$"), "letters, digits and dashes")
}

// secret reads config.NAME, the only way to name a secret.
func (d *decoder) secret(dst *flow.SecretRef) reader {
	return func(n *node, path string) {
		var s string
		before := len(d.problems)
		if text, ok := d.plainText(n, path, "a secret of config, such as config.hook_secret", flow.MaxTextBytes); ok {
			s = text
		}
		if len(d.problems) > before {
			return
		}
		if !regexp.MustCompile(`^config\.[a-z][a-z0-9_]{0,62}$`).MatchString(s) {
			suggestion := "declare a config variable of type secret: secrets are never written into a file"
			if m := regexp.MustCompile(`^\$\{\{ *(config\.[a-z][a-z0-9_]{0,62}) *\}\}$`).FindStringSubmatch(s); m != nil {
				suggestion = "write " + m[1]
			}
			d.problem(n, path, suggestion, "expected the name of a secret of config, such as config.hook_secret")
			return
		}
		*dst = flow.SecretRef(s)
	}
}
