package connector

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

func (c *checker) trigger(at string, t *Trigger) {
	if !c.name.MatchString(t.Name) {
		c.add(at, "a name is letters, digits and underscores, a letter first, at most %d", MaxName)
	}
	c.text(at+".title", t.Title)
	c.text(at+".description", t.Description)
	c.web(at+".docs", t.Docs)
	for n := range t.Inputs {
		i := &t.Inputs[n]
		if !c.input.MatchString(i.Name) {
			c.add(Join(at+".input", i.Name), "a name is letters, digits and _ . -, a letter or underscore first, at most %d", MaxName)
		}
		c.value(Join(at+".input", i.Name)+".default", i.Default, i)
		c.value(Join(at+".input", i.Name)+".example", i.Example, i)
		c.refs(Join(at+".input", i.Name)+".schema", i.Schema)
		if i.Choices != nil {
			c.calls(Join(at+".input", i.Name)+".choices", i.Choices.Action, i.Choices.With, t.Inputs)
		}
	}
	parts := map[string]bool{TriggerWebhook: t.Webhook != nil, TriggerApp: t.App != nil, TriggerPoll: t.Poll != nil}
	if _, ok := parts[t.Type]; !ok {
		c.add(at+".type", "webhook, app or poll")
		return
	}
	for _, part := range []string{TriggerWebhook, TriggerApp, TriggerPoll} {
		switch {
		case part == t.Type && !parts[part]:
			c.add(at+"."+part, "the key %q is missing", part)
		case part != t.Type && parts[part]:
			c.add(at+"."+part, "a trigger of type %s has no %s", t.Type, part)
		}
	}
	c.subscription(at+".webhook", t)
	c.route(at+".app", t)
	c.pollRecipe(at+".poll", t)
	c.proof(at, t)
	c.refs(at+".payload", t.Payload)
}

func (c *checker) subscription(at string, t *Trigger) {
	s := t.Webhook
	if s == nil {
		return
	}
	names := []string{"url", "secret", "id", "expires"}
	c.call(at+".subscribe", &s.Subscribe, t, names)
	c.call(at+".unsubscribe", s.Unsubscribe, t, names)
	c.call(at+".renew", s.Renew, t, names)
	c.find(at+".find", t)
	if (s.Renew != nil) != (s.RenewEvery > 0) {
		c.add(at+".renew_every", "renew and renew_every belong together")
	}
	if s.RenewEvery > 0 && s.RenewEvery < 60 {
		c.add(at+".renew_every", "at least a minute")
	}
	if !slices.ContainsFunc(s.Subscribe.With, func(v FixedValue) bool { return strings.Contains(string(v.Value), "{url}") }) {
		c.add(at+".subscribe.with", "no value has {url}: the other side must be told the address")
	}
}

// find checks how subscriptions are listed.
func (c *checker) find(at string, t *Trigger) {
	f := t.Webhook.Find
	if f == nil {
		return
	}
	c.call(at, &SubscribeCall{f.Action, f.With}, t, []string{"url"})
	if t.Webhook.Unsubscribe == nil {
		c.add(at, "what is found is ended by unsubscribe, which is missing")
	}
	if t.Webhook.ID == "" {
		c.add(at, "the one that stays is known by the webhook's id, which is missing")
	}
	for _, p := range []struct {
		key, path string
		needed    bool
	}{{"items", f.Items, false}, {"url", f.URL, true}, {"id", f.ID, true}} {
		if p.path == "" && p.needed {
			c.add(at+"."+p.key, "the path in an item is missing")
		}
		if _, err := Segments(p.path); p.path != "" && err != nil {
			c.add(at+"."+p.key, "%v", err)
		}
	}
}

// call checks a call of an action, in whose values the names may stand.
func (c *checker) call(at string, s *SubscribeCall, t *Trigger, known []string) {
	if s == nil {
		return
	}
	a := c.m.Action(s.Action)
	if a == nil {
		c.add(at+".action", "there is no action %q", cut(s.Action))
		return
	}
	var names []string
	for _, v := range s.With {
		names = append(names, v.At)
		for _, m := range regexp.MustCompile(`\{([a-z][A-Za-z0-9_.-]*)\}`).FindAllStringSubmatch(string(v.Value), -1) {
			input, isInput := strings.CutPrefix(m[1], "input.")
			switch {
			case isInput && !slices.ContainsFunc(t.Inputs, func(i Input) bool { return i.Name == input }):
				c.add(Join(at+".with", v.At), "the trigger has no input %q", cut(input))
			case !isInput && !slices.Contains(known, m[1]):
				c.add(Join(at+".with", v.At), "{%s} is nothing: expected {%s} or {input.NAME}", cut(m[1]), strings.Join(known, "}, {"))
			}
		}
	}
	c.given(at, a, names)
}

func (c *checker) route(at string, t *Trigger) {
	if t.App == nil {
		return
	}
	c.source(at+".account", t.App.Account, "body", "header", "query")
	if t.Verify != nil && !t.Verify.ProvesApp() {
		c.add(strings.TrimSuffix(at, ".app")+".verify", "one address takes the events of all customers: they prove their sender by a secret of the app, app or client")
	}
	for i := range c.m.Triggers { // the first one with an app says how
		first := &c.m.Triggers[i]
		if first.App == nil || first.Verify == nil || t.Verify == nil {
			continue
		}
		if *first.Verify != *t.Verify {
			c.add(strings.TrimSuffix(at, ".app")+".verify", "one address has one recipe: it is not that of %s", first.Name)
		}
		return
	}
}

