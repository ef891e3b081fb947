package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/canon"
)

type stepJSON struct {
	ID      string    `json:"id"`
	Title   Text      `json:"title,omitzero"`
	Note    Text      `json:"note,omitzero"`
	If      Value     `json:"if,omitzero"`
	Timeout Duration  `json:"timeout,omitempty"`
	Once    bool      `json:"once,omitempty"`
	Retry   *Retry    `json:"retry,omitempty"`
	Uses    string    `json:"uses,omitempty"`
	Code    *string   `json:"code,omitempty"`
	With    Value     `json:"with,omitzero"`
	Set     *value    `json:"set,omitempty"`
	Switch  []Case    `json:"switch,omitempty"`
	For     *For      `json:"for,omitempty"`
	Fork    *forkJSON `json:"fork,omitempty"`
	Try     []Step    `json:"try,omitempty"`
	Catch   *Catch    `json:"catch,omitempty"`
	Steps   []Step    `json:"steps,omitempty"`
	Result  Value     `json:"result,omitzero"`
	Wait    *Wait     `json:"wait,omitempty"`
	Call    *Call     `json:"call,omitempty"`
	Respond *Respond  `json:"respond,omitempty"`
	Return  *value    `json:"return,omitempty"`
	Raise   *Raise    `json:"raise,omitempty"`
	State   *State    `json:"state,omitempty"`
}

// value is a Value that is there also when it is null: encoding/json sets a pointer to nil for null, so the key's
// presence is kept here.
type value struct{ Value }

type forkJSON struct {
	Settle   bool          `json:"settle,omitempty"`
	Branches named[[]Step] `json:"branches"`
}

// MarshalJSON writes s as a document has it.
func (s Step) MarshalJSON() ([]byte, error) {
	j := stepJSON{
		ID: s.ID, Title: s.Title, Note: s.Note, If: s.If, Timeout: s.Timeout, Once: s.Once, Retry: s.Retry,
		Switch: s.Switch, For: s.For, Wait: s.Wait, Call: s.Call, Respond: s.Respond, Raise: s.Raise, State: s.State,
	}
	if s.Action != nil {
		j.Uses, j.With = s.Action.Uses(), s.Action.With
	}
	if s.Code != nil {
		j.Code, j.With = &s.Code.Source, s.Code.With
	}
	if s.Set != nil {
		j.Set = &value{*s.Set}
	}
	if s.Return != nil {
		j.Return = &value{*s.Return}
	}
	if s.For != nil {
		j.Steps, j.Result = s.For.Steps, s.For.Result
	}
	if s.Try != nil {
		j.Try, j.Catch = s.Try.Steps, &s.Try.Catch
	}
	if s.Fork != nil {
		j.Fork = &forkJSON{Settle: s.Fork.Settle}
		for _, b := range s.Fork.Branches {
			j.Fork.Branches.keys = append(j.Fork.Branches.keys, b.Name)
			j.Fork.Branches.items = append(j.Fork.Branches.items, b.Steps)
		}
	}
	return canon.Marshal(j)
}

// UnmarshalJSON reads a step and refuses one that does not do exactly one thing.
func (s *Step) UnmarshalJSON(b []byte) error {
	var j stepJSON
	if err := canon.Unmarshal(b, &j); err != nil {
		return err
	}
	*s = Step{
		ID: j.ID, Title: j.Title, Note: j.Note, If: j.If, Timeout: j.Timeout, Once: j.Once, Retry: j.Retry,
		Switch: j.Switch, For: j.For, Wait: j.Wait, Call: j.Call, Respond: j.Respond, Raise: j.Raise, State: j.State,
	}
	if j.Uses != "" {
		slot, action, err := SplitUses(j.Uses)
		if err != nil {
			return err
		}
		s.Action = &Action{Slot: slot, Action: action, With: j.With}
	}
	if j.Code != nil {
		s.Code = &Code{Source: *j.Code, With: j.With}
	}
	if s.For != nil {
		s.For.Steps, s.For.Result = j.Steps, j.Result
	}
	if j.Catch != nil {
		s.Try = &Try{Steps: j.Try, Catch: *j.Catch}
	}
	if j.Fork != nil {
		s.Fork = &Fork{Settle: j.Fork.Settle}
		for i, name := range j.Fork.Branches.keys {
			s.Fork.Branches = append(s.Fork.Branches, Branch{Name: name, Steps: j.Fork.Branches.items[i]})
		}
	}
	if err := s.readPresent(b, &j); err != nil {
		return err
	}
	return s.checkOne()
}

// readPresent sets the fields for which null is a value.
func (s *Step) readPresent(b []byte, j *stepJSON) error {
	var present struct {
		Set    json.RawMessage `json:"set"`
		Return json.RawMessage `json:"return"`
	}
	if err := json.Unmarshal(b, &present); err != nil {
		return err
	}
	null := NullValue()
	switch {
	case j.Set != nil:
		s.Set = &j.Set.Value
	case present.Set != nil:
		s.Set = &null
	}
	switch {
	case j.Return != nil:
		s.Return = &j.Return.Value
	case present.Return != nil:
		s.Return = &null
	}
	return nil
}

