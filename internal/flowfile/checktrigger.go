package flowfile

import (
	"errors"
	"slices"
	"time"
	_ "time/tzdata" // time zones are the same on every host

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

func (c *checker) checkTrigger(t *flow.Trigger, path string, scope *expr.Scope) {
	instance := env{scope: c.instance}
	switch {
	case t.Webhook != nil:
		c.triggerOnly(&t.Webhook.Dedupe, path+".webhook.dedupe", "dedupe", scope)
		if t.Webhook.Dedupe.Kind == flow.String {
			c.d.ProblemAt(path+".webhook.dedupe", `write a reference such as ${{ trigger.headers["x-delivery-id"] }}`, "a text that is the same for every event would drop all but the first")
		}
		c.checkVerify(&t.Webhook.Verify, path+".webhook.verify")
		c.checkSync(t.Webhook, path+".webhook.respond")
	case t.Schedule != nil:
		c.cron(&t.Schedule.Cron, path+".schedule.cron", instance)
		c.timezone(&t.Schedule.Timezone, path+".schedule.timezone", instance)
		c.every(&t.Schedule.Every, path+".schedule.every", instance)
		if !t.Schedule.Timezone.IsZero() && !t.Schedule.Every.IsZero() {
			c.d.ProblemKey(path+".schedule.timezone", "", `a time zone belongs to "cron": "every" counts from the start`)
		}
	case t.Poll != nil:
		c.checkPoll(t.Poll, path+".poll")
	case t.Event != nil:
		c.checkUses(t.Event.Uses, path+".event.uses", "triggers")
		c.event(t.Event.Uses, path+".event.uses", &t.Event.With, path+".event.with", instance)
	}
}

// checkSync warns about a synchronous webhook whose flow never answers.
func (c *checker) checkSync(w *flow.Webhook, path string) {
	if w.Respond != flow.RespondSync {
		return
	}
	for _, s := range flow.Walk("", c.flow.Steps) {
		if s.Respond != nil || s.Call != nil {
			return
		}
	}
	c.warn(path, "no step of this flow answers with respond: the caller waits for the end of the flow and gets 204")
}

func (c *checker) checkPoll(p *flow.Poll, path string) {
	instance := env{scope: c.instance}
	asked := instance.with("cursor", expr.Dyn())
	result, item := c.asked(p.Uses, path, &p.With, p.Items.IsZero(), false, asked)
	c.every(&p.Every, path+".every", instance)
	if t := c.want(&p.Items, path+".items", "a list", asked.with("result", result), expr.KindList); !p.Items.IsZero() {
		item = t.Elem()
	}
	each := asked.with("result", result).with("item", item)
	c.want(&p.Key, path+".key", "a text or a number", each, expr.KindString, expr.KindNumber)
	c.value(&p.Cursor, path+".cursor", each)
	if p.Key.Kind == flow.String {
		c.d.ProblemAt(path+".key", "write an expression such as ${{ item.id }}", "a text that is the same for every item would find one item only")
	}
}

// cron checks a cron line; one with expressions is known only when an instance is saved.
func (c *checker) cron(v *flow.Value, path string, e env) {
	c.want(v, path, "a cron line", e, expr.KindString)
	if v.Kind != flow.String {
		return
	}
	_, err := flow.ParseCron(v.Text)
	var ce *flow.CronError
	if errors.As(err, &ce) {
		c.at(path, ce.Offset, expr.Issue{Length: max(1, ce.Length), Message: "this is not a cron line: " + ce.Message})
	}
}

func (c *checker) timezone(v *flow.Value, path string, e env) {
	c.want(v, path, "a time zone", e, expr.KindString)
	if v.Kind == flow.String && !validZone(v.Text) {
		c.d.ProblemAt(path, "write a name of the IANA time zone database such as Europe/Berlin", "there is no time zone %q", source.Cut(v.Text, 60))
	}
}

func validZone(name string) bool {
	if name == "" || name == "Local" {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

func (c *checker) every(v *flow.Value, path string, e env) {
	c.want(v, path, "a duration", e, expr.KindString, expr.KindDuration)
	if v.Kind != flow.String {
		return
	}
	d, err := flow.ParseDuration(v.Text)
	switch {
	case err != nil:
		c.d.ProblemAt(path, durationSuggestion(v.Text), "expected a duration such as PT5M or P1D, found the text %q", source.Cut(v.Text, 60))
	case d.Std() < flow.MinPoll:
		c.d.ProblemAt(path, "", "expected a duration of %s at least, found %s", flow.Duration(flow.MinPoll), v.Text)
	case d.Std() > flow.MaxWait:
		c.d.ProblemAt(path, "", "expected a duration of %s at most, found %s", flow.Duration(flow.MaxWait), v.Text)
	}
}

func (c *checker) checkVerify(v *flow.Verify, path string) {
	if v.Connector != "" {
		at := path + ".connector"
		if s := c.i.Slot(v.Connector); s == nil {
			c.d.ProblemAt(at, source.DidYouMean(v.Connector, c.slots()), "there is no connection %q", v.Connector)
		} else if m := c.manifests[v.Connector]; m != nil {
			c.checkRecipe(m, at, v.Connector)
		} else if s.BuiltIn() {
			c.d.ProblemAt(at, "write hmac, header or another way of verify", "the connector %q has no recipe for webhooks", flow.ConnectorHTTP)
		}
	}
	switch {
	case v.StandardWebhooks != nil:
		c.checkSecret(v.StandardWebhooks.Secret, path+".standard-webhooks.secret")
	case v.HMAC != nil:
		for i, s := range v.HMAC.Secrets {
			c.checkSecret(s, path+".hmac.secrets["+itoa(i)+"]")
		}
	case v.Header != nil:
		c.checkSecret(v.Header.Secret, path+".header.secret")
	case v.Basic != nil:
		c.checkSecret(v.Basic.Password, path+".basic.password")
	case v.Bearer != nil:
		c.checkSecret(v.Bearer.Secret, path+".bearer.secret")
	case v.JWT != nil:
		c.checkSecret(v.JWT.Secret, path+".jwt.secret")
	}
}

// checkSecret checks that a reference names a config variable of type secret.
func (c *checker) checkSecret(s flow.SecretRef, path string) {
	if s == "" {
		return
	}
	var secrets []string
	for _, v := range c.i.Config {
		if v.Type == flow.ConfigSecret {
			secrets = append(secrets, v.Name)
		}
	}
	switch v := c.i.ConfigVar(s.Name()); {
	case v == nil:
		c.d.ProblemAt(path, source.DidYouMean(s.Name(), secrets), "there is no config variable %q", s.Name())
	case v.Type != flow.ConfigSecret && slices.Contains(flow.ConfigTypes(), v.Type):
		c.d.ProblemAt(path, "", "config.%s is no secret: its type is %s", s.Name(), v.Type)
	}
}