// source checks a place in an event: body:a.b, header:NAME, query:NAME or part:NAME.
func (c *checker) source(at, s string, kinds ...string) {
	kind, name, ok := strings.Cut(s, ":")
	if !ok || name == "" || !slices.Contains(kinds, kind) {
		c.add(at, "expected %s:NAME", strings.Join(kinds, ":NAME or "))
	}
}

// minWindow is the shortest window of a poll: what servers and workers miss while they are down is made up for within it.
const minWindow Seconds = 3600

func (c *checker) pollRecipe(at string, t *Trigger) {
	p := t.Poll
	if p == nil {
		return
	}
	c.calls(at, p.Action, p.With, t.Inputs)
	if p.Key == "" {
		c.add(at+".key", "the path of what tells one item from another is missing")
	}
	if p.Every != 0 && p.Every < 60 {
		c.add(at+".every", "at least a minute")
	}
	if p.Cursor == "" && slices.ContainsFunc(p.With, func(w Passed) bool { return w.From == "cursor" }) {
		c.add(at+".cursor", "an input takes the cursor, and no path of an item is one")
	}
	if p.Window != 0 && (p.Cursor == "" || p.Window < minWindow) {
		c.add(at+".window", "at least an hour, of a recipe with a cursor")
	}
}

// proof checks how events prove their sender, and how an address is checked.
func (c *checker) proof(at string, t *Trigger) {
	if t.Type == TriggerPoll {
		if t.Verify != nil || t.Challenge != nil {
			c.add(at+".verify", "nothing is received by a trigger of type poll")
		}
		return
	}
	if t.Verify == nil {
		c.add(at+".verify", "it must be said how events prove their sender; {type: none, secret: none} if they do not")
	} else {
		c.verify(at+".verify", t.Verify)
	}
	if ch := t.Challenge; ch != nil {
		c.challenge(at+".challenge", ch)
	}
	if t.Key != "" {
		for place := range strings.SplitSeq(t.Key, "+") {
			c.source(at+".key", place, "body", "header")
		}
	}
	for i, m := range t.Match {
		at := fmt.Sprintf("%s.match[%d]", at, i)
		c.source(at+".from", m.From, "body", "header", "query")
		if m.Present && len(m.Values) > 0 || !m.Present && (len(m.Values) == 0) == (m.Input == "") {
			c.add(at, "either values or input; or present, alone or with input")
		}
		if m.Input != "" && !slices.ContainsFunc(t.Inputs, func(i Input) bool { return i.Name == m.Input }) {
			c.add(at+".input", "the trigger has no input %q", cut(m.Input))
		}
	}
}

func (c *checker) verify(at string, v *Verify) {
	if v.Type == "jwt" {
		c.add(at+".type", "a recipe has no key for tokens: leave the trigger out, and let flows check them in a webhook "+
			"of their own by verify: {jwt: …}, with a key from config")
	} else if !slices.Contains([]string{"hmac", "header", "basic", "query", "body", "standard-webhooks", "none"}, v.Type) {
		c.add(at+".type", "hmac, header, basic, query, body, standard-webhooks or none")
	}
	if !slices.Contains([]string{"subscription", "app", "client", "none"}, v.Secret) || (v.Secret == "none") != (v.Type == "none") {
		c.add(at+".secret", "subscription, app or client; none only with type: none")
	}
	if !slices.Contains([]string{"", "hex", "base64"}, v.Encoding) {
		c.add(at+".encoding", "hex or base64")
	}
	if !slices.Contains([]string{"", KeyText, KeyBase64}, v.Key) || v.Key != "" && v.Type != "hmac" {
		c.add(at+".key", "text or base64, of type hmac only")
	}
	switch v.Type {
	case "hmac":
		if !slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, v.Algorithm) {
			c.add(at+".algorithm", "sha1, sha256, sha384 or sha512")
		}
		if v.Header == "" {
			c.add(at+".header", "the header with the signature is missing")
		}
	case "header", "query":
		if v.Header == "" {
			c.add(at+".header", "the name of the %s is missing", v.Type)
		}
	case "body":
		if v.Header == "" {
			c.add(at+".header", "the path of the secret in the body is missing")
		}
	case "basic":
		if v.Value == "" {
			c.add(at+".value", "the user name is missing")
		}
	}
	if v.Pairs != "" && v.Part == "" {
		c.add(at+".part", "which of the pairs is the signature is missing")
	}
	if v.Timestamp != "" {
		c.source(at+".timestamp", v.Timestamp, "header", "part", "body")
	}
	for _, m := range regexp.MustCompile(`\{([^{}]*)\}`).FindAllStringSubmatch(v.Signed, -1) {
		if !slices.Contains([]string{"body", "timestamp", "method", "url", "path", "form"}, m[1]) && !strings.HasPrefix(m[1], "header.") {
			c.add(at+".signed", "{%s} is nothing: expected {body}, {timestamp}, {method}, {url}, {path}, {form} or {header.NAME}", cut(m[1]))
		}
	}
}

func (c *checker) challenge(at string, ch *Challenge) {
	when, _, _ := strings.Cut(ch.When, "=")
	c.source(at+".when", when, "body", "query", "header", "method")
	c.source(at+".answer", ch.Answer, "body", "query", "header", "method")
	if !slices.Contains([]string{"", "text", "json", "header"}, ch.As) {
		c.add(at+".as", "text, json or header")
	}
	if (ch.As == "json" || ch.As == "header") && ch.Name == "" {
		c.add(at+".name", "the name of the %s is missing", map[string]string{"json": "key", "header": "header"}[ch.As])
	}
	if !slices.Contains([]string{"", "hex", "base64"}, ch.HMAC) {
		c.add(at+".hmac", "hex or base64")
	}
	if ch.Status != 0 && (ch.Status < 200 || ch.Status > 299) {
		c.add(at+".status", "from 200 to 299")
	}
}