func (s *Step) checkOne() error {
	n := 0
	for _, is := range []bool{
		s.Action != nil, s.Set != nil, s.Code != nil, s.Switch != nil, s.For != nil, s.Fork != nil, s.Try != nil, s.Wait != nil,
		s.Call != nil, s.Respond != nil, s.Return != nil, s.Raise != nil, s.State != nil,
	} {
		if is {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("step %q does %d things instead of one", s.ID, n)
	}
	return nil
}

// SplitUses splits slot.action.
func SplitUses(uses string) (slot, action string, err error) {
	slot, action, ok := strings.Cut(uses, ".")
	if !ok || slot == "" || action == "" {
		return "", "", fmt.Errorf("uses %q is not slot.action", uses)
	}
	return slot, action, nil
}

type caseJSON struct {
	When  Value  `json:"when,omitzero"`
	Else  bool   `json:"else,omitempty"`
	Steps []Step `json:"steps"`
}

// MarshalJSON writes c as a document has it.
func (c Case) MarshalJSON() ([]byte, error) { return canon.Marshal(caseJSON(c)) }

// UnmarshalJSON reads a case.
func (c *Case) UnmarshalJSON(b []byte) error {
	var j caseJSON
	err := canon.Unmarshal(b, &j)
	*c = Case(j)
	return err
}

type pagesJSON struct {
	Uses   string `json:"uses"`
	With   Value  `json:"with,omitzero"`
	Items  Value  `json:"items,omitzero"`
	Cursor Value  `json:"cursor,omitzero"`
}

// MarshalJSON writes e as a document has it.
func (e Each) MarshalJSON() ([]byte, error) {
	switch {
	case e.Pages != nil:
		p := e.Pages
		return canon.Marshal(pagesJSON{Uses: p.Action.Uses(), With: p.Action.With, Items: p.Items, Cursor: p.Cursor})
	case e.Rows != nil:
		return canon.Marshal(e.Rows)
	}
	return e.List.MarshalJSON()
}

// UnmarshalJSON reads a list, an expression, pages or rows.
func (e *Each) UnmarshalJSON(b []byte) error {
	*e = Each{}
	if !bytes.HasPrefix(b, []byte("{")) {
		return e.List.UnmarshalJSON(b)
	}
	var which struct {
		Uses *string          `json:"uses"`
		Rows *json.RawMessage `json:"rows"`
	}
	if err := json.Unmarshal(b, &which); err != nil {
		return err
	}
	switch {
	case which.Uses != nil:
		var j pagesJSON
		if err := canon.Unmarshal(b, &j); err != nil {
			return err
		}
		slot, action, err := SplitUses(j.Uses)
		if err != nil {
			return err
		}
		e.Pages = &Pages{Action: Action{Slot: slot, Action: action, With: j.With}, Items: j.Items, Cursor: j.Cursor}
		return nil
	case which.Rows != nil:
		e.Rows = new(Rows)
		return canon.Unmarshal(b, e.Rows)
	}
	return errors.New("each is neither a list, pages nor rows")
}

type verifyJSON struct {
	Connector        string          `json:"connector,omitempty"`
	StandardWebhooks *VerifyStandard `json:"standard-webhooks,omitempty"`
	HMAC             *VerifyHMAC     `json:"hmac,omitempty"`
	Header           *VerifyHeader   `json:"header,omitempty"`
	Basic            *VerifyBasic    `json:"basic,omitempty"`
	Bearer           *VerifyBearer   `json:"bearer,omitempty"`
	JWT              *VerifyJWT      `json:"jwt,omitempty"`
}

// MarshalJSON writes "none" or an object.
func (v Verify) MarshalJSON() ([]byte, error) {
	if v.None {
		return []byte(`"none"`), nil
	}
	return canon.Marshal(verifyJSON{v.Connector, v.StandardWebhooks, v.HMAC, v.Header, v.Basic, v.Bearer, v.JWT})
}

// UnmarshalJSON reads "none" or an object with exactly one key.
func (v *Verify) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte(`"none"`)) {
		*v = Verify{None: true}
		return nil
	}
	var j verifyJSON
	if err := canon.Unmarshal(b, &j); err != nil {
		return err
	}
	*v = Verify{false, j.Connector, j.StandardWebhooks, j.HMAC, j.Header, j.Basic, j.Bearer, j.JWT}
	n := 0
	for _, is := range []bool{
		j.Connector != "", j.StandardWebhooks != nil, j.HMAC != nil, j.Header != nil, j.Basic != nil, j.Bearer != nil, j.JWT != nil,
	} {
		if is {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("verify has %d ways instead of one", n)
	}
	return nil
}
